"""Random patterns over a random graph, as the descriptions of `oracle`; `spelling` writes them down.

Each condition and column is here twice, as SQL text and as the Python that says the same, NULLs included.
Names: nodes a, b, c ...; edges e, f, g ...; paths p, q, r.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from helpers.oracle import (
    EdgeSpec,
    Expression,
    NodeSpec,
    PathSpec,
    Predicate,
    Query,
    Selector,
    bindings,
    matches,
    selected,
)
from helpers.random_expressions import columns_of, conditions_of
from helpers.random_graphs import FeatureGraph

NODES, EDGES, PATHS = "abcdhijkstu", "efglmn", "pqr"
QUANTIFIERS: tuple[tuple[int, int | None], ...] = (
    (1, None),
    (0, None),
    (1, 3),
    (0, 1),
    (2, 2),
    (1, 2),
    (0, 2),
    (2, None),
    (1, 1),
    (1, 40),
    (3, 3),
    (0, 0),
)
MOST_MATCHES = 20_000
"""Of all patterns of a query together, multiplied; what has more takes brute force too long."""

_SELECTORS = {
    "ALL": st.just(Selector("ALL")),
    "ANY": st.just(Selector("ANY")),
    "ANY SHORTEST": st.just(Selector("ANY SHORTEST")),
    "ALL SHORTEST": st.just(Selector("ALL SHORTEST")),
    "SHORTEST": st.builds(Selector, st.just("SHORTEST"), st.integers(1, 4)),
    "BEST": st.builds(
        Selector,
        st.just("BEST"),
        st.sampled_from([None, 2, 1, 3, 50]),
        st.none()
        | st.tuples(
            st.sampled_from(["product", "sum", "min"]),
            st.sampled_from(["cosine", "jaccard", "pearson", "n_both"]),
        ),
    ),
}


def selectors(word: str) -> st.SearchStrategy[Selector]:
    """Return selectors that begin with the given word."""
    return _SELECTORS[word]


def node_predicates(graph: FeatureGraph, layer: int, number: int) -> list[Predicate]:
    """Conditions on a feature, many on its layer in ways that a compiler may or may not see through."""
    keys = [feature["key"] for feature in graph.features] or ["0/res/0"]
    key = keys[number % len(keys)]
    sources = {edge["src"] for edge in graph.edges if edge["cosine"] > 0.25}
    p = Predicate
    return [
        p(f"{{v}}.layer = {layer}", lambda n: n["layer"] == layer),
        p(f"{{v}}.layer >= {layer}", lambda n: n["layer"] >= layer),
        p(f"{layer} >= {{v}}.layer", lambda n: layer >= n["layer"]),
        p(f"{{v}}.layer between {layer - 1} and {layer + 1}", lambda n: abs(n["layer"] - layer) <= 1),
        p(f"{{v}}.layer in ({layer}, {layer + 1})", lambda n: n["layer"] in (layer, layer + 1)),
        p(f"{{v}}.layer not in ({layer})", lambda n: n["layer"] != layer),
        p(f"not {{v}}.layer = {layer}", lambda n: n["layer"] != layer),
        p(f"{{v}}.layer <> {layer} and {{v}}.idx >= 0", lambda n: n["layer"] != layer),
        p(f"{{v}}.layer = {layer} or {{v}}.idx = 0", lambda n: n["layer"] == layer or n["idx"] == 0),
        p(f"({{v}}.layer = {layer}) is not true", lambda n: n["layer"] != layer),
        p(f"{{v}}.layer < {layer}.5 and {{v}}.layer > 0.5", lambda n: 0 < n["layer"] <= layer),
        p(f"{{v}}.layer = '{layer}'", lambda n: n["layer"] == layer),
        p(f"{{v}}.layer + 1 = {layer + 1}", lambda n: n["layer"] == layer),
        p(f"-{{v}}.layer <= -{layer}", lambda n: n["layer"] >= layer),
        p(f"{{v}}.layer < {layer} is false", lambda n: n["layer"] >= layer),
        p(f"{{v}}.layer between {layer + 1} and {layer}", lambda n: False),
        p(
            f"case when {{v}}.layer = {layer} then {{v}}.idx = 0 else true end",
            lambda n: n["layer"] != layer or n["idx"] == 0,
        ),
        p(f"{{v}}.layer = {layer}.0", lambda n: n["layer"] == layer),
        p(f"{{v}}.layer < {layer}e0", lambda n: n["layer"] < layer),
        p("{v}.layer < 99999999999 and {v}.layer > -1", lambda n: True),
        p("{v}.layer = null", lambda n: None),
        p(f"{{v}}.key = '{key}'", lambda n: n["key"] == key),
        p(f"'{key}' = {{v}}.key or {{v}}.idx = 1", lambda n: n["key"] == key or n["idx"] == 1),
        p(f"{{v}}.key in ('{key}', '{keys[-1]}', 'x')", lambda n: n["key"] in (key, keys[-1])),
        p(f"{{v}}.key <> '{key}'", lambda n: n["key"] != key),
        p(f"{{v}}.key = ' {key}'", lambda n: False),
        p(f"{{v}}.id = {number}", lambda n: n["id"] == number),
        p(f"{{v}}.id in ({number}, {number + 2})", lambda n: n["id"] in (number, number + 2)),
        p(f"{{v}}.id between {number} and {number + 3}", lambda n: number <= n["id"] <= number + 3),
        p("{v}.layer = {v}.idx", lambda n: n["layer"] == n["idx"]),
        p(f"{{v}}.id <= {number}", lambda n: n["id"] <= number),
        p(f"{{v}}.id <> {number}", lambda n: n["id"] != number),
        p("{v}.site = 'res'", lambda n: n["site"] == "res"),
        p("{v}.site in ('res', 'mlp')", lambda n: n["site"] in ("res", "mlp")),
        p("{v}.density < 0.7", lambda n: n["density"] < float(np.float32(0.7))),
        p("{v}.density >= 0.25", lambda n: n["density"] >= 0.25),
        p("{v}.mean_activation is not null", lambda n: n["mean_activation"] is not None),
        p(
            "not ({v}.mean_activation > 2)",
            lambda n: n["mean_activation"] is not None and n["mean_activation"] <= 2,
        ),
        p("{v}.key like '%/res/%' or {v}.density > 0.1", lambda n: n["site"] == "res" or n["density"] > 0.1),
        p("{v}.key <> ')]->(' and {v}.idx in (0, 1)", lambda n: n["idx"] in (0, 1)),
        p(
            f"list_contains({{v}}.top_tokens, ' it''s {layer}')",
            lambda n: f" it's {layer}" in n["top_tokens"],
        ),
        p("{v}.id in (select src from edge where cosine > 0.25)", lambda n: n["id"] in sources),
    ]


def edge_predicates(cosine: float, number: int) -> list[Predicate]:
    """Conditions on an edge, with a cosine that edges of the graph have."""
    least = float(np.float32(cosine))
    p = Predicate
    return [
        p(f"{{v}}.cosine >= {cosine}", lambda e: e["cosine"] >= least),
        p(f"{{v}}.cosine > {cosine}", lambda e: e["cosine"] > least),
        p(f"{cosine} <= {{v}}.cosine", lambda e: least <= e["cosine"]),
        p(f"{{v}}.cosine<>{cosine}", lambda e: e["cosine"] != least),
        p(f"not {{v}}.cosine = {cosine}", lambda e: e["cosine"] != least),
        p(f"{{v}}.cosine between {cosine} and 1", lambda e: least <= e["cosine"] <= 1),
        p(
            "{v}.cosine >-0.3 and {v}.cosine<-0.1 or {v}.cosine > 0",
            lambda e: e["cosine"] != 0 and e["cosine"] > float(np.float32(-0.3)),
        ),
        p("abs({v}.cosine) > 0.2", lambda e: abs(e["cosine"]) > 0.2),
        p("{v}.cosine >= [0.25, 0.9][1]", lambda e: e["cosine"] >= 0.25),
        p("{v}.pearson is not null", lambda e: e["pearson"] is not None),
        p("{v}.pearson is null or {v}.pearson >= 0.5", lambda e: e["pearson"] is None or e["pearson"] >= 0.5),
        p("{v}.pearson > 0.25", lambda e: e["pearson"] is not None and e["pearson"] > 0.25),
        p("not ({v}.pearson > 0.25)", lambda e: e["pearson"] is not None and e["pearson"] <= 0.25),
        p("coalesce({v}.pearson, 0) < 0.5", lambda e: (e["pearson"] or 0) < 0.5),
        p("{v}.kind = 'res_res'", lambda e: e["kind"] == "res_res"),
        p("{v}.kind <> 'att_res'", lambda e: e["kind"] != "att_res"),
        p(
            "{v}.kind = 'mlp_res' or {v}.cosine >= 0.25",
            lambda e: e["kind"] == "mlp_res" or e["cosine"] >= 0.25,
        ),
        p("{v}.rank_in <= 2", lambda e: e["rank_in"] <= 2),
        p("{v}.rank_in = 1 or {v}.rank_out = 1", lambda e: 1 in (e["rank_in"], e["rank_out"])),
        p(f"{{v}}.dst - {{v}}.src <= {number}", lambda e: e["dst"] - e["src"] <= number),
        p(f"{{v}}.src <> {number}", lambda e: e["src"] != number),
        p("{v}.found_by in ('both', ']->(b')", lambda e: e["found_by"] == "both"),
        p("{v}.jaccard < {v}.cosine", lambda e: e["jaccard"] < e["cosine"]),
    ]


def _some(draw: st.DrawFn, one_in: int) -> bool:
    """Say yes one time in so many; no is what shrinking ends at."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


