"""What a path pattern means, by brute force: every walk of a networkx graph, one at a time, without SQL.

A pattern is described by the dataclasses below; `spelling` turns the same description into the text of a
statement. Nothing here is quick, and nothing here knows of featgraph: it follows the definitions of
queries/README.md word by word. Order and scores are in double precision, from the stored 32-bit values.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from typing import Any, Literal

import networkx as nx
import numpy as np

Properties = dict[str, Any]
"""The columns of one feature, or of one edge."""

Binding = dict[str, Any]
"""What the variables stand for: Properties, a list of them (a group), or a Walk (a path variable)."""


@dataclass(frozen=True)
class Predicate:
    """A condition on one node or edge; in `text`, `{v}` is its own variable. None is SQL's NULL."""

    text: str
    holds: Callable[[Properties], bool | None]


@dataclass(frozen=True)
class Expression:
    """A column, or a condition of the final WHERE; in `text`, `{a}` is the variable a."""

    text: str
    value: Callable[[Binding], object]


@dataclass(frozen=True)
class NodeSpec:
    variable: str | None = None
    sites: tuple[str, ...] = ()
    key: str | None = None
    properties: tuple[tuple[str, object], ...] = ()
    predicate: Predicate | None = None


@dataclass(frozen=True)
class EdgeSpec:
    variable: str | None = None
    direction: Literal["right", "left"] = "right"
    kinds: tuple[str, ...] = ()
    properties: tuple[tuple[str, object], ...] = ()
    predicate: Predicate | None = None
    quantifier: tuple[int, int | None] | None = None
    """Least and largest number of edges, None for no limit; no quantifier at all is one edge, not a group."""


@dataclass(frozen=True)
class Selector:
    word: Literal["ALL", "ANY", "ANY SHORTEST", "ALL SHORTEST", "SHORTEST", "BEST"]
    k: int | None = None
    by: tuple[str, str] | None = None
    """BEST only: product, sum or min, and the edge column."""


@dataclass(frozen=True)
class PathSpec:
    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...] = ()
    selector: Selector | None = None
    variable: str | None = None


@dataclass(frozen=True)
class Query:
    paths: tuple[PathSpec, ...]
    columns: tuple[Expression, ...]
    where: tuple[Expression, ...] = ()
    """Conditions that must all hold."""
    shape: Literal["distinct", "counted", "largest", "totalled"] | None = None
    """What becomes of the rows: each once; each once with its number; one row with the largest values; each
    with the number of all."""


@dataclass(frozen=True)
class Walk:
    """One match of a path pattern: nodes and edges in pattern order, and the length of each edge element."""

    nodes: tuple[Properties, ...]
    edges: tuple[Properties, ...] = ()
    lengths: tuple[int, ...] = ()
    ids: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(node["id"] for node in self.nodes))

    @property
    def weight(self) -> float:
        return float(math.prod(edge["cosine"] for edge in self.edges))

    @property
    def bottleneck(self) -> float | None:
        return min((edge["cosine"] for edge in self.edges), default=None)


def answer(graph: nx.DiGraph, query: Query) -> Counter[tuple[object, ...]]:
    """Return the rows with their number, values as `comparable` leaves them."""
    rows = Counter(
        tuple(comparable(column.value(binding)) for column in query.columns)
        for binding in bindings(graph, query)
    )
    match query.shape:
        case "distinct":
            return Counter(set(rows))
        case "counted":
            return Counter((*row, number) for row, number in rows.items())
        case "totalled":
            return Counter({(*row, rows.total()): number for row, number in rows.items()})
        case "largest":
            return Counter(
                [tuple(_largest([row[place] for row in rows]) for place in range(len(query.columns)))]
            )
    return rows


def _largest(values: list[Any]) -> object:
    return max((value for value in values if value is not None), default=None)


def bindings(graph: nx.DiGraph, query: Query) -> list[Binding]:
    """Return what the variables stand for in each match: patterns joined on shared nodes, then WHERE."""
    joined: list[Binding] = [{}]
    for path in query.paths:
        found = [bound(path, walk) for walk in selected(path.selector, matches(graph, path))]
        joined = [
            {**one, **other}
            for one in joined
            for other in found
            if all(one[name]["id"] == other[name]["id"] for name in one.keys() & other.keys())
        ]
    return [one for one in joined if all(condition.value(one) is True for condition in query.where)]


def matches(graph: nx.DiGraph, path: PathSpec) -> list[Walk]:
    """Return every walk that fits, once for each way of dividing its edges among the pattern's."""
    starts = (Walk((graph.nodes[start],)) for start in graph)
    return [walk for start in starts for walk in _on_from(graph, path, start) if _agrees(path, walk)]


def _on_from(graph: nx.DiGraph, path: PathSpec, walk: Walk) -> Iterator[Walk]:
    place = len(walk.lengths)
    if not _fits_node(path.nodes[place], walk.nodes[-1]):
        return
    if place == len(path.edges):
        yield walk
        return
    for longer in _along(graph, path.edges[place], walk, 0):
        yield from _on_from(graph, path, longer)


