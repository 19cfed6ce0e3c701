"""The k best paths between two features, by product, sum or least of their cosines.

First the features on any path between the two, then dynamic programming over those, one path length after
the other. No SQL and no keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices, Matrix, Sums
from featgraph.core.keys import SaeRange
from featgraph.core.ranking import run_starts
from featgraph.lineage.edge_arrays import EdgeArrays, Ids, Threshold

Mask = NDArray[np.bool_]

SCORES: dict[str, tuple[float, Callable[[Sums, Sums], Sums]]] = {
    "product": (1.0, np.multiply),
    "sum": (0.0, np.add),
    "min": (np.inf, np.minimum),
}
"""What a path of no edge scores, and how one more edge changes that."""


@dataclass(frozen=True)
class PathEdges:
    """The edges that a path may take: residual ones, and out of a module feature those by which it writes."""

    saes: Sequence[SaeRange]
    down: EdgeArrays
    up: EdgeArrays
    written: EdgeArrays
    threshold: Threshold
    writer_bar: Threshold

    def onward(self, nodes: Indices) -> tuple[Indices, Ids, Matrix]:
        """Return the edges out of some features, as `EdgeArrays.passing` does.

        No edge leads to a module feature, so that only the first of a path can be one.
        """
        if len(nodes) and self.written.starts[nodes[0]] < self.written.starts[nodes[0] + 1]:
            return self.written.passing(nodes, self.writer_bar)
        return self.down.passing(nodes, self.threshold)

    def between(self, a: int, b: int) -> Mask:
        """Return which features lie on a path from `a` to `b`, (n_features,).

        Edges are followed from both ends, an SAE at a time, from the end where fewer are reached, until they
        meet. From there each side continues over the features that the other has reached.
        """
        after, before = (np.zeros(len(self.down.starts) - 1, dtype=np.bool_) for _ in range(2))
        after[a], before[b] = True, True
        saes = [sae for sae in self.saes if sae.first_id <= b and sae.first_id + sae.n_features > a]
        first, last = 0, len(saes) - 1
        while first < last:
            ahead, behind = _marked(saes[first], after), _marked(saes[last], before)
            if len(ahead) <= len(behind):
                after[self.onward(ahead)[1]] = True
                first += 1
            else:
                before[self.up.passing(behind, self.threshold)[1]] = True
                last -= 1
        for sae in saes[first:]:
            after[self.onward(_marked(sae, after, before))[1]] = True
        for sae in reversed(saes[: last + 1]):
            before[self.up.passing(_marked(sae, after, before), self.threshold)[1]] = True
        return after & before


class Path(NamedTuple):
    """One path, from its first feature to its last."""

    score: float
    nodes: list[int]
    cosines: list[float]


class _Level(NamedTuple):
    """The k best paths of one length to each feature: in order of their last feature, the best first."""

    nodes: Indices
    """Last feature of each path."""
    scores: Sums
    shorter: Indices
    """Place of the path without its last edge in the level before."""
    cosines: Sums
    """Of the last edge."""


def best_paths(path_edges: PathEdges, a: int, b: int, *, by: str, k: int) -> list[Path]:
    """Return the k best paths from `a` to `b`: larger scores first, then shorter ones.

    Among equals of a length, the smaller last feature but one comes first; if that is the same, what comes
    first of the two paths that end there.
    """
    search = _Search(path_edges, a, b, by, k)
    level = _Level(np.array([a]), np.array([search.empty]), np.zeros(1, np.int64), np.zeros(1))
    levels: list[_Level] = []
    arrived: list[tuple[float, int, int]] = []
    while len(level.nodes):
        there = np.flatnonzero(level.nodes == b)
        arrived += [(-float(level.scores[place]), len(levels), int(place)) for place in there]
        levels.append(level)
        level = search.longer(level)
    return [_trace(levels[: length + 1], place) for _, length, place in sorted(arrived)[:k]]


class _Search:
    """One search: what the rest of a path can still give, and the least score that may be among the best."""

    def __init__(self, path_edges: PathEdges, a: int, b: int, by: str, k: int) -> None:
        self.path_edges, self.by, self.k = path_edges, by, k
        self.empty, self.add = SCORES[by]
        self.rest = self._rest(a, b)
        self.least = -np.inf

    def _rest(self, a: int, b: int) -> Sums:
        """Return the best score of the paths from each feature to `b`, -inf where there is none."""
        between = self.path_edges.between(a, b)
        rest = np.full(len(between), -np.inf)
        rest[b] = self.empty
        for sae in reversed(self.path_edges.saes):
            nodes = _marked(sae, between)
            owner, ends, cosines = self._onward(nodes, rest)
            best = rest[nodes]
            np.maximum.at(best, owner, self.add(cosines, rest[ends]))
            rest[nodes] = best
        return rest

    def _onward(self, nodes: Indices, rest: Sums) -> tuple[Indices, Ids, Sums]:
        """Return the edges out of some features, in their order, that lead on to `b`."""
        owner, ends, cosines = self.path_edges.onward(nodes)
        leads = rest[ends] > -np.inf
        if self.by == "product":
            leads &= cosines > 0
        return owner[leads], ends[leads], cosines[leads].astype(np.float64)

    def longer(self, level: _Level) -> _Level:
        """Return the k best paths to each feature that are one edge longer and can become one of the k best.

        No more than k to a feature are needed: one more edge never puts a worse path to it before a better
        one. Paths come in order of the last feature but one, the best first, and the sort keeps that order
        among equals.
        """
        shorter, ends, cosines = self._onward(level.nodes, self.rest)
        scores = self.add(level.scores[shorter], cosines)
        keep = self._promising(self.add(scores, self.rest[ends]))
        shorter, ends, cosines, scores = shorter[keep], ends[keep], cosines[keep], scores[keep]
        order = np.lexsort((-scores, ends))
        places = np.arange(len(order))
        place_of_best = np.maximum.accumulate(np.where(run_starts(ends[order]), places, 0))
        order = order[places - place_of_best < self.k]
        return _Level(ends[order].astype(np.int64), scores[order], shorter[order], cosines[order])

    def _promising(self, reachable: Sums) -> Mask:
        """Return which of some paths of one length can be among the k best, by the best score each can reach.

        Different paths of a length go on to different ones, so k of them are certain to reach the k-th
        largest of these scores. The slack is for rounding: what can be reached was added up from the far end.
        """
        if len(reachable) >= self.k:
            kth = float(np.partition(reachable, -self.k)[-self.k])
            slack = 1e-9 * (max(abs(kth), 1.0) if self.by == "sum" else abs(kth))
            self.least = max(self.least, kth - slack)
        return reachable >= self.least


def _trace(levels: list[_Level], place: int) -> Path:
    """Return a path of the last level from its first feature on."""
    score = float(levels[-1].scores[place])
    nodes, cosines = [], []
    for level in reversed(levels):
        nodes.append(int(level.nodes[place]))
        cosines.append(float(level.cosines[place]))
        place = int(level.shorter[place])
    return Path(score, nodes[::-1], cosines[-2::-1])


def _marked(sae: SaeRange, *masks: Mask) -> Indices:
    """Return the features of an SAE that are in all masks."""
    first, end = sae.first_id, sae.first_id + sae.n_features
    return first + np.flatnonzero(np.logical_and.reduce([mask[first:end] for mask in masks]))