class _Drawer:
    """Draws the parts of one query; hands out variables."""

    def __init__(self, draw: st.DrawFn, graph: FeatureGraph) -> None:
        self.draw, self.graph = draw, graph
        self.nodes, self.edges, self.paths = list(NODES), list(EDGES), list(PATHS)
        self.layers = sorted({layer for layer, _, _ in graph.saes}) or [0]
        self.cosines = sorted({cosine for _, _, cosine in graph.links if cosine >= 0}) or [0.5]

    def node(self) -> NodeSpec:
        draw, graph = self.draw, self.graph
        shape = draw(st.integers(0, 9))
        name = self.nodes.pop(0) if shape else None
        sites = draw(st.sampled_from([(), ("res",), (), ("res", "mlp"), ("mlp",), ("res", "att", "mlp")]))
        key = draw(st.sampled_from(graph.features))["key"] if graph.features and shape == 9 else None
        predicate = None
        if name and shape in (6, 7, 8):
            predicate = draw(st.sampled_from(self.node_predicates()))
        return NodeSpec(name, sites, key, self.node_properties() if shape == 5 else (), predicate)

    def node_predicates(self) -> list[Predicate]:
        layer = self.draw(st.sampled_from(self.layers))
        return node_predicates(self.graph, layer, self.draw(st.integers(0, 9)))

    def node_properties(self) -> tuple[tuple[str, object], ...]:
        layer = self.draw(st.sampled_from(self.layers))
        choices: list[tuple[tuple[str, object], ...]] = [
            (("layer", layer),),
            (("idx", 0),),
            (("site", "res"),),
            (("layer", layer), ("site", "res")),
            (("density", 0.25),),
            (("mean_activation", 1.5),),
        ]
        return self.draw(st.sampled_from(choices))

    def edge(self, quantified: bool, left: bool) -> EdgeSpec:
        draw = self.draw
        name = self.edges.pop(0) if draw(st.integers(0, 3)) else None
        kinds = draw(
            st.sampled_from(
                [(), ("res_res",), (), ("mlp_res", "res_res"), ("mlp_res",), ("res_res", "att_res")]
            )
        )
        if kinds == ("mlp_res",) and quantified:
            kinds = ()
        predicate: Predicate | None = None
        properties: tuple[tuple[str, object], ...] = ()
        shape = draw(st.integers(0, 5))
        if name and shape in (3, 4, 5):
            predicate = draw(
                st.sampled_from(edge_predicates(draw(st.sampled_from(self.cosines)), draw(st.integers(1, 9))))
            )
        elif shape == 2:
            properties = draw(
                st.sampled_from([(("cosine", self.cosines[-1]),), (("kind", "res_res"),), (("rank_in", 1),)])
            )
        quantifier = draw(st.sampled_from(QUANTIFIERS)) if quantified else None
        return EdgeSpec(name, "left" if left else "right", kinds, properties, predicate, quantifier)

    def path(self, selector: Selector | None, known: Sequence[str], longest: int) -> PathSpec:
        draw = self.draw
        n = draw(st.sampled_from([1, 2, 1, longest, 1, 2, 0]))
        left, mixed = _some(draw, 3), _some(draw, 5)
        one_group = selector is not None or not _some(draw, 4)
        several = draw(st.integers(0, max(n - 1, 0))) if one_group else -1
        edges = [
            self.edge(place == several or _some(draw, 5), draw(st.booleans()) if mixed else left)
            for place in range(n)
        ]
        shared = draw(st.integers(0, n)) if len(known) > 0 and draw(st.integers(0, 5)) > 0 else -1
        again = draw(st.integers(1, n)) if n and _some(draw, 10) else -1
        nodes: list[NodeSpec] = []
        for place in range(n + 1):
            own = [node.variable for node in nodes if node.variable] if place == again else []
            names = [*(known if place == shared else ()), *own]
            nodes.append(NodeSpec(draw(st.sampled_from(names))) if names else self.node())
        variable = self.paths.pop(0) if draw(st.integers(0, 2)) else None
        return PathSpec(tuple(nodes), tuple(edges), selector, variable)


