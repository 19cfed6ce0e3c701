"""The k strongest pairs of every source and every target, from blocks of pairs as they are counted."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices, Matrix, Sums
from featgraph.core.ranking import largest, ranks

HELD = 4
"""Pairs held per target and rank before the strongest are selected. Our choice."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of features of two SAEs."""

    src: Indices
    dst: Indices
    n_both: Counts
    """Tokens on which both are active."""
    product: Sums
    """Sum over tokens of u times d."""
    ratio: Sums
    """Sum of u / d over tokens on which both are active."""

    def __len__(self) -> int:
        return len(self.src)

    def take(self, places: NDArray[np.intp]) -> "Pairs":
        """Return the pairs at some indices."""
        src, dst, n_both = self.src[places], self.dst[places], self.n_both[places]
        return Pairs(src, dst, n_both, self.product[places], self.ratio[places])

    @classmethod
    def joined(cls, parts: Iterable["Pairs"]) -> "Pairs":
        """Return the concatenation of all parts."""
        none = np.zeros(0, dtype=np.int64)
        empty = (none, none, none, np.zeros(0), np.zeros(0))
        columns = zip(*(empty, *(_columns(part) for part in parts)), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


class TopPairs:
    """Keeps the k pairs of largest value of every source and every target; ties go to the smaller index."""

    def __init__(self, n_targets: int, k: int) -> None:
        self.k = k
        self.floor: Matrix = np.full(n_targets, -np.inf, dtype=np.float32)
        self._of_sources: list[Pairs] = []
        self._of_targets: list[tuple[Pairs, Matrix]] = []
        self._held = 0

    def add(self, pairs: Pairs, value: Matrix) -> None:
        """Add all pairs of some sources; each source is added only once."""
        self._of_sources.append(pairs.take(largest(pairs.src, value, pairs.dst, self.k)))
        strong = np.flatnonzero(value >= self.floor[pairs.dst])
        pairs, value = pairs.take(strong), value[strong]
        strong = largest(pairs.dst, value, pairs.src, self.k)
        self._of_targets.append((pairs.take(strong), value[strong]))
        self._held += len(strong)
        if self._held > HELD * self.k * len(self.floor):
            self._prune()

    def pairs(self) -> Pairs:
        """Return the kept pairs; a pair may occur twice."""
        self._prune()
        return Pairs.joined([*self._of_sources, *(pairs for pairs, _ in self._of_targets)])

    def _prune(self) -> None:
        if not self._of_targets:
            return
        pairs = Pairs.joined(pairs for pairs, _ in self._of_targets)
        value = np.concatenate([value for _, value in self._of_targets])
        place = ranks(pairs.dst, value, pairs.src)
        last = place == self.k
        self.floor[pairs.dst[last]] = value[last]
        kept = np.flatnonzero(place <= self.k)
        self._of_targets = [(pairs.take(kept), value[kept])]
        self._held = len(kept)


def _columns(pairs: Pairs) -> tuple[Indices, Indices, Counts, Sums, Sums]:
    return pairs.src, pairs.dst, pairs.n_both, pairs.product, pairs.ratio
