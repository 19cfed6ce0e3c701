"""Small random layered graphs, and what the definitions of the verbs say of them.

The oracle follows the definitions word by word, one feature and one way at a time, without SQL. Residual
edges may skip a layer. This file knows nothing of featgraph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise
from math import inf, prod

from hypothesis import strategies as st

LAYERS, WIDTH, MODULES = 4, 3, 2
COSINES = st.sampled_from([0.125, 0.25, 0.375, 0.5, 0.625, 0.75])
"""Few and exact in 32 bits, so that ties and equality with the threshold happen often."""
SIGNED = COSINES | st.sampled_from([-0.5, 0.0])
"""Cosines of edges; those that are not above 0 pass a threshold only where a test gives one as low."""


@dataclass(frozen=True)
class Edge:
    src: str
    dst: str
    kind: str
    cosine: float


@dataclass(frozen=True)
class Path:
    """Features from the first to the last, and the cosines between them."""

    keys: tuple[str, ...]
    cosines: tuple[float, ...]

    def score(self, by: str) -> float:
        if by == "min":
            return min(self.cosines, default=inf)
        return prod(self.cosines) if by == "product" else sum(self.cosines)

    def prefix(self) -> "Path":
        return Path(self.keys[:-1], self.cosines[:-1])

    def before(self, other: "Path", by: str) -> bool:
        """Say whether this one comes before another to the same feature."""
        if self.score(by) != other.score(by):
            return self.score(by) > other.score(by)
        if len(self.cosines) != len(other.cosines):
            return len(self.cosines) < len(other.cosines)
        mine, others = self.prefix(), other.prefix()
        if mine.keys[-1] != others.keys[-1]:
            return IDS[mine.keys[-1]] < IDS[others.keys[-1]]
        return mine.before(others, by)


@dataclass(frozen=True)
class Layered:
    """A graph and what the definitions of the design page say of it."""

    edges: tuple[Edge, ...]
    high: tuple[float, ...]
    """threshold_high of the residual SAE of each layer."""

    def tau(self, key: str, least: float | None) -> float:
        return self.high[layer(key)] if least is None else least

    def passing(self, least: float | None) -> list[Edge]:
        return [e for e in self.edges if e.kind == "res_res" and e.cosine >= self.tau(e.dst, least)]

    def best(self, key: str, kind: str) -> float | None:
        return max((e.cosine for e in self.edges if (e.dst, e.kind) == (key, kind)), default=None)

    def rank_in(self, edge: Edge) -> int:
        return rank(edge, [e for e in self.edges if (e.dst, e.kind) == (edge.dst, edge.kind)], "src")

    def rank_out(self, edge: Edge) -> int:
        return rank(edge, [e for e in self.edges if (e.src, e.kind) == (edge.src, edge.kind)], "dst")

    def reached(
        self, key: str, least: float | None, hops: int | None, up: bool
    ) -> dict[str, tuple[int, float]]:
        """Every feature on a way from `key`: length of the shortest way, best product of cosines of all."""
        found: dict[str, list[tuple[int, float]]] = {}
        ways = [(key, 0, 1.0)]
        while ways:
            here, distance, weight = ways.pop()
            for e in self.passing(least):
                start, end = (e.dst, e.src) if up else (e.src, e.dst)
                if start == here and (hops is None or distance < hops):
                    ways.append((end, distance + 1, weight * e.cosine))
                    found.setdefault(end, []).append((distance + 1, weight * e.cosine))
        return {
            end: (min(length for length, _ in ways), max(weight for _, weight in ways))
            for end, ways in found.items()
        }

    def lineage(
        self, key: str, least: float | None, hops: int | None, writer: float
    ) -> dict[str, tuple[int, float]]:
        members = {key: (0, 1.0)}
        members |= self.reached(key, least, hops, up=True) | self.reached(key, least, hops, up=False)
        written: dict[str, tuple[float, int, int]] = {}
        for e in self.edges:
            if e.kind != "res_res" and e.dst in members and e.cosine >= writer:
                distance, weight = members[e.dst]
                best = (weight * e.cosine, -IDS[e.dst], distance + 1)
                written[e.src] = max(best, written.get(e.src, best))
        return members | {
            src: (distance, weight) for src, (weight, _, distance) in written.items() if src != key
        }

    def subgraph(
        self, key: str, least: float | None, hops: int | None, writer: float
    ) -> list[tuple[int, int]]:
        members = self.lineage(key, least, hops, writer)
        passing = set(self.passing(least)) | {
            e for e in self.edges if e.kind != "res_res" and e.cosine >= writer
        }
        return sorted((IDS[e.src], IDS[e.dst]) for e in passing if e.src in members and e.dst in members)

    def splits(self, least: float | None) -> dict[str, list[str]]:
        good = [e for e in self.passing(least) if self.rank_in(e) == 1]
        return several({f: [(-e.cosine, IDS[e.dst], e.dst) for e in good if e.src == f] for f in RESIDUAL})

    def merges(self, least: float | None) -> dict[str, list[str]]:
        good = [e for e in self.passing(least) if self.rank_out(e) == 1]
        return several({f: [(-e.cosine, IDS[e.src], e.src) for e in good if e.dst == f] for f in RESIDUAL})

    def births(self, least: float | None) -> dict[str, str]:
        children = {e.dst for e in self.passing(least)}
        return {f: self.origin(f, least) for f in RESIDUAL if layer(f) > 0 and f not in children}

    def origin(self, key: str, least: float | None) -> str:
        into = {e.kind for e in self.edges if e.dst == key and e.cosine >= self.tau(key, least)}
        return "+".join(site for site in ("mlp", "att") if f"{site}_res" in into) or "unexplained"

    def deaths(self, least: float | None) -> list[str]:
        parents = {e.src for e in self.passing(least)}
        return [f for f in RESIDUAL if layer(f) < LAYERS - 1 and f not in parents]

    def persists(self, least: float | None) -> list[tuple[int, int]]:
        both = [e for e in self.passing(least) if self.rank_in(e) == self.rank_out(e) == 1]
        return sorted((IDS[e.src], IDS[e.dst]) for e in both)

    def ways(self, key: str, least: float | None, writer: float) -> Iterator[Path]:
        """Every path down from a feature over residual edges that pass; a writer's can only be the first."""
        edges = [*self.passing(least), *(e for e in self.edges if e.kind != "res_res" and e.cosine >= writer)]
        open_ways = [Path((key,), ())]
        while open_ways:
            way = open_ways.pop()
            yield way
            for e in edges:
                if e.src == way.keys[-1]:
                    open_ways.append(Path((*way.keys, e.dst), (*way.cosines, e.cosine)))

    def paths(self, a: str, b: str, k: int, least: float | None, by: str, writer: float) -> list[Path]:
        found = [way for way in self.ways(a, least, writer) if way.keys[-1] == b]
        if by == "product":
            found = [way for way in found if all(cosine > 0 for cosine in way.cosines)]

        def order(one: Path, other: Path) -> int:
            return -1 if one.before(other, by) else 1

        return sorted(found, key=cmp_to_key(order))[:k]

    def neighbors(self, key: str, least: float | None, writer: float) -> list[tuple[str, str, str, float]]:
        """(key, direction, kind, cosine) of every edge that passes: upstream first, strongest first."""
        passing = [
            *self.passing(least),
            *(e for e in self.edges if e.kind != "res_res" and e.cosine >= writer),
        ]
        up = sorted((-e.cosine, IDS[e.src], e.src, e.kind) for e in passing if e.dst == key)
        down = sorted((-e.cosine, IDS[e.dst], e.dst, e.kind) for e in passing if e.src == key)
        return [
            (end, direction, kind, -negated)
            for direction, rows in (("up", up), ("down", down))
            for negated, _, end, kind in rows
        ]

    def chains(self, least: float | None) -> list[Path]:
        """Every run of persisting edges that cannot be made longer at either end, in order of its first."""
        links = {KEYS[src]: KEYS[dst] for src, dst in self.persists(least)}
        cosines = {(e.src, e.dst): e.cosine for e in self.edges}
        found = []
        for key in sorted(links.keys() - links.values(), key=IDS.__getitem__):
            run = [key]
            while run[-1] in links:
                run.append(links[run[-1]])
            found.append(Path(tuple(run), tuple(cosines[step] for step in pairwise(run))))
        return found

    def flow(self, least: float | None) -> list[tuple[object, ...]]:
        """(layer_a, layer_b, n_edges, n_persists, n_splits, n_merges, n_births, n_deaths, cosine)."""
        rows: list[tuple[object, ...]] = []
        for a, b in sorted({(layer(e.src), layer(e.dst)) for e in self.edges if e.kind == "res_res"}):
            cosines = [e.cosine for e in self.passing(least) if (layer(e.src), layer(e.dst)) == (a, b)]
            persisting = [
                1 for src, dst in self.persists(least) if (layer(KEYS[src]), layer(KEYS[dst])) == (a, b)
            ]
            above = [
                sum(layer(key) == a for key in keys) for keys in (self.splits(least), self.deaths(least))
            ]
            below = [
                sum(layer(key) == b for key in keys) for keys in (self.merges(least), self.births(least))
            ]
            mean = sum(cosines) / len(cosines) if cosines else None
            rows.append((a, b, len(cosines), len(persisting), above[0], *below, above[1], mean))
        return rows