@st.composite
def queries(draw: st.DrawFn, graph: FeatureGraph, word: str | None = None, n_paths: int = 1) -> Query:
    """Return a query whose first pattern has a selector of the given word, and the rest any or none."""
    drawer = _Drawer(draw, graph)
    paths: list[PathSpec] = []
    for place in range(n_paths):
        known = [node.variable for path in paths for node in path.nodes if node.variable]
        chosen = word if place == 0 else draw(st.sampled_from([None, None, *_SELECTORS]))
        selector = draw(selectors(chosen)) if chosen else None
        paths.append(drawer.path(selector, known, 3 if n_paths == 1 else 2))
    columns = draw(st.lists(st.sampled_from(columns_of(paths, graph)), min_size=1, max_size=5))
    conditions = conditions_of(paths, graph)
    where: list[Expression] = []
    if conditions and _some(draw, 3):
        where = draw(st.lists(st.sampled_from(conditions), min_size=1, max_size=2))
    shape = draw(st.sampled_from(_SHAPES))
    if shape == "counted" and "{" not in columns[0].text:
        shape = None  # DuckDB groups by constants as if they were not there
    if shape == "largest":
        columns = [column for column in columns if not _is_list(column)] or columns[:1]
        shape = None if _is_list(columns[0]) else shape
    query = Query(tuple(paths), tuple(columns), tuple(where), shape)
    query = query if _some(draw, 8) else _telling(graph, query)
    if math.prod(len(matches(graph.networkx, path)) for path in query.paths) > MOST_MATCHES:
        reject()
    return query


