"""Codes -> per-feature statistics, top tokens, strongest contexts, and co-activation counts of candidates.

Everything is a running sum over batches, so memory does not grow with the text (but for the top-token
sums, which grow with the distinct feature-token pairs seen). Codes are sparse (n_tokens, n_features).
"""

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.activations import Batch
from featgraph.arrays import Counts, Indices, Matrix, Sums
from featgraph.matching import Candidates, ranks

if TYPE_CHECKING:
    import torch

EXAMPLES = 10
"""Contexts kept per feature."""

BEFORE, AFTER = 16, 7
"""Tokens shown before and after the peak of a context."""

MIN_OCCURRENCES = 3
"""A token seen less often does not count as top token: one strong firing says nothing about the token."""


class Moments:
    """Per-feature counts, sums, sums of squares and largest activations of one SAE."""

    def __init__(self, n_features: int) -> None:
        self.n_active: Counts = np.zeros(n_features, dtype=np.int64)
        self.sum: Sums = np.zeros(n_features)
        self.square: Sums = np.zeros(n_features)
        self.max: Sums = np.zeros(n_features)

    def update(self, codes: scipy.sparse.csr_matrix) -> None:
        """Add one batch."""
        n_features, values = len(self.sum), codes.data.astype(np.float64)
        self.n_active += np.bincount(codes.indices, minlength=n_features)
        self.sum += np.bincount(codes.indices, weights=values, minlength=n_features)
        self.square += np.bincount(codes.indices, weights=values**2, minlength=n_features)
        np.maximum.at(self.max, codes.indices, values)


class Reconstruction:
    """How much of one site's variance its SAE explains."""

    def __init__(self, d_model: int) -> None:
        self.n = 0
        self.error = 0.0
        self.square = 0.0
        self.sum: Sums = np.zeros(d_model)

    def update(self, activations: "torch.Tensor", reconstruction: "torch.Tensor") -> None:
        """Add one batch of (n_tokens, d_model) activations and what the SAE makes of them."""
        self.n += len(activations)
        self.error += float((activations - reconstruction).double().square().sum())
        self.square += float(activations.double().square().sum())
        self.sum += activations.double().sum(0).numpy()

    @property
    def explained_variance(self) -> float:
        """1 - squared error / variance around the mean, summed over dimensions.

        Source: arXiv 2406.04093 (Gao et al.), 1 - normalised MSE.
        """
        variance = self.square - float((self.sum**2).sum()) / self.n
        return 1.0 - self.error / variance


class TopTokens:
    """Which tokens one SAE's features fire on: sums of activation per (token, feature)."""

    def __init__(self, n_vocabulary: int, n_features: int) -> None:
        self.shape = (n_vocabulary, n_features)
        self.sums = scipy.sparse.csr_matrix(self.shape, dtype=np.float64)
        self.occurrences: Counts = np.zeros(n_vocabulary, dtype=np.int64)
        self._waiting: list[tuple[Indices, Indices, Matrix]] = []

    def update(self, codes: scipy.sparse.csr_matrix, batch: Batch) -> None:
        """Add one batch; sums are merged now and then rather than every time."""
        self.occurrences += np.bincount(batch.token, minlength=self.shape[0])
        token = np.repeat(batch.token, np.diff(codes.indptr))
        self._waiting.append((token, codes.indices, codes.data))
        if sum(len(found[0]) for found in self._waiting) > 2_000_000:
            self.merge()

    def best(self, k: int) -> list[list[int]]:
        """Return each feature's k tokens with the largest mean activation over all their occurrences."""
        self.merge()
        columns = self.sums.tocsc()
        often = self.occurrences >= MIN_OCCURRENCES
        found = []
        for feature in range(self.shape[1]):
            part = slice(columns.indptr[feature], columns.indptr[feature + 1])
            token = columns.indices[part]
            mean = columns.data[part] / self.occurrences[token]
            token, mean = token[often[token]], mean[often[token]]
            found.append(token[np.lexsort((token, -mean))[:k]].tolist())
        return found

    def merge(self) -> None:
        """Add up what the last batches left waiting."""
        if self._waiting:
            token, feature, value = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
            self.sums = self.sums + scipy.sparse.csr_matrix(
                (value.astype(np.float64), (token, feature)), shape=self.shape
            )
            self._waiting.clear()


