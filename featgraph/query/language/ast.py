"""What a MATCH says, as it was written: nothing is looked up here, and expressions stay runs of tokens."""

from dataclasses import dataclass
from typing import Literal

from featgraph.core.keys import Score
from featgraph.query.language.tokens import Token

Expression = tuple[Token, ...]
Choice = Literal["all", "any", "all shortest", "shortest", "best"]


@dataclass(frozen=True)
class Element:
    """What nodes and edges have in common: `var :label|label {property: literal} WHERE condition`."""

    at: Token
    """The token at which it begins."""
    variable: Token | None = None
    labels: tuple[Token, ...] = ()
    """Sites of a node, kinds of an edge."""
    properties: tuple[tuple[Token, Expression], ...] = ()
    where: Expression = ()
    key: Token | None = None
    """Of a node: a feature key as a string, or a parameter that holds one."""


@dataclass(frozen=True)
class Quantifier:
    """How often an edge repeats: from `low` to `high` times; `high` None means as often as possible."""

    low: int
    high: int | None


@dataclass(frozen=True)
class EdgePattern:
    """One arrow; `down` = it points from left to right."""

    element: Element
    down: bool
    quantifier: Quantifier | None = None


@dataclass(frozen=True)
class Selector:
    """Which of the paths between the same two ends are kept."""

    choice: Choice = "all"
    k: int = 1
    by: Score = "product"
    prop: str = "cosine"
    at: Token | None = None


@dataclass(frozen=True)
class PathPattern:
    """`nodes[0] edges[0] nodes[1] edges[1] ... nodes[-1]` with its selector and its own name."""

    selector: Selector
    variable: Token | None
    nodes: tuple[Element, ...]
    edges: tuple[EdgePattern, ...]


@dataclass(frozen=True)
class Match:
    """`MATCH path, path, ... WHERE condition`."""

    paths: tuple[PathPattern, ...]
    where: Expression
