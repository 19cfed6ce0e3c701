"""Codes -> per-feature statistics, top tokens and strongest contexts; activations -> explained variance.

Each is gathered batch by batch. Partial results merge: those of some shards and those of the others make
what one pass over all would have made, exactly for counts and contexts, to rounding for sums. They are plain
arrays, so a file can hold them. Memory does not grow with the text, but for sums per (feature, token) seen.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices, Matrix, Sums
from featgraph.core.ranking import largest, ranks

if TYPE_CHECKING:
    import torch

    from featgraph.activations import Tokens

Arrays = dict[str, NDArray[Any]]
"""A partial result as a file holds it."""

EXAMPLES = 10
"""Contexts kept per feature."""

BEFORE, AFTER = 16, 7
"""Tokens shown before and after the peak of a context."""

MIN_OCCURRENCES = 3
"""A token seen less often does not count as top token: one strong firing says nothing about the token."""

HELD = 2**21
"""Sums per (feature, token) of single batches that are held before they are added up."""

RANKED = 2**20
"""Sums per (feature, token) that are ranked at once."""


class Moments:
    """Per-feature counts, sums, sums of squares and largest activations of one SAE."""

    def __init__(self, n_features: int) -> None:
        self.n_active: Counts = np.zeros(n_features, dtype=np.int64)
        self.sum: Sums = np.zeros(n_features)
        self.square: Sums = np.zeros(n_features)
        self.max: Sums = np.zeros(n_features)

    def update(self, codes: scipy.sparse.csr_matrix) -> None:
        """Add one batch, (n_tokens, n_features)."""
        n_features, values = len(self.sum), codes.data.astype(np.float64)
        active = codes.indices if values.all() else codes.indices[values != 0]
        self.n_active += np.bincount(active, minlength=n_features)
        self.sum += np.bincount(codes.indices, weights=values, minlength=n_features)
        self.square += np.bincount(codes.indices, weights=values**2, minlength=n_features)
        np.maximum.at(self.max, codes.indices, values)

    def merge(self, other: Self) -> "Moments":
        """Return the moments of both texts."""
        found = Moments(len(self.sum))
        found.n_active = self.n_active + other.n_active
        found.sum, found.square = self.sum + other.sum, self.square + other.square
        found.max = np.maximum(self.max, other.max)
        return found

    def arrays(self) -> Arrays:
        """Return what a file holds."""
        return {"n_active": self.n_active, "sum": self.sum, "square": self.square, "max": self.max}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Moments":
        """Return what `arrays` took apart."""
        found = Moments(0)
        found.n_active, found.sum = arrays["n_active"], arrays["sum"]
        found.square, found.max = arrays["square"], arrays["max"]
        return found


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
        self.sum += activations.double().sum(0).cpu().numpy()

    @property
    def explained_variance(self) -> float:
        """1 - squared error / variance around the mean, summed over dimensions.

        Source: arXiv 2406.04093 (Gao et al.), 1 - normalised MSE.
        """
        variance = self.square - float((self.sum**2).sum()) / self.n if self.n else 0.0
        return 1.0 - self.error / variance if variance > 0 else float("nan")

    @property
    def rms_length(self) -> float:
        """Root mean square length of the activations."""
        return math.sqrt(self.square / self.n) if self.n else float("nan")

    def merge(self, other: Self) -> "Reconstruction":
        """Return that of both texts."""
        found = Reconstruction(len(self.sum))
        found.n, found.sum = self.n + other.n, self.sum + other.sum
        found.error, found.square = self.error + other.error, self.square + other.square
        return found

    def arrays(self) -> Arrays:
        """Return what a file holds."""
        return {"n": np.array(self.n), "scalars": np.array([self.error, self.square]), "sum": self.sum}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Reconstruction":
        """Return what `arrays` took apart."""
        found = Reconstruction(0)
        found.n, found.sum = int(arrays["n"]), arrays["sum"]
        found.error, found.square = (float(value) for value in arrays["scalars"])
        return found


class TopTokens:
    """Which tokens one SAE's features fire on: sums of activation per (token, feature)."""

    def __init__(self, n_vocabulary: int, n_features: int) -> None:
        self.shape = (n_vocabulary, n_features)
        self.occurrences: Counts = np.zeros(n_vocabulary, dtype=np.int64)
        self._sums = scipy.sparse.csr_matrix(self.shape, dtype=np.float64)
        self._held: list[scipy.sparse.csr_matrix] = []

    def update(self, codes: scipy.sparse.csr_matrix, tokens: "Tokens") -> None:
        """Add one batch; batches are added up now and then rather than every time."""
        occurrences = np.bincount(tokens.token, minlength=self.shape[0])
        self.occurrences += occurrences
        rows = np.argsort(tokens.token, kind="stable").astype(np.int32)
        starts = np.r_[0, np.cumsum(occurrences)].astype(np.int32)
        # Row v has a one for every row of the codes whose token is v, so the product sums these rows.
        chosen = scipy.sparse.csr_matrix(
            (np.ones(len(rows)), rows, starts), shape=(len(occurrences), len(rows))
        )
        self._hold(chosen @ codes)

    @property
    def sums(self) -> scipy.sparse.csr_matrix:
        """Sums of activation, (n_vocabulary, n_features)."""
        for held in self._held:
            self._sums = self._sums + held
        self._held = []
        return self._sums

    def best(self, k: int) -> list[list[int]]:
        """Return each feature's k tokens with the largest mean activation over all their occurrences.

        Means are compared in float32: what the order of batches changes does not decide.
        """
        often = np.flatnonzero(self.occurrences >= MIN_OCCURRENCES)
        columns = self.sums[often].tocsc()
        found: list[list[int]] = []
        while len(found) < self.shape[1]:
            lo = len(found)
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
            found += [part.tolist() for part in np.split(token[kept], ends)]
        return found

    def merge(self, other: Self) -> "TopTokens":
        """Return the sums of both texts."""
        found = TopTokens(*self.shape)
        found.occurrences = self.occurrences + other.occurrences
        found._sums = self.sums + other.sums
        return found

    def arrays(self) -> Arrays:
        """Return what a file holds."""
        sums = self.sums
        sums.sort_indices()
        return {
            "occurrences": self.occurrences,
            "n_features": np.array(self.shape[1]),
            "sums": sums.data,
            "feature": sums.indices,
            "starts": sums.indptr,
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "TopTokens":
        """Return what `arrays` took apart."""
        found = TopTokens(len(arrays["occurrences"]), int(arrays["n_features"]))
        found.occurrences = arrays["occurrences"]
        parts = (arrays["sums"], arrays["feature"], arrays["starts"])
        found._sums = scipy.sparse.csr_matrix(parts, shape=found.shape)
        return found

    def _hold(self, sums: scipy.sparse.csr_matrix) -> None:
        self._held.append(sums)
        if sum(held.nnz for held in self._held) > max(HELD, self._sums.nnz):
            _ = self.sums


class Contexts:
    """The strongest contexts of one SAE's features: at most EXAMPLES each, one per piece of text."""

    def __init__(self, n_features: int) -> None:
        self.feature: Indices = np.zeros(0, dtype=np.int64)
        self.piece: Indices = np.zeros(0, dtype=np.int64)
        self.position: Indices = np.zeros(0, dtype=np.int64)
        self.value: Matrix = np.zeros(0, dtype=np.float32)
        self.window: Matrix = np.zeros((0, BEFORE + 1 + AFTER), dtype=np.float32)
        self.floor: Matrix = np.zeros(n_features, dtype=np.float32)
        """What a context of each feature must reach to be kept."""

    def update(self, flipped: scipy.sparse.csr_matrix, tokens: "Tokens") -> None:
        """Add one batch, transposed to (n_features, n_tokens); each piece is whole within one batch."""
        row, feature, value = _peaks(flipped, tokens, self.floor)
        rank = ranks(
            np.concatenate([self.feature, feature]),
            np.concatenate([self.value, value]),
            np.concatenate([self.piece, tokens.piece[row]]),
        )
        strong = rank[len(self.feature) :] <= EXAMPLES
        row, feature, value = row[strong], feature[strong], value[strong]
        found = Contexts(len(self.floor))
        found.feature, found.piece, found.position = feature, tokens.piece[row], tokens.position[row]
        found.value, found.window = value, _windows(flipped, tokens, row, feature)
        self._take(found)

    def merge(self, other: Self) -> "Contexts":
        """Return the strongest contexts of both texts, which share no piece."""
        found = Contexts(len(self.floor))
        found._take(self)
        found._take(other)
        return found

    def arrays(self) -> Arrays:
        """Return what a file holds."""
        names = ("feature", "piece", "position", "value", "window", "floor")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Contexts":
        """Return what `arrays` took apart."""
        found = Contexts(0)
        found.feature, found.piece, found.position = arrays["feature"], arrays["piece"], arrays["position"]
        found.value, found.window, found.floor = arrays["value"], arrays["window"], arrays["floor"]
        return found

    def _take(self, other: "Contexts") -> None:
        """Add contexts of other pieces and keep the strongest, ordered by feature, then rank."""
        both = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("feature", "piece", "position", "value", "window")
        }
        rank = ranks(both["feature"], both["value"], both["piece"])
        kept = np.flatnonzero(rank <= EXAMPLES)
        kept = kept[np.lexsort((rank[kept], both["feature"][kept]))]
        for name, column in both.items():
            setattr(self, name, column[kept])
        last = rank[kept] == EXAMPLES
        self.floor = np.maximum(self.floor, other.floor)
        self.floor[self.feature[last]] = self.value[last]


