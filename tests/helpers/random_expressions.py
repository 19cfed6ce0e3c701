"""The columns and the conditions of the final WHERE that a query may have, given its variables.

Each is here twice, as SQL text and as the Python that says the same, NULLs included.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from helpers.oracle import Binding, Expression, PathSpec, Properties, Walk
from helpers.random_graphs import FeatureGraph


def names_of(paths: Sequence[PathSpec]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return the variables of nodes, of single edges, of groups and of paths, each once."""
    nodes = [node.variable for path in paths for node in path.nodes]
    singles = [edge.variable for path in paths for edge in path.edges if edge.quantifier is None]
    groups = [edge.variable for path in paths for edge in path.edges if edge.quantifier is not None]
    walks = [path.variable for path in paths]
    unique = [
        list(dict.fromkeys(name for name in names if name)) for names in (nodes, singles, groups, walks)
    ]
    return unique[0], unique[1], unique[2], unique[3]


def columns_of(paths: Sequence[PathSpec], graph: FeatureGraph) -> list[Expression]:
    """Return every column that the variables allow; one at least."""
    nodes, singles, groups, walks = names_of(paths)
    found = [Expression("1 + 1", lambda _: 2)] if not (nodes or singles or groups or walks) else []
    # What tells matches apart comes first and more than once, so that it is drawn more often.
    for name in walks:
        found += [_of(name, text, value) for text, value in 2 * WALK_COLUMNS[:3] + WALK_COLUMNS]
    for name in nodes:
        found += [_of(name, text, value) for text, value in 2 * NODE_COLUMNS[:2] + NODE_COLUMNS]
        found.append(_written(name, graph))
    for name in singles:
        found += [_of(name, text, value) for text, value in EDGE_COLUMNS]
    for name in groups:
        found += [_of(name, text, value) for text, value in GROUP_COLUMNS]
    for one, other in pairwise(nodes):
        found.append(_sum_of_layers(one, other))
    return found


def conditions_of(paths: Sequence[PathSpec], graph: FeatureGraph) -> list[Expression]:
    """Return the conditions that the variables allow, possibly none."""
    nodes, singles, groups, walks = names_of(paths)
    found: list[Expression] = []
    for name in nodes:
        found += [_of(name, text, value) for text, value in _node_conditions(graph)]
    for name in singles:
        found += [_of(name, text, value) for text, value in EDGE_CONDITIONS]
    for name in groups:
        found += [_of(name, text, value) for text, value in GROUP_CONDITIONS]
    for name in walks:
        found += [_of(name, text, value) for text, value in WALK_CONDITIONS]
    for one, other in pairwise(nodes):
        found += _between_nodes(one, other)
    for name in singles:
        for node in nodes:
            found.append(_touches(name, node))
    return found


Part = tuple[str, Callable[[Any], object]]
"""Text in which `{v}` is the variable, and the value given what the variable stands for."""


def _of(name: str, text: str, value: Callable[[Any], object]) -> Expression:
    return Expression(text.replace("{v}", f"{{{name}}}"), lambda binding: value(binding[name]))


def _values(group: Sequence[Properties], column: str) -> list[Any]:
    return [edge[column] for edge in group if edge[column] is not None]


def _minimum(group: Sequence[Properties], column: str) -> Any:
    return min(_values(group, column), default=None)


def _maximum(group: Sequence[Properties], column: str) -> Any:
    return max(_values(group, column), default=None)


def _total(group: Sequence[Properties], column: str) -> Any:
    values = _values(group, column)
    return math.fsum(values) if values else None


def _average(group: Sequence[Properties], column: str) -> Any:
    values = _values(group, column)
    return math.fsum(values) / len(values) if values else None


def _product(group: Sequence[Properties], column: str) -> Any:
    values = _values(group, column)
    return math.prod(values) if values else None


def _triples(walk: Walk) -> list[dict[str, object]]:
    return [{name: edge[name] for name in ("src", "dst", "cosine")} for edge in walk.edges]


def _at_least(value: Any, least: float) -> bool | None:
    return None if value is None else bool(value >= least)


NODE_COLUMNS: list[Part] = [
    ("{v}.id", lambda n: n["id"]),
    ("{v}.key", lambda n: n["key"]),
    ("{v}.layer", lambda n: n["layer"]),
    ("{v}.site", lambda n: n["site"]),
    ("{v}.idx", lambda n: n["idx"]),
    ("{v}.density", lambda n: n["density"]),
    ("{v}.mean_activation", lambda n: n["mean_activation"]),
    ("{v}.top_tokens[1]", lambda n: n["top_tokens"][0] if n["top_tokens"] else None),
    ("upper({v}.site) || '->' || {v}.idx", lambda n: f"{n['site'].upper()}->{n['idx']}"),
    ("{v}.layer::varchar || {v}.idx::varchar", lambda n: f"{n['layer']}{n['idx']}"),
    ("case when {v}.s_res >= 0.5 then 'x' end", lambda n: "x" if _at_least(n["s_res"], 0.5) else None),
]

