"""One shard of text -> the codes of several SAEs on it, from one run of the model.

Codes come from the SAE's own `encode`, in float32, and leave as sparse rows, one per counted token.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.activations.forward import Activations, Sites
from featgraph.activations.massive import is_massive
from featgraph.activations.statistics import Reconstruction
from featgraph.activations.tokens import TokenRows, Tokens
from featgraph.core.arrays import Indices, Matrix
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

RECONSTRUCTED = 2**15
"""Tokens that are also decoded, for the explained variance; a shorter text is decoded as a whole. Our choice;
the graph stores the standard error."""

SELDOM = 16
"""At least one token in so many is decoded, however long the text. Our choice."""


class Encoded(NamedTuple):
    """Codes and reconstruction of one SAE on some text."""

    codes: scipy.sparse.csr_matrix
    """Codes, (n_tokens, n_features); tokens left out as massive have no entry."""
    rebuilt: Reconstruction
    """Reconstruction error of the codes."""
    massive: NDArray[np.bool_]
    """Whether each token is left out, (n_tokens,); see `massive`."""


def encode_rows(
    model: LanguageModel, saes: Sequence[LoadedSae], token_rows: TokenRows, every: int | None = None
) -> list[Encoded]:
    """Return the codes and reconstruction of each SAE over all batches of a text, in order.

    every: one token in so many is decoded as well; None: no token is. The model reads the next batch while
    the SAEs encode this one; every task has one thread.
    """
    sites = Sites(model, [loaded.reading for loaded in saes if loaded.reading is not None])
    batches = list(token_rows.batches())
    parts: list[list[Encoded]] = [[] for _ in saes]
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.submit(sites, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            activations = ahead.result()
            if following is not None:
                ahead = pool.submit(sites, following)
            jobs = [pool.submit(encode_batch, loaded, activations, batch, every) for loaded in saes]
            for of_sae, job in zip(parts, jobs, strict=True):
                of_sae.append(job.result())
    return [_joined(of_sae) for of_sae in parts]


def decode_every(n_tokens: int) -> int:
    """Return n for a text of which one token in n is decoded.

    >>> decode_every(1000), decode_every(100_000), decode_every(10_000_000)
    (1, 3, 16)
    """
    return max(1, min(SELDOM, n_tokens // RECONSTRUCTED))


def encode_batch(
    loaded: LoadedSae, activations: Activations, tokens: Tokens, every: int | None = None
) -> Encoded:
    """Encode one batch with an SAE; active means not zero, because some SAEs keep signed activations."""
    import torch

    assert loaded.reading is not None
    assert loaded.sae is not None
    read, written = activations[loaded.reading], activations[loaded.reading.rebuilt]
    left_out = is_massive(written, loaded)
    decoded = np.flatnonzero(~left_out)[::every] if every else np.zeros(0, dtype=np.int64)
    size = tokens_at_once(loaded.sae.cfg.d_sae)
    codes, rebuilt = _Codes(loaded.sae.cfg.d_sae), Reconstruction(written.shape[1])
    with torch.inference_mode():
        for start in range(0, len(read), size):
            part = read[start : start + size]
            dense = loaded.sae.encode(part)
            codes.add(dense)
            places = decoded[np.searchsorted(decoded, start) : np.searchsorted(decoded, start + len(part))]
            if len(places):
                made = _decoded(loaded, part, dense, places - start)
                rebuilt.update(written[places], made, tokens.row[places])
    return Encoded(_without(codes.matrix(), left_out), rebuilt, left_out)


def _decoded(
    loaded: LoadedSae, activations: "torch.Tensor", codes: "torch.Tensor", places: Indices
) -> "torch.Tensor":
    """Return what the SAE makes of some of the tokens that it has just encoded."""
    assert loaded.sae is not None
    if len(places) == len(activations):
        return loaded.decode(codes, activations)
    # Encoded again, because some SAEs decode at the scale of the tokens that they encoded last.
    return loaded.decode(loaded.sae.encode(activations[places]), activations[places])


def _without(codes: scipy.sparse.csr_matrix, left_out: NDArray[np.bool_]) -> scipy.sparse.csr_matrix:
    """Return codes with the rows of some tokens emptied."""
    if not left_out.any():
        return codes
    kept = np.repeat(~left_out, np.diff(codes.indptr))
    starts = np.r_[0, np.cumsum(np.where(left_out, 0, np.diff(codes.indptr)))]
    return scipy.sparse.csr_matrix((codes.data[kept], codes.indices[kept], starts), shape=codes.shape)


def _joined(parts: list[Encoded]) -> Encoded:
    codes = scipy.sparse.vstack([part.codes for part in parts], format="csr")
    rebuilt = reduce(Reconstruction.merge, [part.rebuilt for part in parts])
    return Encoded(codes, rebuilt, np.concatenate([part.massive for part in parts]))


@contextmanager
def one_thread_per_task() -> Iterator[None]:
    """Limit torch to one thread per call, because many small products run in parallel threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Codes:
    """Collects groups of dense codes in one sparse matrix."""

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self._starts = [np.zeros(1, dtype=np.int64)]
        self._columns: list[NDArray[np.int32]] = []
        self._values: list[Matrix] = []
        self._n = 0

    def add(self, dense: "torch.Tensor") -> None:
        """Add the codes of some tokens, (n_tokens, n_features)."""
        values = dense.cpu().numpy()
        flat = np.ascontiguousarray(values).ravel()
        place = np.flatnonzero(flat != 0)
        rows = np.arange(len(values) + 1) * self.n_features
        starts = np.searchsorted(place, rows)
        column = place - np.repeat(rows[:-1], np.diff(starts))
        self._starts.append(self._n + starts[1:])
        self._columns.append(column.astype(np.int32))
        self._values.append(flat[place])
        self._n += len(place)

    def matrix(self) -> scipy.sparse.csr_matrix:
        """Return all codes, (n_tokens, n_features)."""
        starts = np.concatenate(self._starts)
        parts = (np.concatenate(self._values), np.concatenate(self._columns), starts)
        return scipy.sparse.csr_matrix(parts, shape=(len(starts) - 1, self.n_features))
