"""Edges in memory, in one direction: from each feature to its children, or to its parents, strongest first.

`EdgeArrays` is plain arrays over feature ids and knows nothing of keys or tables. What few features reach is
walked in Python, where a scan stops at the first edge that is too weak; what many reach, in numpy.
"""

from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices, Matrix
from featgraph.core.ranking import group_then_falling

Ids = NDArray[np.int32]
"""Feature ids, and places of edges: both stay below 2^31."""

FEW = 500
"""Features from which arrays are used instead of a loop; the rows are the same."""


@dataclass(frozen=True)
class Threshold:
    """The cosine that an edge must reach."""

    floor: float
    """For every edge; exact in 32 bits, as the cosines are."""
    own: Matrix | None = None
    """Beyond that, by id of the downstream feature, (n_features,)."""


class Reached(NamedTuple):
    """Features in order of id, how far they are, and the best product of cosines on the paths there."""

    ids: list[int]
    distances: list[int]
    weights: list[float]


@dataclass(frozen=True, eq=False)
class EdgeArrays:
    """Where edges lead from each feature, in compressed sparse rows: 8 bytes per edge."""

    starts: Ids
    """Place of each feature's first edge, and the end of the last one's, (n_features + 1,)."""
    ends: Ids
    """Where each edge leads, (n_edges,); within a feature the largest cosine comes first."""
    cosines: Matrix
    """(n_edges,)."""
    down: bool
    """Whether edges lead to downstream features, or from those upstream."""

    @classmethod
    def of(cls, n_features: int, src: Ids, dst: Ids, cosines: Matrix, *, down: bool) -> "EdgeArrays":
        """Arrange edges by the end that they are followed from."""
        begin, end = (src, dst) if down else (dst, src)
        order = np.argsort(group_then_falling(begin, cosines))
        starts = np.zeros(n_features + 1, dtype=np.int32)
        np.cumsum(np.bincount(begin, minlength=n_features), out=starts[1:])
        return cls(starts, end[order], cosines[order], down)

    @cached_property
    def _views(self) -> tuple[memoryview, memoryview, memoryview]:
        """Starts, ends and cosines for a loop: they give Python's own numbers, faster than arrays do."""
        return self.starts.data, self.ends.data, self.cosines.data

    def passing(self, nodes: Indices, threshold: Threshold) -> tuple[Indices, Ids, Matrix]:
        """Return the edges of some features that pass: place of the feature in `nodes`, end, cosine.

        Edges come in order of `nodes`.
        """
        first = self.starts[nodes].astype(np.int64)
        counts = self.starts[nodes + 1] - first
        owner = np.repeat(np.arange(len(nodes)), counts)
        places = np.arange(len(owner)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        cosines, ends = self.cosines[places], self.ends[places]
        passes = cosines >= threshold.floor
        if threshold.own is not None:
            passes &= cosines >= threshold.own[ends if self.down else nodes[owner]]
        return owner[passes], ends[passes], cosines[passes]

    def reach(self, seed: int, threshold: Threshold, hops: int | None) -> Reached:
        """Return all that is reached from a feature over edges that pass, on walks of at most `hops` edges.

        A feature may be reached on walks of different length: its distance is the shortest, its weight the
        largest product over them all, each a running product of the best so far at that length.
        """
        distances: dict[int, int] = {}
        weights: dict[int, float] = {}
        frontier, distance = {seed: 1.0}, 0
        while frontier and (hops is None or distance < hops):
            if len(frontier) > FEW:
                return self._reach_many(distances, weights, frontier, distance, threshold, hops)
            distance += 1
            frontier = self._step_few(frontier, threshold)
            for node, weight in frontier.items():
                distances.setdefault(node, distance)
                if weight > weights.get(node, -np.inf):
                    weights[node] = weight
        ids = sorted(distances)
        return Reached(ids, [distances[node] for node in ids], [weights[node] for node in ids])

    def _reach_many(
        self,
        distances: dict[int, int],
        weights: dict[int, float],
        frontier: dict[int, float],
        distance: int,
        threshold: Threshold,
        hops: int | None,
    ) -> Reached:
        """Continue `reach` from a frontier, with arrays over all features."""
        far = np.full(len(self.starts) - 1, -1, dtype=np.int32)
        best = np.full(len(far), -np.inf, dtype=np.float32)
        far[list(distances)] = list(distances.values())
        best[list(weights)] = list(weights.values())
        nodes, carried = np.array(list(frontier)), np.array(list(frontier.values()), dtype=np.float32)
        while len(nodes) and (hops is None or distance < hops):
            distance += 1
            nodes, carried = self._step_many(nodes, carried, threshold)
            far[nodes[far[nodes] < 0]] = distance
            best[nodes] = np.maximum(best[nodes], carried)
        ids = np.flatnonzero(far >= 0)
        return Reached(ids.tolist(), far[ids].tolist(), best[ids].tolist())

    def _step_few(self, frontier: dict[int, float], threshold: Threshold) -> dict[int, float]:
        """Return the features one edge beyond the frontier, with the largest product of weight and cosine."""
        starts, ends, cosines = self._views
        floor, down = threshold.floor, self.down
        own = None if threshold.own is None else threshold.own.data
        reached: dict[int, float] = {}
        for node, weight in frontier.items():
            for place in range(starts[node], starts[node + 1]):
                cosine = cosines[place]
                if not cosine >= floor:
                    break
                end = ends[place]
                if own is not None and not cosine >= own[end if down else node]:
                    continue
                product = weight * cosine
                if product > reached.get(end, -np.inf):
                    reached[end] = product
        return dict(zip(reached, array("f", reached.values()), strict=True))

    def _step_many(self, nodes: Indices, weights: Matrix, threshold: Threshold) -> tuple[Indices, Matrix]:
        owner, ends, cosines = self.passing(nodes, threshold)
        if not len(ends):
            return nodes[:0], weights[:0]
        first = int(ends.min())
        best = np.full(int(ends.max()) - first + 1, -np.inf, dtype=np.float32)
        np.maximum.at(best, ends - first, weights[owner] * cosines)
        reached = np.flatnonzero(best > -np.inf)
        return reached + first, best[reached]
