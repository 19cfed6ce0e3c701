"""Nodes layer by layer, and the captions of nodes and edges, for the drawn formats."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import cast

import networkx

from featgraph.core.text import printable

Node = tuple[str, Mapping[str, object]]


def by_layer(graph: networkx.DiGraph) -> Iterator[tuple[int | None, list[Node]]]:
    """Yield each layer with its nodes; last None, for names that are no feature of the graph."""
    nodes: list[Node] = sorted(graph.nodes(data=True), key=_layer)
    for layer, members in groupby(nodes, key=_layer):
        yield (None if layer == _NOWHERE else int(layer)), list(members)


def caption(node: Node) -> list[str]:
    """Return the caption of a node: its key, and its label if it has one."""
    name, attributes = node
    return [name, printable(str(attributes["label"]))] if "label" in attributes else [name]


def edge_text(attributes: Mapping[str, object]) -> str:
    """Return the caption of an edge: its label if it has one, else its cosine, else nothing."""
    if "label" in attributes:
        return printable(str(attributes["label"]))
    cosine = attributes.get("cosine")
    return f"{cosine:.2f}" if isinstance(cosine, (int, float)) else ""


_NOWHERE = float("inf")


def _layer(node: Node) -> float:
    return cast(float, node[1].get("layer", _NOWHERE))