EDGE_COLUMNS: list[Part] = [
    ("{v}.cosine", lambda e: e["cosine"]),
    ("{v}.kind", lambda e: e["kind"]),
    ("{v}.src", lambda e: e["src"]),
    ("{v}.dst", lambda e: e["dst"]),
    ("{v}.pearson", lambda e: e["pearson"]),
    (
        "coalesce({v}.pearson, -1) + {v}.jaccard",
        lambda e: (-1 if e["pearson"] is None else e["pearson"]) + e["jaccard"],
    ),
    ("{v}.rank_in", lambda e: e["rank_in"]),
    ("{v}.n_both * 2", lambda e: e["n_both"] * 2),
    ("{v}.found_by", lambda e: e["found_by"]),
]

GROUP_COLUMNS: list[Part] = [
    ("count({v})", len),
    ("list({v}.cosine)", lambda g: [e["cosine"] for e in g]),
    ("list({v}.dst)", lambda g: [e["dst"] for e in g]),
    ("list({v}.pearson)", lambda g: [e["pearson"] for e in g]),
    ("count({v}.pearson)", lambda g: len(_values(g, "pearson"))),
    ("min({v}.cosine)", lambda g: _minimum(g, "cosine")),
    ("max({v}.pearson)", lambda g: _maximum(g, "pearson")),
    ("avg({v}.cosine)", lambda g: _average(g, "cosine")),
    ("avg({v}.pearson)", lambda g: _average(g, "pearson")),
    ("sum({v}.jaccard)", lambda g: _total(g, "jaccard")),
    ("sum({v}.pearson)", lambda g: _total(g, "pearson")),
    ("sum({v}.n_both)", lambda g: _total(g, "n_both")),
    ("product({v}.cosine)", lambda g: _product(g, "cosine")),
    ("product({v}.n_both)", lambda g: _product(g, "n_both")),
    ("min({v}.kind)", lambda g: _minimum(g, "kind")),
    ("list({v}.kind)", lambda g: [e["kind"] for e in g]),
    ("max({v}.src) - min({v}.src)", lambda g: _maximum(g, "src") - _minimum(g, "src") if g else None),
    (
        "coalesce(min({v}.pearson), -2)",
        lambda g: -2 if _minimum(g, "pearson") is None else _minimum(g, "pearson"),
    ),
    ("avg({v}.jaccard) * 100", lambda g: _average(g, "jaccard") * 100 if g else None),
    (
        "list_filter(list({v}.cosine), lambda x: x > 0.35)",
        lambda g: [e["cosine"] for e in g if e["cosine"] > 0.35],
    ),
    ("list({v}.found_by)[1]", lambda g: g[0]["found_by"] if g else None),
]

WALK_COLUMNS: list[Part] = [
    ("nodes({v})", lambda w: list(w.ids)),
    ("keys({v})", lambda w: [node["key"] for node in w.nodes]),
    ("edges({v})", _triples),
    ("vertices({v})", lambda w: list(w.ids)),
    ("path_length({v})", lambda w: len(w.edges)),
    ("weight({v})", lambda w: w.weight),
    ("bottleneck({v})", lambda w: w.bottleneck),
    ("nodes({v})[1] + path_length({v})", lambda w: w.ids[0] + len(w.edges)),
    ("len(edges({v}))", lambda w: len(w.edges)),
    ("list_transform(nodes({v}), lambda x: x * 2)", lambda w: [2 * one for one in w.ids]),
    ("edges({v})[-1]['dst']", lambda w: w.edges[-1]["dst"] if w.edges else None),
    ("{'n': path_length({v}), 'k': keys({v})[1]}.n", lambda w: len(w.edges)),
    ("edges({v})[1].cosine", lambda w: w.edges[0]["cosine"] if w.edges else None),
    ("keys({v})[-1] || ')'", lambda w: w.nodes[-1]["key"] + ")"),
    ("weight({v}) * 2 - 1", lambda w: w.weight * 2 - 1),
]

EDGE_CONDITIONS: list[Part] = [
    ("{v}.cosine >= 0.25", lambda e: e["cosine"] >= 0.25),
    ("{v}.pearson < 0.6", lambda e: None if e["pearson"] is None else e["pearson"] < 0.6),
    ("{v}.kind = 'res_res' or {v}.rank_out = 1", lambda e: e["kind"] == "res_res" or e["rank_out"] == 1),
]

