"""A graph as node-link JSON, as `networkx.node_link_graph` reads it: lists `nodes` and `edges`.

Lists of edges named `edges` are networkx's default since 3.6; before that, pass `edges="edges"`, up to 3.3
`link="edges"`. That argument changed its name, so this is written here, with one node or edge per line.
"""

import json
from collections.abc import Mapping

import networkx

_ENDS = ("source", "target")


def node_link(graph: networkx.DiGraph) -> str:
    """Return the text of the file; a column named `source` or `target` becomes `source_` or `target_`."""
    nodes = [{"id": node, **attributes} for node, attributes in graph.nodes(data=True)]
    edges = [
        {"source": src, "target": dst, **_renamed(attributes)}
        for src, dst, attributes in graph.edges(data=True)
    ]
    return (
        '{\n  "directed": true,\n  "multigraph": false,\n  "graph": {},\n'
        f'  "nodes": {_lines(nodes)},\n  "edges": {_lines(edges)}\n}}\n'
    )


def _renamed(attributes: Mapping[str, object]) -> dict[str, object]:
    return {f"{name}_" if name in _ENDS else name: value for name, value in attributes.items()}


def _lines(items: list[dict[str, object]]) -> str:
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    return "[\n    " + ",\n    ".join(lines) + "\n  ]" if lines else "[]"