def layer(key: str) -> int:
    return int(key.split("/")[0])


def rank(edge: Edge, rivals: list[Edge], end: str) -> int:
    return 1 + sorted(rivals, key=lambda e: (-e.cosine, IDS[getattr(e, end)])).index(edge)


def several(found: dict[str, list[tuple[float, int, str]]]) -> dict[str, list[str]]:
    return {key: [member for _, _, member in sorted(rows)] for key, rows in found.items() if len(rows) >= 2}


SAES = [
    (at, site, MODULES if site != "res" else WIDTH) for at in range(LAYERS) for site in ("att", "mlp", "res")
]
KEYS = [f"{at}/{site}/{idx}" for at, site, n in SAES for idx in range(n)]
IDS = {key: place for place, key in enumerate(KEYS)}
RESIDUAL = [key for key in KEYS if "/res/" in key]
CANDIDATES = [
    (src, dst, kind)
    for src in KEYS
    for dst in RESIDUAL
    for kind in [f"{src.split('/')[1]}_res"]
    if layer(dst) - layer(src) in ((1, 2) if kind == "res_res" else (0,)) and src != dst
]


@st.composite
def layered(draw: st.DrawFn) -> Layered:
    chosen = draw(st.lists(st.sampled_from(CANDIDATES), max_size=30, unique=True))
    edges = tuple(Edge(src, dst, kind, draw(SIGNED)) for src, dst, kind in chosen)
    return Layered(edges, tuple(draw(st.tuples(*[COSINES] * LAYERS))))


@st.composite
def dense(draw: st.DrawFn) -> Layered:
    """A graph with most of the edges it can have, and many paths that are equally good."""
    missing = draw(st.sets(st.sampled_from(CANDIDATES), max_size=30))
    cosine = st.sampled_from([0.25, 0.5, 0.5, 0.5, -0.5])
    edges = tuple(Edge(*ends, draw(cosine)) for ends in CANDIDATES if ends not in missing)
    return Layered(edges, tuple(draw(st.tuples(*[st.sampled_from([0.25, 0.5])] * LAYERS))))