GROUP_CONDITIONS: list[Part] = [
    ("min({v}.cosine) >= 0.25", lambda g: _at_least(_minimum(g, "cosine"), 0.25)),
    ("count({v}) <> 1", lambda g: len(g) != 1),
    ("avg({v}.cosine) > 0.3 or count({v}) = 0", lambda g: not g or _average(g, "cosine") > 0.3),
    ("sum({v}.n_both) >= 2", lambda g: _at_least(_total(g, "n_both"), 2)),
    ("coalesce(max({v}.pearson), 0) < 0.6", lambda g: (_maximum(g, "pearson") or 0) < 0.6),
    ("list({v}.kind) <> ['mlp_res']", lambda g: [e["kind"] for e in g] != ["mlp_res"]),
]

WALK_CONDITIONS: list[Part] = [
    ("path_length({v}) >= 1", lambda w: len(w.edges) >= 1),
    ("path_length({v}) = 2", lambda w: len(w.edges) == 2),
    ("weight({v}) > 0.2", lambda w: w.weight > 0.2),
    ("weight({v}) >= 0.25", lambda w: w.weight >= 0.25),
    ("bottleneck({v}) >= 0.25", lambda w: _at_least(w.bottleneck, 0.25)),
    ("len(nodes({v})) < 4", lambda w: len(w.nodes) < 4),
    ("not list_contains(nodes({v}), 2)", lambda w: 2 not in w.ids),
]


def _node_conditions(graph: FeatureGraph) -> list[Part]:
    layers = sorted({layer for layer, _, _ in graph.saes}) or [0]
    keys = [feature["key"] for feature in graph.features] or ["0/res/0"]
    low, high, first, last = layers[len(layers) // 3], layers[-1], keys[0], keys[-1]
    strong = {edge["dst"] for edge in graph.edges if edge["cosine"] >= 0.5}
    correlated = "exists (select 1 from edge x where x.dst = {v}.id and x.cosine >= 0.5)"
    return [
        (correlated, lambda n: n["id"] in strong),
        (f"{{v}}.key = '{last}'", lambda n: n["key"] == last),
        (f"{{v}}.key in ('{first}', '{last}')", lambda n: n["key"] in (first, last)),
        (f"not {{v}}.key = '{first}'", lambda n: n["key"] != first),
        (f"{{v}}.layer > {low}", lambda n: n["layer"] > low),
        (f"{{v}}.layer = {high}", lambda n: n["layer"] == high),
        (f"{{v}}.layer in ({low}, {high})", lambda n: n["layer"] in (low, high)),
        (f"{{v}}.layer <> {low} or {{v}}.site = 'mlp'", lambda n: n["layer"] != low or n["site"] == "mlp"),
        ("{v}.idx = 0", lambda n: n["idx"] == 0),
        ("{v}.density > 0.1", lambda n: n["density"] > 0.1),
        (
            "{v}.mean_activation < 2",
            lambda n: None if n["mean_activation"] is None else n["mean_activation"] < 2,
        ),
    ]


def _between_nodes(one: str, other: str) -> list[Expression]:
    """Conditions on two nodes at once."""

    def both(text: str, value: Callable[[Properties, Properties], bool]) -> Expression:
        return Expression(
            text.replace("{x}", f"{{{one}}}").replace("{y}", f"{{{other}}}"),
            lambda binding: value(binding[one], binding[other]),
        )

    return [
        both("{x}.layer < {y}.layer", lambda x, y: x["layer"] < y["layer"]),
        both("{x}.id <> {y}.id", lambda x, y: x["id"] != y["id"]),
        both("{y}.layer - {x}.layer <= 2", lambda x, y: y["layer"] - x["layer"] <= 2),
        both("{x}.idx = {y}.idx or {x}.id > {y}.id", lambda x, y: x["idx"] == y["idx"] or x["id"] > y["id"]),
        both("abs({x}.density - {y}.density) < 0.3", lambda x, y: abs(x["density"] - y["density"]) < 0.3),
    ]


def _sum_of_layers(one: str, other: str) -> Expression:
    def total(binding: Binding) -> object:
        return binding[one]["layer"] + binding[other]["layer"]

    return Expression(f"{{{one}}}.layer + {{{other}}}.layer", total)


def _written(name: str, graph: FeatureGraph) -> Expression:
    """How many edges lead to a node, by a subselect."""
    text = f"(select count(*) from edge x where x.dst = {{{name}}}.id)"
    return Expression(text, lambda binding: graph.networkx.in_degree(binding[name]["id"]))


def _touches(edge: str, node: str) -> Expression:
    def value(binding: Binding) -> object:
        return binding[node]["id"] in (binding[edge]["src"], binding[edge]["dst"])

    return Expression(f"{{{node}}}.id in ({{{edge}}}.src, {{{edge}}}.dst)", value)
