"""Small random feature graphs with every oddity that a real one may have.

Empty SAEs, single features, missing layers and sites, edges that skip layers, hubs, ties, cosines of zero
and below, measures that are NULL. Ids are topological, as in a real graph. This file knows nothing of
featgraph.
"""

from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from helpers.oracle import Properties

SITES = ("att", "mlp", "res")
EXACT = (0.5, 0.25, 0.75, 0.5, 0.125, 0.0, -0.25)
"""Few, with exact products and sums, so that ties and equality with a threshold happen often."""
ROUNDED = (0.7, 0.3, 0.5, 0.7, 0.1, -0.3)
"""Not what they seem in 32 bits."""
TIED = (0.5, 0.5, 0.5, 0.25)
"""So few that most paths of one length between two features have the same score."""
CLOSE_PRODUCTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.75)
CLOSE_SUMS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Those of two are another one, or those of two others, in 32 bits and not in 64."""
_PEARSON = (None, 0.25, -0.5, 0.5, None, 0.75)
_DENSITY = (0.25, 0.0, 0.5, 0.125, 0.7)


@dataclass(frozen=True)
class FeatureGraph:
    """SAEs as (layer, site, number of features) in topological order; edges as (src, dst, cosine)."""

    saes: tuple[tuple[int, str, int], ...]
    links: tuple[tuple[int, int, float], ...]

    @cached_property
    def features(self) -> list[Properties]:
        places = [(layer, site, idx) for layer, site, n in self.saes for idx in range(n)]
        return [_feature(number, *place) for number, place in enumerate(places)]

    @cached_property
    def edges(self) -> list[Properties]:
        links = [(src, dst, _kind(self.features[src]), _single(cosine)) for src, dst, cosine in self.links]
        return [
            {
                "src": src,
                "dst": dst,
                "kind": kind,
                "cosine": cosine,
                "rank_out": 1
                + sum(s == src and k == kind and (-c, d) < (-cosine, dst) for s, d, k, c in links),
                "rank_in": 1
                + sum(d == dst and k == kind and (-c, s) < (-cosine, src) for s, d, k, c in links),
                "n_both": (src + 2 * dst) % 4,
                "jaccard": (0.5, 0.125, 0.25)[(src + dst) % 3],
                "pearson": _PEARSON[(src + 3 * dst) % len(_PEARSON)],
                "found_by": "both" if (src + dst) % 2 else "cosine",
            }
            for src, dst, kind, cosine in sorted(links)
        ]

    @cached_property
    def networkx(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        graph.add_nodes_from((feature["id"], feature) for feature in self.features)
        graph.add_edges_from((edge["src"], edge["dst"], edge) for edge in self.edges)
        return graph

    @cached_property
    def first_ids(self) -> list[int]:
        return [sum(n for _, _, n in self.saes[:sae]) for sae in range(len(self.saes))]


def _feature(number: int, layer: int, site: str, idx: int) -> Properties:
    density = _single(_DENSITY[(number + layer) % len(_DENSITY)])
    return {
        "id": number,
        "key": f"{layer}/{site}/{idx}",
        "layer": layer,
        "site": site,
        "idx": idx,
        "density": density,
        "mean_activation": None if density == 0 else 1.5 + idx,
        "s_res": (None, 0.25, 0.5)[number % 3],
        "top_tokens": [f"token{idx}", f" it's {layer}"] if density else [],
    }


def _single(value: float) -> float:
    return float(np.float32(value))


def _kind(writer: Properties) -> str:
    return f"{writer['site']}_res"


@dataclass(frozen=True)
class Shape:
    """How many layers, how many features per SAE (None: there is no such SAE), how many edges that skip."""

    least: int = 2
    most: int = 5
    residuals: tuple[int | None, ...] = (2, 1, 3, 2, 3, 0, None)
    modules: tuple[int | None, ...] = (None, 1, None, 2, 0)
    seldom: int = 4
    """How much rarer an edge is that skips a layer, or joins a module to a later one."""


TALL = Shape(6, 8, (2, 1, 2, 2, None), (None, None, None, None, 1), seldom=12)


@st.composite
def feature_graphs(
    draw: st.DrawFn, shape: Shape = Shape(), cosines: tuple[float, ...] = EXACT
) -> FeatureGraph:
    """Layers with gaps between their numbers, densely or sparsely joined, perhaps with a hub."""
    layers = draw(st.lists(st.integers(0, 9), min_size=shape.least, max_size=shape.most, unique=True))
    layers.sort()
    modules, residuals = st.sampled_from(shape.modules), st.sampled_from(shape.residuals)
    saes: list[tuple[int, str, int]] = []
    for layer in layers:
        sizes = draw(st.tuples(modules, modules, residuals))
        saes += [(layer, site, n) for site, n in zip(SITES, sizes, strict=True) if n is not None]
    ends = [(place, layers.index(layer), site) for place, (layer, site, _) in enumerate(_each(saes))]
    near = [(a[0], b[0]) for a in ends for b in ends if _near(a, b)]
    far = [(a[0], b[0]) for a in ends for b in ends if _far(a, b)]
    hub = draw(st.none() | st.sampled_from(range(len(ends)))) if ends else None
    missing = draw(st.sampled_from([1, 0, 8]))
    often: list[float | None] = [*cosines, *[None] * missing]
    seldom: list[float | None] = [*cosines[:3], *[None] * (shape.seldom + missing)]
    links: list[tuple[int, int, float]] = []
    for candidates, choices in ((near, often), (far, seldom)):
        rich = [value for value in choices if value is not None]
        chosen = draw(st.tuples(*[st.sampled_from(rich if hub in pair else choices) for pair in candidates]))
        links += [(*pair, value) for pair, value in zip(candidates, chosen, strict=True) if value is not None]
    return FeatureGraph(tuple(saes), tuple(sorted(links)))


def _each(saes: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    return [(layer, site, idx) for layer, site, n in saes for idx in range(n)]


def _near(a: tuple[int, int, str], b: tuple[int, int, str]) -> bool:
    """Say whether an ordinary plan joins the two: a layer to the next, a module to its own residual."""
    return b[2] == "res" and b[1] - a[1] == (1 if a[2] == "res" else 0)


def _far(a: tuple[int, int, str], b: tuple[int, int, str]) -> bool:
    return b[2] == "res" and (2 <= b[1] - a[1] <= 3 or (b[1] - a[1] == 1 and a[2] != "res"))
