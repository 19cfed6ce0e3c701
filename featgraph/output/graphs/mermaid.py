"""A graph as a Mermaid flowchart, for notes and Markdown: one box per layer, from left to right."""

import re

import networkx

from featgraph.errors import UsageError
from featgraph.output.graphs.layers import by_layer, caption, edge_text

MOST_EDGES = 200
"""Edges above which the drawing cannot be read."""

MOST_TEXT = 50_000
"""Characters above which Mermaid itself refuses to draw, unless its `maxTextSize` is raised."""

_SPECIAL = re.compile(r"[!-+\-:-@\[-`{-~]|\.(?!\w)")
"""Signs in which Mermaid finds markup, Markdown and directives even inside quotes; not comma, slash, 0.5."""

_PAIRS = re.compile(r"\$(?=\$)|\\(?=n)")
"""Beginnings of a formula and a line break, which it finds even in what was escaped."""


def mermaid(graph: networkx.DiGraph) -> str:
    """Return the text of the file.

    Raises UsageError: it would have more than `MOST_EDGES` edges or `MOST_TEXT` characters.
    """
    if graph.number_of_edges() > MOST_EDGES:
        raise _too_large(f"{graph.number_of_edges():,} edges", f"{MOST_EDGES} can be read in a drawing")
    ids = {
        name: f"f{row['feature']}" if "feature" in row else f"u{n}"
        for n, (name, row) in enumerate(graph.nodes(data=True))
    }
    lines = ["flowchart LR"]
    for layer, nodes in by_layer(graph):
        drawn = [f'{ids[node[0]]}["{"<br/>".join(map(_escaped, caption(node)))}"]' for node in nodes]
        if layer is None:
            lines += [f"  {line}" for line in drawn]
        else:
            lines += [
                f'  subgraph layer{layer}["layer {layer}"]',
                *(f"    {line}" for line in drawn),
                "  end",
            ]
    for src, dst, attributes in graph.edges(data=True):
        text = _escaped(edge_text(attributes))
        arrow = f'-->|"{text}"|' if text else "-->"
        lines.append(f"  {ids[src]} {arrow} {ids[dst]}")
    drawing = "\n".join(lines) + "\n"
    if len(drawing) > MOST_TEXT:
        raise _too_large(f"{len(drawing):,} characters", f"Mermaid draws {MOST_TEXT:,}")
    return drawing


def _too_large(size: str, most: str) -> UsageError:
    return UsageError(
        f"{size} are too many for mermaid, at most {most}; ask for less (--min, --hops, --limit), "
        "or take --format dot, graphml or gexf"
    )


def _escaped(text: str) -> str:
    apart = _PAIRS.sub(lambda found: f"{found[0]}\N{ZERO WIDTH SPACE}", text)
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", apart)
