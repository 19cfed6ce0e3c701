"""Rows or a lineage as a networkx graph, and the formats that hold one.

Nodes are feature keys, in order of id; edges are in order of src, then dst. What is no feature of the graph
is a node without attributes, after the others. Imported only when a graph format is asked for.
"""

from collections.abc import Callable, Mapping
from typing import TextIO

import networkx

from featgraph.core.result import Result
from featgraph.core.text import printable
from featgraph.errors import UsageError
from featgraph.lineage.lineage import Lineage
from featgraph.output.format import Format
from featgraph.output.graphs.dot import dot
from featgraph.output.graphs.edges import INSTEAD, Arrows, arrows_of
from featgraph.output.graphs.mermaid import mermaid
from featgraph.output.graphs.node_link import node_link
from featgraph.output.graphs.xml import gexf, graphml
from featgraph.output.streams import note
from featgraph.output.values import json_rows
from featgraph.store import Store
from featgraph.store.features import Feature, Name, known_features

_WRITERS: dict[Format, Callable[[networkx.DiGraph], str]] = {
    "graphml": graphml,
    "gexf": gexf,
    "dot": dot,
    "mermaid": mermaid,
    "node-link": node_link,
}


def write_graph(graph: networkx.DiGraph, format: Format, stream: TextIO) -> None:
    """Write a graph.

    Raises UsageError: it has too many edges for the format.
    """
    stream.write(_WRITERS[format](graph))


def lineage_graph(lineage: Lineage) -> networkx.DiGraph:
    """Return a lineage as a graph; nodes also carry distance, weight and density."""
    graph = networkx.DiGraph()
    for row in json_rows(lineage.member_rows()):
        named = {"feature": row.pop("id"), **row}
        graph.add_node(
            named.pop("key"), **{name: value for name, value in named.items() if value is not None}
        )
    for row in json_rows(lineage.edge_rows()):
        graph.add_edge(row.pop("src"), row.pop("dst"), **row)
    return graph


def graph_of(result: Result, store: Store | None) -> networkx.DiGraph:
    """Return rows as a graph: rows with `src` and `dst` are edges, rows with a path are chains of edges.

    Other columns of an edge's row are its attributes; where several rows are one edge, it has those on which
    they agree, and `n`, how many they are. Edges of paths always have `n`.

    Raises UsageError: no column says which features are joined, or a path stays within one SAE.
    """
    arrows = arrows_of(result)
    names = arrows.names()
    known = known_features(store, names) if store is not None else {}
    nodes = {_node(name, known): known.get(name) for name in names}
    order = {node: _order(node, nodes[node]) for node in nodes}
    graph = networkx.DiGraph()
    for node in sorted(nodes, key=order.__getitem__):
        feature = nodes[node]
        graph.add_node(node, **(_attributes(feature) if feature else {}))
    edges = _merged(arrows, known)
    pairs = sorted(edges, key=lambda pair: (order[pair[0]], order[pair[1]]))
    graph.add_edges_from((*pair, edges[pair]) for pair in pairs)
    return graph


def _attributes(feature: Feature) -> dict[str, object]:
    """Return the attributes of a node, whose name is the key.

    The id is called `feature`, as in the tables, because `id` names the node itself in most formats.
    """
    attributes = {"feature": feature.id, **feature.key._asdict(), "label": feature.label}
    return {name: value for name, value in attributes.items() if value is not None}


def _node(name: Name, known: Mapping[Name, Feature]) -> str:
    return str(known[name].key) if name in known else printable(str(name))


def _order(node: str, feature: Feature | None) -> tuple[bool, int, str]:
    return (feature is None, feature.id if feature else 0, node)


def _merged(arrows: Arrows, known: Mapping[Name, Feature]) -> dict[tuple[str, str], dict[str, object]]:
    """Return each edge once, with the values on which its rows agree."""
    found: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for row in arrows.rows:
        pairs = {
            _pair(src, dst, arrows.path, known): said
            for src, dst, said in row
            if src is not None and dst is not None
        }
        for pair, said in pairs.items():
            found.setdefault(pair, []).append(said)
    merged, disagree = {}, 0
    for pair, rows in found.items():
        agreed = {
            name: value for name, value in rows[0].items() if all(row.get(name) == value for row in rows)
        }
        disagree += agreed.keys() != {name for row in rows for name in row}
        if (arrows.path is not None or len(rows) > 1) and not any("n" in row for row in rows):
            agreed["n"] = len(rows)
        merged[pair] = agreed
    if disagree:
        note(
            f"{disagree:,} of {len(merged):,} edges are in several rows; "
            "values in which these differ are left out"
        )
    return merged


def _pair(src: Name, dst: Name, path: str | None, known: Mapping[Name, Feature]) -> tuple[str, str]:
    """Return the nodes that an arrow joins; those of a path run downstream, however it lists them."""
    pair = (_node(src, known), _node(dst, known))
    if path is None or src not in known or dst not in known:
        return pair
    if known[src].key[:2] == known[dst].key[:2]:
        raise UsageError(f"column {path!r} holds no paths: {pair[0]} and {pair[1]} are of one SAE; {INSTEAD}")
    return pair if known[src].id < known[dst].id else (pair[1], pair[0])
