"""The SAEs that each node of a pattern can be in, narrowed along the arrows before any row is read.

A set of SAEs is an int with bit s for SAE number s. The sets are exact with respect to the pairs of SAEs that
have edges at all; they bound every scan to a few runs of ids and every quantifier to the possible lengths.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from featgraph.core.keys import EdgeKind, SaeRange
from featgraph.store import Store

SaeRanges = int
Kinds = frozenset[str]

ALL_KINDS: Kinds = frozenset(get_args(EdgeKind))


@dataclass(frozen=True)
class Pair:
    """Two SAEs that edges of one kind join."""

    src: int
    dst: int
    kind: str


class SaeGraph:
    """The SAEs of a graph, and which of them edges join."""

    def __init__(self, saes: list[SaeRange], pairs: list[Pair]) -> None:
        self.saes = saes
        self.pairs = pairs
        self._steps: dict[tuple[Kinds, bool], list[SaeRanges]] = {}

    @classmethod
    def of(cls, store: Store) -> "SaeGraph":
        """Read that of a store."""
        rows = store.rows("select src_sae, dst_sae, kind from pair order by all")
        return cls(store.saes, [Pair(*row) for row in rows])

    @cached_property
    def everything(self) -> SaeRanges:
        """All SAEs."""
        return (1 << len(self.saes)) - 1

    @cached_property
    def kinds(self) -> Kinds:
        """The kinds of edges that a pattern may name."""
        return ALL_KINDS | {pair.kind for pair in self.pairs}

    def members(self, chosen: SaeRanges) -> Iterator[SaeRange]:
        """Yield the SAEs of a set in order."""
        return (sae for sae in self.saes if chosen >> sae.number & 1)

    def step(self, start: SaeRanges, kinds: Kinds, *, down: bool) -> SaeRanges:
        """Return the SAEs that one edge of some kinds leads to, downstream or upstream."""
        table = self._table(kinds, down)
        reached, place = 0, 0
        while start:
            if start & 1:
                reached |= table[place]
            start >>= 1
            place += 1
        return reached

    def other_kinds(self, start: SaeRanges, kinds: Kinds, *, down: bool) -> bool:
        """Say whether edges of other kinds leave some SAEs too, so that rows must be tested for theirs."""
        return any(
            pair.kind not in kinds and start >> (pair.src if down else pair.dst) & 1 for pair in self.pairs
        )

    def n_features(self, chosen: SaeRanges) -> int:
        """Return the number of features in a set of SAEs."""
        return sum(sae.n_features for sae in self.members(chosen))

    def runs(self, chosen: SaeRanges, among: SaeRanges) -> list[tuple[int, int]]:
        """Return runs of ids (first, last) that hold the features of `chosen` and no others of `among`."""
        runs: list[tuple[int, int]] = []
        joined = False
        for sae in self.saes:
            if chosen >> sae.number & 1 and sae.n_features:
                first, last = sae.first_id, sae.first_id + sae.n_features - 1
                if joined:
                    runs[-1] = (runs[-1][0], last)
                else:
                    runs.append((first, last))
                joined = True
            elif among >> sae.number & 1:
                joined = False
        return runs

    def _table(self, kinds: Kinds, down: bool) -> list[SaeRanges]:
        table = self._steps.get((kinds, down))
        if table is None:
            table = [0] * len(self.saes)
            for pair in self.pairs:
                if pair.kind in kinds:
                    here, there = (pair.src, pair.dst) if down else (pair.dst, pair.src)
                    table[here] |= 1 << there
            self._steps[kinds, down] = table
        return table


@dataclass(frozen=True)
class Hops:
    """Where a repeated edge can be after each step, for the lengths that can occur between its two ends."""

    lengths: tuple[int, ...]
    at: tuple[SaeRanges, ...]
    """`at[i]` after i steps from the left end, up to the largest length."""
    ends: SaeRanges = 0
    """Where walks of these lengths end."""


def hops(
    graph: SaeGraph,
    left: SaeRanges,
    right: SaeRanges,
    kinds: Kinds,
    low: int,
    high: int | None,
    *,
    down: bool,
) -> Hops:
    """Return the lengths of walks from `left` to `right` that can occur, and the SAEs they pass."""
    most = len(graph.saes) if high is None else min(high, len(graph.saes))
    forward = [left]
    while len(forward) <= most and forward[-1]:
        forward.append(graph.step(forward[-1], kinds, down=down))
    lengths = tuple(n for n in range(low, len(forward)) if forward[n] & right)
    if not lengths:
        return Hops((), (left,))
    wanted = ends = 0
    at = [0] * (lengths[-1] + 1)
    for place in range(lengths[-1], -1, -1):
        wanted = graph.step(wanted, kinds, down=not down)
        if place in lengths:
            ends |= forward[place] & right
            wanted |= right
        wanted &= forward[place]
        at[place] = wanted
    return Hops(lengths, tuple(at), ends)
