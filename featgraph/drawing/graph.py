"""The content of a lineage picture: features in columns, and links between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Site = Literal["att", "mlp", "res"]
Origin = Literal["mlp", "att", "mlp+att", "unexplained"]
Line = str | tuple[str, ...]
"""One line of a card: a sentence, cut after a word if it is too long, or a tuple of words, as many as fit."""

SITES: tuple[Site, ...] = ("att", "mlp", "res")
"""The sites in the order in which a block computes them."""

DOUBTFUL = 0.1
"""A link with evidence below this, or with none, is doubtful and drawn dashed. Our choice."""


@dataclass(frozen=True)
class Writer:
    """An mlp or att feature that writes a residual feature."""

    key: str
    site: Site
    value: float
    """Value of the measure, 0 to 1."""


@dataclass(frozen=True)
class Node:
    """A feature in a lineage picture."""

    key: str
    layer: int
    site: Site = "res"
    lines: tuple[Line, ...] = ()
    """Tokens on which the feature fires, then tokens that it promotes; or one sentence, on two lines."""
    born: Origin | None = None
    dies: bool = False
    writers: tuple[Writer, ...] = ()
    """Strongest first."""
    n_writers: int | None = None
    """Number of writers, drawn or not; None: the length of `writers`."""
    n_parents_elsewhere: int = 0
    """Parents above the threshold that are not drawn."""
    n_children_elsewhere: int = 0
    part: Literal["first", "second"] | None = None
    """In a comparison of two graphs: the graph that has this feature, if the other one does not."""
    note: str = ""
    """Further lines of the tooltip."""


@dataclass(frozen=True)
class Link:
    """A candidate edge from an upstream feature to a downstream one."""

    src: str
    dst: str
    value: float
    """Value of the measure, above 0; the width of the ribbon."""
    evidence: float | None = None
    """Evidence, 0 to 1; the colour of the ribbon. None: not measured."""
    note: str = ""
    """A further line of the tooltip."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the evidence is missing or below `DOUBTFUL`."""
        return self.evidence is None or not self.evidence >= DOUBTFUL


@dataclass(frozen=True)
class LineageGraph:
    """The content of a lineage picture: features and links.

    Raises ValueError: two nodes have the same key; a link names no node, does not point downstream,
    or has a value of 0 or less.
    """

    nodes: Sequence[Node]
    links: Sequence[Link]
    seed: str | None = None
    title: str = ""
    subtitle: str = ""
    measure: str | None = "cosine"
    """Name of the measure that sets the width of ribbons; None: all links should have the same value."""
    evidence: str | None = "pearson"
    """Name of the evidence that colours ribbons; None: one colour, and no link is doubtful."""
    n_left_out: int = 0
    """Number of features of the lineage that are not drawn."""
    parts: tuple[str, str] = ("the first graph", "the second graph")
    """In a comparison: the names of the first and the second graph."""
    columns: tuple[tuple[int, Site], ...] = field(init=False)
    """The (layer, site) pairs of the nodes, in the order of the model; one column each."""

    def __post_init__(self) -> None:
        places: dict[str, tuple[int, int]] = {}
        for node in self.nodes:
            if node.key in places:
                raise ValueError(f"two nodes have the key {node.key!r}")
            places[node.key] = (node.layer, SITES.index(node.site))
        for link in self.links:
            for key in (link.src, link.dst):
                if key not in places:
                    raise ValueError(f"the link {link.src!r} -> {link.dst!r} names no node by {key!r}")
            if places[link.src] >= places[link.dst]:
                raise ValueError(f"the link {link.src!r} -> {link.dst!r} does not point downstream")
            if not 0 < link.value < float("inf"):
                raise ValueError(f"the link {link.src!r} -> {link.dst!r} has the value {link.value!r}")
        columns = tuple((layer, SITES[site]) for layer, site in sorted(set(places.values())))
        object.__setattr__(self, "columns", columns)