def _along(graph: nx.DiGraph, spec: EdgeSpec, walk: Walk, length: int) -> Iterator[Walk]:
    """Go on over one edge element, of which `length` edges are walked already."""
    least, most = spec.quantifier or (1, 1)
    if length >= least:
        yield Walk(walk.nodes, walk.edges, (*walk.lengths, length))
    if most is not None and length >= most:
        return
    here, right = walk.ids[-1], spec.direction == "right"
    for end in graph.successors(here) if right else graph.predecessors(here):
        edge = graph.edges[(here, end) if right else (end, here)]
        if _fits_edge(spec, edge):
            farther = Walk((*walk.nodes, graph.nodes[end]), (*walk.edges, edge), walk.lengths)
            yield from _along(graph, spec, farther, length + 1)


def _fits_node(spec: NodeSpec, node: Properties) -> bool:
    named = spec.key is None or node["key"] == spec.key
    sited = not spec.sites or node["site"] in spec.sites
    return named and sited and _holds(spec, node)


def _fits_edge(spec: EdgeSpec, edge: Properties) -> bool:
    return (not spec.kinds or edge["kind"] in spec.kinds) and _holds(spec, edge)


def _holds(spec: NodeSpec | EdgeSpec, properties: Properties) -> bool:
    equal = all(properties[name] == _stored(value) for name, value in spec.properties)
    return equal and (spec.predicate is None or spec.predicate.holds(properties) is True)


def _stored(value: object) -> object:
    return float(np.float32(value)) if isinstance(value, float) else value


def _agrees(path: PathSpec, walk: Walk) -> bool:
    """Say whether a variable that stands at two places of the pattern stands for one node."""
    seen: dict[str, int] = {}
    stops = accumulate(walk.lengths, initial=0)
    pairs = [(spec.variable, walk.ids[stop]) for spec, stop in zip(path.nodes, stops, strict=True)]
    return all(seen.setdefault(name, node) == node for name, node in pairs if name is not None)


def bound(path: PathSpec, walk: Walk) -> Binding:
    """Return what the variables of the pattern stand for in one match of it."""
    stops = list(accumulate(walk.lengths, initial=0))
    binding: Binding = {path.variable: walk} if path.variable else {}
    for spec, stop in zip(path.nodes, stops, strict=True):
        if spec.variable:
            binding[spec.variable] = walk.nodes[stop]
    for edge, start, stop in zip(path.edges, stops[:-1], stops[1:], strict=True):
        if edge.variable:
            group = list(walk.edges[start:stop])
            binding[edge.variable] = group if edge.quantifier else group[0]
    return binding


def selected(selector: Selector | None, walks: list[Walk]) -> list[Walk]:
    """Return the walks that the selector keeps of each pair of first and last node."""
    if selector is None or selector.word == "ALL":
        return walks
    by = selector.by or ("product", "cosine") if selector.word == "BEST" else None
    pairs: dict[tuple[int, int], list[Walk]] = {}
    for walk in walks:
        if score(walk.edges, by) is not None:
            pairs.setdefault((walk.ids[0], walk.ids[-1]), []).append(walk)
    return [walk for rivals in pairs.values() for walk in _kept(selector, by, rivals)]


def _kept(selector: Selector, by: tuple[str, str] | None, rivals: list[Walk]) -> list[Walk]:
    least = min(len(walk.edges) for walk in rivals)
    if selector.word == "ALL SHORTEST":
        return [walk for walk in rivals if len(walk.edges) == least]

    def place(walk: Walk) -> tuple[object, ...]:
        best, length = -_score(walk.edges, by), len(walk.edges)
        first = (length, best) if "SHORTEST" in selector.word else (best, length)
        return (*first, tie(walk.ids, walk.edges, by), walk.lengths)

    return sorted(rivals, key=place)[: selector.k or 1]


def tie(ids: tuple[int, ...], edges: tuple[Properties, ...], by: tuple[str, str] | None) -> tuple[float, ...]:
    """Return the place among walks of one score, one length and one last node: smallest first."""
    if not edges:
        return ()
    return (ids[-2], -_score(edges[:-1], by), *tie(ids[:-1], edges[:-1], by))


def score(edges: tuple[Properties, ...], by: tuple[str, str] | None) -> float | None:
    """Return what a walk is ordered by; None if it does not qualify. `by` None: the weight for ordering."""
    if by is None:
        return math.prod((max(edge["cosine"], 0.0) for edge in edges), start=1.0)
    function, name = by
    values = [edge[name] for edge in edges]
    if any(value is None or (function == "product" and value <= 0) for value in values):
        return None
    if function == "min":
        return float(min(values, default=math.inf))
    return math.prod(values, start=1.0) if function == "product" else math.fsum(values)


def _score(edges: tuple[Properties, ...], by: tuple[str, str] | None) -> float:
    value = score(edges, by)
    assert value is not None, "the beginning of a walk that qualifies qualifies"
    return value


def comparable(value: object) -> object:
    """Return a value that equals another one where both are the same 32-bit float up to the last bits."""
    if isinstance(value, list | tuple):
        return tuple(comparable(one) for one in value)
    if isinstance(value, dict):
        return tuple((name, comparable(one)) for name, one in value.items())
    if isinstance(value, float | Decimal):
        return float(f"{np.float32(value):.6g}")
    return value
