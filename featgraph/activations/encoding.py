"""One shard of text -> the codes of several SAEs on it, from one run of the model.

Codes come from the SAE's own `encode`, in float32, and leave as sparse rows, one per counted token.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from featgraph.activations.pieces import Pieces
from featgraph.activations.sites import Activations, Sites
from featgraph.statistics import Reconstruction
from featgraph.suite import LanguageModel, LoadedSae

if TYPE_CHECKING:
    import torch

ENCODE_TOKENS = 256
"""Tokens encoded at once: few enough that their dense codes stay in the processor's cache."""

RECONSTRUCT_EVERY = 16
"""One group of tokens in so many is also decoded, for the explained variance."""

Encoded = tuple[scipy.sparse.csr_matrix, Reconstruction]
"""Codes of one SAE, (n_tokens, n_features), and how well they rebuild what it reads."""


def encode_pieces(model: LanguageModel, saes: Sequence[LoadedSae], pieces: Pieces) -> list[Encoded]:
    """Return, per SAE, its codes on all batches of some text, one after the other.

    The model reads the next batch while the SAEs encode this one; every task has one thread.
    """
    sites = Sites(model, [loaded.reading for loaded in saes if loaded.reading is not None])
    batches = list(pieces.batches())
    found: list[list[Encoded]] = [[] for _ in saes]
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.submit(sites, batches[0])
        for following in [*batches[1:], None]:
            activations = ahead.result()
            if following is not None:
                ahead = pool.submit(sites, following)
            jobs = [pool.submit(_encode, loaded, activations) for loaded in saes]
            for parts, job in zip(found, jobs, strict=True):
                parts.append(job.result())
    return [_joined(parts) for parts in found]


def _encode(loaded: LoadedSae, activations: Activations) -> Encoded:
    assert loaded.reading is not None
    codes, rebuilt = encode(loaded, activations[loaded.reading])
    reconstruction = Reconstruction(rebuilt.shape[1])
    reconstruction.update(decoded(activations[loaded.reading.rebuilt]), rebuilt)
    return codes, reconstruction


def _joined(parts: list[Encoded]) -> Encoded:
    codes = scipy.sparse.vstack([found for found, _ in parts], format="csr")
    total = parts[0][1]
    for _, part in parts[1:]:
        total = total.merge(part)
    return codes, total


def encode(loaded: LoadedSae, activations: "torch.Tensor") -> tuple[scipy.sparse.csr_matrix, "torch.Tensor"]:
    """Return the SAE's codes as a sparse (n_tokens, n_features) matrix, and some reconstructions, dense.

    Active means not zero: some SAEs keep signed activations. The first of every RECONSTRUCT_EVERY groups of
    ENCODE_TOKENS is decoded, at once, because some SAEs remember the scale of what they encoded last; the
    rows are those of `decoded`.
    """
    import torch

    assert loaded.sae is not None
    codes, rebuilt = [], []
    with torch.inference_mode():
        for number, part in enumerate(activations.split(ENCODE_TOKENS)):
            dense = loaded.sae.encode(part)
            if number % RECONSTRUCT_EVERY == 0:
                rebuilt.append(loaded.decode(dense, part))
            codes.append(_sparse(dense))
    return scipy.sparse.vstack(codes, format="csr"), torch.cat(rebuilt)


def decoded(activations: "torch.Tensor") -> "torch.Tensor":
    """Return the rows that `encode` also decodes."""
    import torch

    return torch.cat(activations.split(ENCODE_TOKENS)[::RECONSTRUCT_EVERY])


@contextmanager
def one_thread_per_task() -> Iterator[None]:
    """Keep torch to one thread per call: many small products run side by side instead, which wastes less."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sparse(dense: "torch.Tensor") -> scipy.sparse.csr_matrix:
    values = dense.cpu().numpy()
    n_tokens, n_features = values.shape
    place = np.flatnonzero(values.astype(bool))
    starts = np.zeros(n_tokens + 1, dtype=np.int32)
    np.cumsum(np.bincount(place // n_features, minlength=n_tokens), out=starts[1:])
    column = (place % n_features).astype(np.int32)
    return scipy.sparse.csr_matrix((values.ravel()[place], column, starts), shape=values.shape)