def _peaks(
    flipped: scipy.sparse.csr_matrix, tokens: "Tokens", floor: Matrix
) -> tuple[Indices, Indices, Matrix]:
    """Return (row, feature, value) of the strongest token of every (feature, piece) that reaches the floor.

    The tokens of a piece follow each other in a batch, so the entries of a (feature, piece) do too.
    """
    n_active = np.diff(flipped.indptr)
    strong = np.flatnonzero((flipped.data >= np.repeat(floor, n_active)) & (flipped.data > 0))
    feature = np.repeat(np.arange(flipped.shape[0]), n_active)[strong]
    row, value = flipped.indices[strong].astype(np.int64), flipped.data[strong]
    if not len(row):
        return row, feature, value
    piece = tokens.piece[row]
    opens = np.r_[True, (feature[1:] != feature[:-1]) | (piece[1:] != piece[:-1])]
    group = np.cumsum(opens) - 1
    largest_value = np.maximum.reduceat(value, np.flatnonzero(opens))
    peaks = np.flatnonzero(value == largest_value[group])
    first = peaks[np.r_[True, group[peaks][1:] != group[peaks][:-1]]]
    return row[first], feature[first], value[first]


def _windows(flipped: scipy.sparse.csr_matrix, tokens: "Tokens", row: Indices, feature: Indices) -> Matrix:
    """Return the feature's activation on the tokens around each row, 0 beyond the piece, (n, window)."""
    place = row[:, None] + np.arange(-BEFORE, AFTER + 1)
    inside = (place >= 0) & (place < flipped.shape[1])
    place = np.where(inside, place, 0)
    inside &= tokens.piece[place] == tokens.piece[row][:, None]
    found = np.zeros(place.shape, dtype=np.float32)
    column = np.broadcast_to(feature[:, None], place.shape)
    if len(row):
        found[inside] = np.asarray(flipped[column[inside], place[inside]]).ravel()
    return found
