"""A lineage as a tree of text: layers from first to last, their features, and below each feature its writers.

Drawn without Rich, whose import takes a third as long as DuckDB's: see `cli.cold_start`.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from featgraph.core.text import pluralize, printable
from featgraph.lineage.lineage import Edge, Lineage, Member
from featgraph.output.streams import bare

SHOWN_WRITERS = 3
"""Writers drawn below a feature; the rest are counted. `--format table` lists all."""


_GUIDES = ("├── ", "└── ", "│   ", "    ")
_ASCII_GUIDES = ("+-- ", "`-- ", "|   ", "    ")
"""The guides before a node, before the last node, and below each of them."""

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass
class Node:
    """One line of a tree, and the nodes below it."""

    text: str
    style: str = ""
    """Escape sequence that a terminal needs for it."""
    below: list["Node"] = field(default_factory=list)

    def add(self, text: str, style: str = "") -> "Node":
        """Add a node below and return it."""
        self.below.append(Node(text, style))
        return self.below[-1]


def print_tree(root: Node, stream: TextIO, width: int | None = None) -> None:
    """Write a tree; each line is cut at the width, none is wrapped.

    width: columns; left out, those of the terminal, and as many as needed elsewhere.
    """
    stream = bare(stream)  # for our own codes; what a graph says was made printable
    terminal = stream.isatty()
    if width is None and terminal:
        width = shutil.get_terminal_size().columns
    styled = terminal and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    guides = _GUIDES if (stream.encoding or "").lower().startswith("utf") else _ASCII_GUIDES
    for guide, node in [("", root), *_below(root, guides)]:
        text = node.text if width is None else _cut(node.text, width - len(guide))
        if styled:
            guide = f"{_DIM}{guide}{_PLAIN}" if guide else ""
            text = f"{node.style}{text}{_PLAIN}" if node.style else text
        stream.write(f"{guide}{text}\n")


def _below(root: Node, guides: tuple[str, str, str, str], before: str = "") -> Iterator[tuple[str, Node]]:
    """Yield each node below the root with the guide that stands before it."""
    item, last_item, beside, blank = guides
    for node in root.below:
        last = node is root.below[-1]
        yield before + (last_item if last else item), node
        yield from _below(node, guides, before + (blank if last else beside))


def _cut(text: str, width: int) -> str:
    """Return text at most `width` terminal columns wide; an ellipsis stands for what is cut off."""
    if len(text) * (1 if text.isascii() else 2) <= width:  # no letter takes more than two columns
        return text
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + "…"


def tree(lineage: Lineage) -> Node:
    """Return a lineage as a tree."""
    line = [member for member in lineage.members if member.site == "res" or member.key == lineage.seed]
    seed = next(member for member in line if member.key == lineage.seed)
    members = {member.key: member for member in lineage.members}
    width = max(len(member.key) for member in line)
    drawn = Node(_title(lineage, line), _BOLD)
    for layer in sorted({member.layer for member in line}):
        branch = drawn.add(f"layer {layer}")
        for member in line:
            if member.layer == layer:
                described = f"{member.key:{width}}  {_link(lineage, member, seed)}{_label(member)}"
                node = branch.add(described.rstrip(), _BOLD if member is seed else "")
                writing = _writing(lineage, member)
                for edge in writing[:SHOWN_WRITERS]:
                    writer = members[edge.src]
                    node.add(f"{writer.key}  writes {edge.cosine:.2f}{_label(writer)}", _DIM)
                if len(writing) > SHOWN_WRITERS:
                    more = pluralize(len(writing) - SHOWN_WRITERS, "weaker writer")
                    node.add(f"and {more}", _DIM)
    return drawn


def _title(lineage: Lineage, line: list[Member]) -> str:
    first, last = line[0].layer, line[-1].layer
    layers = f"layer {first}" if first == last else f"layers {first} to {last}"
    features = pluralize(len(line), "feature")
    writers = pluralize(len(lineage.members) - len(line), "writer")
    measure = "" if lineage.by == "cosine" else f" by {lineage.by}"
    return f"lineage of {lineage.seed}{measure}: {features} in {layers}, {writers}"


def _link(lineage: Lineage, member: Member, seed: Member) -> str:
    """Return the strongest edge from a member towards the seed: measure, direction, other end."""
    if member is seed:
        return "<- seed"
    above = member.id < seed.id
    joining = [edge for edge in lineage.edges if (edge.src if above else edge.dst) == member.key]
    best = max((edge for edge in joining if edge.kind == "res_res"), key=lambda edge: edge.value)
    way = f"to {best.dst}" if above else f"from {best.src}"
    others = sum(edge.kind == "res_res" for edge in joining) - 1
    return f"{best.value:.2f} {way}" + (f" +{others}" if others else "")


def _label(member: Member) -> str:
    return f"  {printable(member.label)}" if member.label else ""


def _writing(lineage: Lineage, member: Member) -> list[Edge]:
    """Return the edges of the mlp and att features that write one member, strongest first."""
    edges = [edge for edge in lineage.edges if edge.dst == member.key and edge.kind != "res_res"]
    return sorted(edges, key=lambda edge: -edge.cosine)
