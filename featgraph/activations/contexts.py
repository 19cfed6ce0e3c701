"""The strongest contexts of each feature of one SAE: where in the text it peaks, and the tokens around."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.activations.statistics import Arrays
from featgraph.core.arrays import Indices, Matrix
from featgraph.core.ranking import ranks

if TYPE_CHECKING:
    from featgraph.activations import Tokens

EXAMPLES = 10
"""Contexts kept per feature. Our choice."""

BEFORE, AFTER = 16, 7
"""Tokens shown before and after the peak of a context."""

_COLUMNS = ("feature", "row", "position", "value", "window")


class Contexts:
    """At most EXAMPLES contexts of each feature, one per token row, ordered by feature, then rank."""

    def __init__(self, n_features: int) -> None:
        self.feature: Indices = np.zeros(0, dtype=np.int64)
        self.row: Indices = np.zeros(0, dtype=np.int64)
        """Token row of each peak."""
        self.position: Indices = np.zeros(0, dtype=np.int64)
        """Position of each peak in its row."""
        self.value: Matrix = np.zeros(0, dtype=np.float32)
        """Activation at the peak."""
        self.window: Matrix = np.zeros((0, BEFORE + 1 + AFTER), dtype=np.float32)
        """Activations on the tokens around the peak, 0 beyond the row."""
        self.floor: Matrix = np.zeros(n_features, dtype=np.float32)
        """Smallest peak of each feature's kept contexts; a new one must reach it."""

    def update(self, flipped: scipy.sparse.csr_matrix, tokens: "Tokens") -> None:
        """Add one batch, transposed to (n_features, n_tokens); each token row is whole within one batch."""
        place, feature, value = _peaks(flipped, tokens, self.floor)
        rank = ranks(
            np.concatenate([self.feature, feature]),
            np.concatenate([self.value, value]),
            np.concatenate([self.row, tokens.row[place]]),
        )
        strong = rank[len(self.feature) :] <= EXAMPLES
        place, feature, value = place[strong], feature[strong], value[strong]
        window = _windows(flipped, tokens, place, feature)
        self._add((feature, tokens.row[place], tokens.position[place], value, window))

    def arrays(self) -> Arrays:
        """Return the contexts as arrays for a file."""
        return {name: getattr(self, name) for name in (*_COLUMNS, "floor")}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Contexts":
        """Return the contexts from the arrays of `arrays`."""
        contexts = Contexts(0)
        for name in (*_COLUMNS, "floor"):
            setattr(contexts, name, arrays[name])
        return contexts

    def _add(self, contexts: tuple[NDArray[Any], ...]) -> None:
        """Add contexts of new token rows, given as columns, and keep the strongest."""
        both = {
            name: np.concatenate([getattr(self, name), column])
            for name, column in zip(_COLUMNS, contexts, strict=True)
        }
        rank = ranks(both["feature"], both["value"], both["row"])
        kept = np.flatnonzero(rank <= EXAMPLES)
        kept = kept[np.lexsort((rank[kept], both["feature"][kept]))]
        for name, column in both.items():
            setattr(self, name, column[kept])
        last = rank[kept] == EXAMPLES
        self.floor[self.feature[last]] = self.value[last]


def _peaks(
    flipped: scipy.sparse.csr_matrix, tokens: "Tokens", floor: Matrix
) -> tuple[Indices, Indices, Matrix]:
    """Return (index, feature, value) of the strongest token of every (feature, row) that reaches the floor.

    index: in the batch. The tokens of a row follow each other in a batch, so the entries of a (feature, row)
    do too.
    """
    n_active = np.diff(flipped.indptr)
    strong = np.flatnonzero((flipped.data >= np.repeat(floor, n_active)) & (flipped.data > 0))
    feature = np.repeat(np.arange(flipped.shape[0]), n_active)[strong]
    place, value = flipped.indices[strong].astype(np.int64), flipped.data[strong]
    if not len(place):
        return place, feature, value
    row = tokens.row[place]
    opens = np.r_[True, (feature[1:] != feature[:-1]) | (row[1:] != row[:-1])]
    group = np.cumsum(opens) - 1
    largest_value = np.maximum.reduceat(value, np.flatnonzero(opens))
    peaks = np.flatnonzero(value == largest_value[group])
    first = peaks[np.r_[True, group[peaks][1:] != group[peaks][:-1]]]
    return place[first], feature[first], value[first]


def _windows(flipped: scipy.sparse.csr_matrix, tokens: "Tokens", peak: Indices, feature: Indices) -> Matrix:
    """Return the feature's activation on the tokens around each peak, 0 beyond its row, (n, window)."""
    place = peak[:, None] + np.arange(-BEFORE, AFTER + 1)
    inside = (place >= 0) & (place < flipped.shape[1])
    place = np.where(inside, place, 0)
    inside &= tokens.row[place] == tokens.row[peak][:, None]
    window = np.zeros(place.shape, dtype=np.float32)
    column = np.broadcast_to(feature[:, None], place.shape)
    if len(peak):
        window[inside] = np.asarray(flipped[column[inside], place[inside]]).ravel()
    return window
