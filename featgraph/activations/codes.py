"""Sparse codes of one SAE on one shard of text, as arrays that a file can hold.

A code is (token, feature, activation). Features are kept in 16 bits where they fit, so that a code takes six
bytes; that is what bounds the disk that an ingest needs.
"""

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

SMALL = 2**16
"""SAEs with up to so many features store feature indices in 16 bits."""


def pack(codes: scipy.sparse.csr_matrix) -> dict[str, NDArray[Any]]:
    """Return the arrays of sparse codes (n_tokens, n_features).

    >>> pack(scipy.sparse.csr_matrix([[0.0, 2.0]]))["feature"].dtype
    dtype('uint16')
    """
    small = codes.shape[1] <= SMALL
    return {
        "starts": codes.indptr.astype(np.int64),
        "feature": codes.indices.astype(np.uint16 if small else np.int32),
        "activation": codes.data.astype(np.float32),
        "n_features": np.array(codes.shape[1]),
    }


def unpack(arrays: dict[str, NDArray[Any]]) -> scipy.sparse.csr_matrix:
    """Return the codes from the arrays of `pack`."""
    starts, feature = arrays["starts"].astype(np.int32), arrays["feature"].astype(np.int32)
    shape = (len(starts) - 1, int(arrays["n_features"]))
    return scipy.sparse.csr_matrix((arrays["activation"], feature, starts), shape=shape)
