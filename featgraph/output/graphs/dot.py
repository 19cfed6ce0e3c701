"""A graph in Graphviz's DOT language: one rank per layer, from left to right."""

import re
from collections.abc import Mapping

import networkx

from featgraph.core.text import printable
from featgraph.output.graphs.layers import by_layer, caption, edge_text
from featgraph.output.streams import note
from featgraph.output.values import csv_cell

CROWDED = 2_000
"""Edges above which a drawing takes long and cannot be read."""

_BARE = re.compile(r"(?!(?i:node|edge|graph|digraph|subgraph|strict)$)[A-Za-z_][A-Za-z0-9_]*|-?\d+(\.\d+)?")
"""Words and numbers that DOT reads without quotes: no keywords, no exponents."""


def dot(graph: networkx.DiGraph) -> str:
    """Return the text of the file; beyond `CROWDED` edges, say on stderr that it will not draw well."""
    if graph.number_of_edges() > CROWDED:
        note(
            f"{graph.number_of_edges():,} edges are slow to draw and hard to read; "
            "tools that filter, such as Gephi, read graphml and gexf"
        )
    lines = ["digraph featgraph {", "  rankdir=LR", "  node [shape=box]"]
    for layer, nodes in by_layer(graph):
        drawn = [
            _statement(_quoted(node[0]), node[1], "\\n".join(map(_shown, caption(node)))) for node in nodes
        ]
        if layer is None:
            lines += [f"  {line}" for line in drawn]
        else:
            lines += ["  {", "    rank=same", *(f"    {line}" for line in drawn), "  }"]
    for src, dst, attributes in graph.edges(data=True):
        ends = f"{_quoted(src)} -> {_quoted(dst)}"
        lines.append("  " + _statement(ends, attributes, _shown(edge_text(attributes))))
    return "\n".join([*lines, "}"]) + "\n"


def _statement(subject: str, attributes: Mapping[str, object], label: str) -> str:
    """Return a node or an edge with its attributes; the label is already escaped."""
    listed = [f'label="{label}"'] if label else []
    listed += [f"{_id(name)}={_id(value)}" for name, value in attributes.items() if name != "label"]
    return f"{subject} [{' '.join(listed)}]" if listed else subject


def _id(value: object) -> str:
    text = printable(str(csv_cell(value)))
    return text if _BARE.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _shown(text: str) -> str:
    """Return text for a label, in which Graphviz would read `&` as the start of an HTML entity."""
    return _escaped(text.replace("&", "&amp;"))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
