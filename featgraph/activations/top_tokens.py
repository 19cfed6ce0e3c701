"""The tokens that each feature of one SAE fires on most: those of largest mean activation."""

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from featgraph.core.arrays import Counts
from featgraph.core.ranking import largest

if TYPE_CHECKING:
    from featgraph.activations import Tokens

MIN_OCCURRENCES = 3
"""A token seen less often does not count as top token: one strong firing says nothing about the token."""

HELD = 2**21
"""Sums per (feature, token) of single batches that are held before they are added up."""

RANKED = 2**20
"""Most sums per (feature, token) ranked at once. Our choice: bounds memory."""


class TopTokens:
    """Sums of activation per (token, feature); memory grows with the number of pairs, not with the text."""

    def __init__(self, n_vocabulary: int, n_features: int) -> None:
        self.shape = (n_vocabulary, n_features)
        self.occurrences: Counts = np.zeros(n_vocabulary, dtype=np.int64)
        self._sums = scipy.sparse.csr_matrix(self.shape, dtype=np.float64)
        self._held: list[scipy.sparse.csr_matrix] = []

    def update(self, codes: scipy.sparse.csr_matrix, tokens: "Tokens") -> None:
        """Add one batch; batches are collected and summed now and then, which is faster."""
        occurrences = np.bincount(tokens.token, minlength=self.shape[0])
        self.occurrences += occurrences
        rows = np.argsort(tokens.token, kind="stable").astype(np.int32)
        starts = np.r_[0, np.cumsum(occurrences)].astype(np.int32)
        # Row v has a 1 for each row of the codes whose token is v, so the product sums these rows.
        rows_of_token = scipy.sparse.csr_matrix(
            (np.ones(len(rows)), rows, starts), shape=(len(occurrences), len(rows))
        )
        self._hold(rows_of_token @ codes)

    @property
    def sums(self) -> scipy.sparse.csr_matrix:
        """Sums of activation, (n_vocabulary, n_features)."""
        for held in self._held:
            self._sums = self._sums + held
        self._held = []
        return self._sums

    def best(self, k: int) -> list[list[int]]:
        """Return each feature's k tokens with the largest mean activation over all their occurrences.

        Means are compared in float32, so that the order of batches decides nothing.
        """
        often = np.flatnonzero(self.occurrences >= MIN_OCCURRENCES)
        columns = self.sums[often].tocsc()
        best: list[list[int]] = []
        while len(best) < self.shape[1]:
            lo = len(best)
            hi = max(
                lo + 1, int(np.searchsorted(columns.indptr, columns.indptr[lo] + RANKED, side="right")) - 1
            )
            part = slice(columns.indptr[lo], columns.indptr[hi])
            feature = np.repeat(np.arange(lo, hi), np.diff(columns.indptr[lo : hi + 1]))
            token = often[columns.indices[part]]
            mean = (columns.data[part] / self.occurrences[token]).astype(np.float32)
            kept = largest(feature, mean, token, k)
            kept = kept[np.lexsort((token[kept], -mean[kept], feature[kept]))]
            ends = np.searchsorted(feature[kept], np.arange(lo + 1, hi))
            best += [part.tolist() for part in np.split(token[kept], ends)]
        return best

    def _hold(self, sums: scipy.sparse.csr_matrix) -> None:
        self._held.append(sums)
        if sum(held.nnz for held in self._held) > max(HELD, self._sums.nnz):
            _ = self.sums
