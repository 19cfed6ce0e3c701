"""A graph as GraphML or GEXF, written by networkx.

Both are XML, which cannot hold control characters: in names and texts they are escaped as in a table. Every
attribute has one type throughout; a list is JSON text.
"""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import networkx

from featgraph.core.text import xml_text
from featgraph.output.values import csv_cell

_GEXF_OWN = {"id", "key", "type", "start", "end", "viz", "spells"}
"""Attribute names that GEXF reserves on an edge."""


def graphml(graph: networkx.DiGraph) -> str:
    """Return the text of the file."""
    written = io.BytesIO()
    networkx.write_graphml_xml(_typed(graph), written)
    return written.getvalue().decode()


def gexf(graph: networkx.DiGraph) -> str:
    """Return the text of the file, without its date, so that equal graphs are equal files.

    A column that GEXF would take for something else, such as `start`, gets a `_` at its end.
    """
    typed = _typed(graph)
    for _, _, attributes in typed.edges(data=True):
        for name in list(attributes):
            if name in _GEXF_OWN or (name == "weight" and isinstance(attributes[name], str)):
                attributes[f"{name}_"] = attributes.pop(name)
    written = io.BytesIO()
    networkx.write_gexf(typed, written)
    return re.sub(r' lastmodifieddate="[-\d]+"', "", written.getvalue().decode(), count=1)


def _typed(graph: networkx.DiGraph) -> networkx.DiGraph:
    """Return a copy whose names, texts and types XML can hold."""
    typed = networkx.DiGraph()
    typed.add_nodes_from(zip(graph, _uniform([row for _, row in graph.nodes(data=True)]), strict=True))
    edges = _uniform([row for _, _, row in graph.edges(data=True)])
    typed.add_edges_from((*pair, row) for pair, row in zip(graph.edges, edges, strict=True))
    return typed


def _uniform(rows: list[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return rows in which every attribute is of one type: whole number, number, truth value or else text."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).add(type(value))
    types = {name: _common(found) for name, found in kinds.items()}
    return [{xml_text(name): types[name](value) for name, value in row.items()} for row in rows]


def _common(kinds: set[type]) -> Callable[[Any], object]:
    if len(kinds) == 1 and kinds <= {bool, int, float}:
        return next(iter(kinds))
    return float if kinds == {int, float} else _text


def _text(value: object) -> str:
    return xml_text(str(csv_cell(value)))
