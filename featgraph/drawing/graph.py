"""What a lineage picture is made of: features in columns, and links between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Site = Literal["att", "mlp", "res"]
Origin = Literal["mlp", "att", "mlp+att", "unexplained"]
Line = str | tuple[str, ...]
"""A sentence, which is cut after a word, or words, of which as many are shown as there is room for."""

SITES: tuple[Site, ...] = ("att", "mlp", "res")
"""In the order in which a block computes them."""

DOUBTFUL = 0.1
"""Evidence below this makes a link a doubtful one, which is drawn dashed, as is one without evidence."""


@dataclass(frozen=True)
class Writer:
    """An mlp or att feature that writes a residual one."""

    key: str
    site: Site
    value: float
    """Of the measure, 0 to 1."""


@dataclass(frozen=True)
class Node:
    """One feature as it is drawn."""

    key: str
    layer: int
    site: Site = "res"
    lines: tuple[Line, ...] = ()
    """First what it fires on, then what it promotes; a sentence alone takes the room of both."""
    born: Origin | None = None
    dies: bool = False
    writers: tuple[Writer, ...] = ()
    """Strongest first."""
    n_writers: int | None = None
    """How many there are; None: no more than `writers`."""
    n_parents_elsewhere: int = 0
    """How many parents pass that are not in the picture."""
    n_children_elsewhere: int = 0
    part: Literal["first", "second"] | None = None
    """Of two graphs, the one that alone has it."""
    note: str = ""
    """More about it, which shows while a reader points at it; line by line."""


@dataclass(frozen=True)
class Link:
    """A candidate edge from an upstream feature to a downstream one."""

    src: str
    dst: str
    value: float
    """Of the measure, above 0: the ribbon is as wide."""
    evidence: float | None = None
    """Its colour, 0 to 1; None is none, which makes the link doubtful, as does less than `DOUBTFUL`."""
    note: str = ""
    """More about it, which shows while a reader points at it."""

    @property
    def is_doubtful(self) -> bool:
        """Whether there is little evidence beside the measure."""
        return self.evidence is None or not self.evidence >= DOUBTFUL


@dataclass(frozen=True)
class LineageGraph:
    """All that a lineage picture shows.

    Raises ValueError: a key stands twice, a link names no node or does not point downstream, or its value is
    not above 0.
    """

    nodes: Sequence[Node]
    links: Sequence[Link]
    seed: str | None = None
    title: str = ""
    subtitle: str = ""
    measure: str | None = "cosine"
    """Name of what makes ribbons wide; None: nothing does, all values should be the same."""
    evidence: str | None = "pearson"
    """Name of what colours ribbons; None: nothing does, no link is doubtful."""
    n_left_out: int = 0
    """Features that belong to it and are not drawn."""
    parts: tuple[str, str] = ("the first graph", "the second graph")
    """Names of the two graphs of `Node.part`."""
    columns: tuple[tuple[int, Site], ...] = field(init=False)
    """Layers and sites that occur, in the order of the model."""

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