class Contexts:
    """The strongest contexts of one SAE's features: at most EXAMPLES each, one per piece of text."""

    def __init__(self, n_features: int) -> None:
        self.feature: Indices = np.zeros(0, dtype=np.int64)
        self.piece: Indices = np.zeros(0, dtype=np.int64)
        self.position: Indices = np.zeros(0, dtype=np.int64)
        self.value: Matrix = np.zeros(0, dtype=np.float32)
        self.window: Matrix = np.zeros((0, BEFORE + 1 + AFTER), dtype=np.float32)
        self.floor: Matrix = np.zeros(n_features, dtype=np.float32)

    def update(self, flipped: scipy.sparse.csr_matrix, batch: Batch) -> None:
        """Add one batch, transposed to (n_features, n_tokens); each piece is whole within one batch."""
        row, feature, value = _peaks(flipped, batch)
        strong = value >= self.floor[feature]
        row, feature, value = row[strong], feature[strong], value[strong]
        strong = ranks(feature, value, batch.piece[row]) <= EXAMPLES
        row, feature, value = row[strong], feature[strong], value[strong]
        self.window = np.concatenate([self.window, _windows(flipped, batch, row, feature)])
        self.feature = np.concatenate([self.feature, feature])
        self.piece = np.concatenate([self.piece, batch.piece[row]])
        self.position = np.concatenate([self.position, batch.position[row]])
        self.value = np.concatenate([self.value, value])
        self._keep_strongest()

    def _keep_strongest(self) -> None:
        rank = ranks(self.feature, self.value, self.piece)
        kept = np.flatnonzero(rank <= EXAMPLES)
        kept = kept[np.lexsort((rank[kept], self.feature[kept]))]
        self.feature, self.piece, self.position = self.feature[kept], self.piece[kept], self.position[kept]
        self.value, self.window = self.value[kept], self.window[kept]
        full = ranks(self.feature, self.value, self.piece) == EXAMPLES
        self.floor[self.feature[full]] = self.value[full]


class CoActivation:
    """For the candidates of one pair of SAEs: tokens with both active, and sums of products."""

    def __init__(self, pairs: Candidates) -> None:
        self.pairs = pairs
        self.n_both: Counts = np.zeros(len(pairs), dtype=np.int64)
        self.product: Sums = np.zeros(len(pairs))

    def update(self, upstream: scipy.sparse.csr_matrix, downstream: scipy.sparse.csr_matrix) -> None:
        """Add one batch; upstream comes transposed, (n_features, n_tokens)."""
        product = upstream @ downstream
        self.product += _at(product, self.pairs)
        ones_u, ones_d = _ones(upstream), _ones(downstream)
        self.n_both += _at(ones_u @ ones_d, self.pairs).astype(np.int64)


def _at(matrix: scipy.sparse.csr_matrix, pairs: Candidates) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.asarray(matrix[pairs.src, pairs.dst]).ravel()
    return found


def _ones(codes: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """The same matrix with 1 where it is active; counts up to 2^24 are exact in float32."""
    return scipy.sparse.csr_matrix(
        (np.ones(len(codes.data), dtype=np.float32), codes.indices, codes.indptr), shape=codes.shape
    )


def _peaks(flipped: scipy.sparse.csr_matrix, batch: Batch) -> tuple[Indices, Indices, Matrix]:
    """Return (row, feature, value) of the strongest token of every (feature, piece) that is active at all.

    The tokens of a piece follow each other in a batch, so the entries of a (feature, piece) do too.
    """
    feature = np.repeat(np.arange(flipped.shape[0]), np.diff(flipped.indptr))
    row, value = flipped.indices.astype(np.int64), flipped.data
    if not len(row):
        return row, feature, value
    piece = batch.piece[row]
    opens = np.r_[True, (feature[1:] != feature[:-1]) | (piece[1:] != piece[:-1])]
    group = np.cumsum(opens) - 1
    largest = np.maximum.reduceat(value, np.flatnonzero(opens))
    peaks = np.flatnonzero(value == largest[group])
    first = peaks[np.r_[True, group[peaks][1:] != group[peaks][:-1]]]
    return row[first], feature[first], value[first]


def _windows(flipped: scipy.sparse.csr_matrix, batch: Batch, row: Indices, feature: Indices) -> Matrix:
    """Return the feature's activation on the tokens around each row, 0 beyond the piece, (n, window)."""
    place = row[:, None] + np.arange(-BEFORE, AFTER + 1)
    inside = (place >= 0) & (place < flipped.shape[1])
    place = np.where(inside, place, 0)
    inside &= batch.piece[place] == batch.piece[row][:, None]
    found = np.zeros(place.shape, dtype=np.float32)
    column = np.broadcast_to(feature[:, None], place.shape)
    found[inside] = np.asarray(flipped[column[inside], place[inside]]).ravel()
    return found
