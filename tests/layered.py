"""Small random layered graphs, and what the definitions of lineage, split, merge, birth, death say of them.

The oracle follows the definitions word by word, one feature and one way at a time, without SQL. This file
knows nothing of featgraph.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

LAYERS, WIDTH, MODULES = 4, 3, 2
COSINES = st.sampled_from([0.125, 0.25, 0.375, 0.5, 0.625, 0.75])
"""Few and exact in 32 bits, so that ties and equality with the threshold happen often."""


@dataclass(frozen=True)
class Edge:
    src: str
    dst: str
    kind: str
    cosine: float


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
        """Every feature on a way from `key`, with the length of the ways and the best product of cosines."""
        found: dict[str, tuple[int, float]] = {}
        ways = [(key, 0, 1.0)]
        while ways:
            here, distance, weight = ways.pop()
            for e in self.passing(least):
                start, end = (e.dst, e.src) if up else (e.src, e.dst)
                if start == here and (hops is None or distance < hops):
                    ways.append((end, distance + 1, weight * e.cosine))
                    found[end] = (distance + 1, max(weight * e.cosine, found.get(end, (0, 0.0))[1]))
        return found

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


def layer(key: str) -> int:
    return int(key.split("/")[0])


def rank(edge: Edge, rivals: list[Edge], end: str) -> int:
    return 1 + sorted(rivals, key=lambda e: (-e.cosine, IDS[getattr(e, end)])).index(edge)


def several(found: dict[str, list[tuple[float, int, str]]]) -> dict[str, list[str]]:
    return {key: [member for _, _, member in sorted(rows)] for key, rows in found.items() if len(rows) >= 2}


SLABS = [
    (at, site, MODULES if site != "res" else WIDTH) for at in range(LAYERS) for site in ("att", "mlp", "res")
]
KEYS = [f"{at}/{site}/{idx}" for at, site, n in SLABS for idx in range(n)]
IDS = {key: place for place, key in enumerate(KEYS)}
RESIDUAL = [key for key in KEYS if "/res/" in key]
CANDIDATES = [
    (src, dst, kind)
    for src in KEYS
    for dst in RESIDUAL
    for kind in [f"{src.split('/')[1]}_res"]
    if layer(dst) - layer(src) == (1 if kind == "res_res" else 0) and src != dst
]


@st.composite
def layered(draw: st.DrawFn) -> Layered:
    chosen = draw(st.lists(st.sampled_from(CANDIDATES), max_size=30, unique=True))
    edges = tuple(Edge(src, dst, kind, draw(COSINES)) for src, dst, kind in chosen)
    return Layered(edges, tuple(draw(st.tuples(*[COSINES] * LAYERS))))
