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
from numpy.typing import NDArray

from featgraph.activations.forward import Activations, Sites
from featgraph.activations.statistics import Reconstruction
from featgraph.activations.tokens import TokenRows
from featgraph.core.arrays import Matrix
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.suite.sae import tokens_at_once

if TYPE_CHECKING:
    import torch

RECONSTRUCT_EVERY = 16
"""One group of tokens in so many is also decoded, for the explained variance."""

Encoded = tuple[scipy.sparse.csr_matrix, Reconstruction]
"""Codes of one SAE, (n_tokens, n_features), and how well they rebuild what it reads."""


def encode_rows(model: LanguageModel, saes: Sequence[LoadedSae], token_rows: TokenRows) -> list[Encoded]:
    """Return, per SAE, its codes on all batches of some token rows, one after the other.

    The model reads the next batch while the SAEs encode this one; every task has one thread.
    """
    sites = Sites(model, [loaded.reading for loaded in saes if loaded.reading is not None])
    batches = list(token_rows.batches())
    encoded: list[list[Encoded]] = [[] for _ in saes]
    with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.submit(sites, batches[0])
        for following in [*batches[1:], None]:
            activations = ahead.result()
            if following is not None:
                ahead = pool.submit(sites, following)
            jobs = [pool.submit(_encode, loaded, activations) for loaded in saes]
            for parts, job in zip(encoded, jobs, strict=True):
                parts.append(job.result())
    return [_joined(parts) for parts in encoded]


def _encode(loaded: LoadedSae, activations: Activations) -> Encoded:
    assert loaded.reading is not None
    codes, rebuilt = encode(loaded, activations[loaded.reading])
    reconstruction = Reconstruction(rebuilt.shape[1])
    reconstruction.update(decoded(activations[loaded.reading.rebuilt], codes.shape[1]), rebuilt)
    return codes, reconstruction


def _joined(parts: list[Encoded]) -> Encoded:
    codes = scipy.sparse.vstack([codes for codes, _ in parts], format="csr")
    total = parts[0][1]
    for _, part in parts[1:]:
        total = total.merge(part)
    return codes, total


def encode(loaded: LoadedSae, activations: "torch.Tensor") -> tuple[scipy.sparse.csr_matrix, "torch.Tensor"]:
    """Return the SAE's codes as a sparse (n_tokens, n_features) matrix, and some reconstructions, dense.

    Active means not zero: some SAEs keep signed activations. The first of every RECONSTRUCT_EVERY groups of
    tokens is decoded, at once, because some SAEs remember the scale of what they encoded last; the rows are
    those of `decoded`.
    """
    import torch

    assert loaded.sae is not None
    codes, rebuilt = _Codes(loaded.sae.cfg.d_sae), []
    with torch.inference_mode():
        for number, part in enumerate(activations.split(tokens_at_once(loaded.sae.cfg.d_sae))):
            dense = loaded.sae.encode(part)
            if number % RECONSTRUCT_EVERY == 0:
                rebuilt.append(loaded.decode(dense, part))
            codes.add(dense)
    return codes.matrix(), torch.cat(rebuilt)


def decoded(activations: "torch.Tensor", n_features: int) -> "torch.Tensor":
    """Return the rows that `encode` also decodes."""
    import torch

    return torch.cat(activations.split(tokens_at_once(n_features))[::RECONSTRUCT_EVERY])


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


class _Codes:
    """Dense codes, group after group, collected as one sparse matrix."""

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