_SHAPES: tuple[Literal["distinct", "counted", "largest", "totalled"] | None, ...] = (
    *(None, None, None, None, None, None),
    *("distinct", "counted", "largest", "totalled"),
)


def _is_list(column: Expression) -> bool:
    """Say whether the values are lists, whose order by size is DuckDB's own."""
    return re.match(r"list_|(list|nodes|vertices|edges|keys)\([^)]*\)$", column.text) is not None


def _telling(graph: FeatureGraph, query: Query) -> Query:
    """Lift conditions until there is an answer, and until the selector of the first pattern drops a match."""
    answered: Query | None = None
    selector = query.paths[0].selector
    every = selector is None or selector.word == "ALL"
    for candidate in _lifted(query):
        first = candidate.paths[0]
        found = matches(graph.networkx, first)
        choice = every or len(selected(first.selector, found)) < len(found)
        if found and (choice or answered is None) and bindings(graph.networkx, candidate):
            answered = candidate
            if choice:
                break
    return answered or query


def _lifted(query: Query) -> Iterator[Query]:
    """Yield the query with more and more of its conditions lifted."""
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"predicate": None}, {}),
        ({"key": None, "properties": ()}, {}),
        ({}, {"predicate": None, "properties": ()}),
        ({"sites": ()}, {"kinds": ()}),
    ]
    for of_nodes, of_edges in steps:
        paths = [
            replace(
                path,
                nodes=tuple(replace(node, **of_nodes) for node in path.nodes),
                edges=tuple(replace(edge, **of_edges) for edge in path.edges),
            )
            for path in query.paths
        ]
        query = replace(query, paths=tuple(paths))
        yield query
        if query.where:
            yield replace(query, where=())
    yield replace(query, where=(), paths=tuple(_widened(path) for path in query.paths))


def _widened(path: PathSpec) -> PathSpec:
    edges = [replace(edge, quantifier=(0, None)) if edge.quantifier else edge for edge in path.edges]
    return replace(path, edges=tuple(edges))
