"""A lineage as a Rich tree: layers from first to last, their features, and below each feature its writers."""

from rich.text import Text
from rich.tree import Tree

from featgraph.core.text import pluralize, printable
from featgraph.lineage.lineage import Edge, Lineage, Member

SHOWN_WRITERS = 3
"""Writers drawn below a feature; the rest are counted. `--format table` lists all."""


def tree(lineage: Lineage) -> Tree:
    """Return the tree; each line is cut at the console's width, none is wrapped."""
    line = [member for member in lineage.members if member.site == "res" or member.key == lineage.seed]
    seed = next(member for member in line if member.key == lineage.seed)
    members = {member.key: member for member in lineage.members}
    width = max(len(member.key) for member in line)
    drawn = Tree(_text(_title(lineage, line), "bold"), guide_style="dim")
    for layer in sorted({member.layer for member in line}):
        branch = drawn.add(_text(f"layer {layer}"))
        for member in line:
            if member.layer == layer:
                described = f"{member.key:{width}}  {_link(lineage, member, seed)}{_label(member)}"
                node = branch.add(_text(described.rstrip(), "bold" if member is seed else ""))
                writing = _writing(lineage, member)
                for edge in writing[:SHOWN_WRITERS]:
                    writer = members[edge.src]
                    node.add(_text(f"{writer.key}  writes {edge.cosine:.2f}{_label(writer)}", "dim"))
                if len(writing) > SHOWN_WRITERS:
                    more = pluralize(len(writing) - SHOWN_WRITERS, "weaker writer")
                    node.add(_text(f"and {more}", "dim"))
    return drawn


def _text(content: str, style: str = "") -> Text:
    return Text(content, style=style, no_wrap=True, overflow="ellipsis")


def _title(lineage: Lineage, line: list[Member]) -> str:
    first, last = line[0].layer, line[-1].layer
    layers = f"layer {first}" if first == last else f"layers {first} to {last}"
    features = pluralize(len(line), "feature")
    writers = pluralize(len(lineage.members) - len(line), "writer")
    return f"lineage of {lineage.seed}: {features} in {layers}, {writers}"


def _link(lineage: Lineage, member: Member, seed: Member) -> str:
    """Return the strongest edge that joins a member to the seed's side: cosine, direction, other end."""
    if member is seed:
        return "<- seed"
    above = member.id < seed.id
    joining = [edge for edge in lineage.edges if (edge.src if above else edge.dst) == member.key]
    best = max((edge for edge in joining if edge.kind == "res_res"), key=lambda edge: edge.cosine)
    way = f"to {best.dst}" if above else f"from {best.src}"
    others = sum(edge.kind == "res_res" for edge in joining) - 1
    return f"{best.cosine:.2f} {way}" + (f" +{others}" if others else "")


def _label(member: Member) -> str:
    return f"  {printable(member.label)}" if member.label else ""


def _writing(lineage: Lineage, member: Member) -> list[Edge]:
    """Return the edges of the mlp and att features that write one member, strongest first."""
    edges = [edge for edge in lineage.edges if edge.dst == member.key and edge.kind != "res_res"]
    return sorted(edges, key=lambda edge: -edge.cosine)
