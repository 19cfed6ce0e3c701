"""Where the cursor stands in a statement, and what the names in the statement stand for.

A statement that is being typed is seldom whole, so nothing here parses: brackets and the last clause
keyword in each of them are enough to tell what may come next.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from featgraph.query.language.tokens import Token
from featgraph.shell.vocabulary import MEASURES

Role = Literal["statement", "graph", "node", "edge", "properties", "measure", "call", "group"]

_CLAUSES = {
    "select": "select",
    "from": "from",
    "join": "from",
    "describe": "from",
    "summarize": "from",
    "where": "where",
    "on": "where",
    "having": "where",
    "qualify": "where",
    "group": "by",
    "order": "by",
    "partition": "by",
    "limit": "limit",
    "offset": "limit",
    "match": "match",
    "return": "return",
    "columns": "return",
    "union": "",
    "except": "",
    "intersect": "",
    "explain": "",
    "with": "with",
}
KEYWORDS = _CLAUSES.keys() | {
    *("all", "and", "any", "as", "asc", "best", "between", "by", "case", "cross", "desc", "distinct", "else"),
    *("end", "exists", "full", "in", "inner", "is", "left", "like", "not", "null", "or", "right", "shortest"),
    *("then", "using", "when", "values", "recursive", "materialized"),
}
"""Words that never name anything here."""


@dataclass
class Frame:
    """What an open bracket holds, up to the cursor."""

    role: Role
    clause: str = ""
    owner: str = ""
    """The verb of a call; the role that properties belong to."""
    tokens: list[Token] = field(default_factory=list)
    """Those directly in it; a bracket inside leaves its two ends."""
    source: str = ""
    """The table or verb that the next name would be an alias of."""

    @property
    def last(self) -> Token | None:
        """The token before the cursor."""
        return self.tokens[-1] if self.tokens else None

    @property
    def in_pattern(self) -> bool:
        """Whether a bracket that opens here would be a node or an edge."""
        return self.clause == "match" and self.role in ("statement", "graph")


@dataclass
class Names:
    """What a statement names."""

    owners: dict[str, str] = field(default_factory=dict)
    """Variable or alias -> the table or verb whose columns it has."""
    variables: list[str] = field(default_factory=list)
    """The pattern variables among the owners."""
    paths: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """The tables and verbs that it reads."""
    subqueries: list[str] = field(default_factory=list)
    """Names that WITH introduces."""


def read(tokens: Iterable[Token], verbs: Iterable[str]) -> tuple[list[Frame], Names]:
    """Return the brackets open after the last token, outermost first, and the names of the last statement."""
    walk = _Walk(set(verbs))
    for token in tokens:
        walk.step(token)
    return walk.frames, walk.names


class _Walk:
    """The state while a statement is read token by token."""

    def __init__(self, verbs: set[str]) -> None:
        self.verbs = verbs
        self.frames = [Frame("statement")]
        self.names = Names()

    def step(self, token: Token) -> None:
        frame = self.frames[-1]
        if token.is_symbol(";"):
            self.frames, self.names = [Frame("statement")], Names()
        elif token.is_symbol("(", "[", "{"):
            self.frames.append(self._opened(frame, token.text))
            frame.tokens.append(token)
        elif token.is_symbol(")", "]", "}"):
            if len(self.frames) > 1:
                self.frames.pop()
            self.frames[-1].tokens.append(token)
        else:
            self._name(frame, token)
            frame.tokens.append(token)

    def _opened(self, frame: Frame, bracket: str) -> Frame:
        """Return the frame of a bracket that opens in another."""
        word = frame.last.name if frame.last and frame.last.kind == "word" else ""
        if bracket == "{":
            return Frame("properties", owner=frame.role if frame.role in ("node", "edge") else "")
        if frame.in_pattern:
            if bracket == "[":
                return Frame("edge")
            return Frame("measure" if f"{word}(" in MEASURES else "node")
        if word == "graph_table":
            return Frame("graph")
        if word in self.verbs:
            return Frame("call", owner=word)
        if frame.role == "graph" and frame.clause == "return":
            return Frame("group", "return")
        starts = bracket == "(" and word in ("from", "join", "as", "in", "exists", "materialized", "")
        return Frame("group", "" if starts and frame.clause in ("from", "with", "") else "where")

    def _name(self, frame: Frame, token: Token) -> None:
        """Take note of a clause that begins, or of what a name stands for."""
        before = frame.last
        if token.kind == "word" and token.name in _CLAUSES and not (before and before.is_symbol(".")):
            frame.clause = _CLAUSES[token.name]
            frame.source = ""
        elif token.is_word("as"):
            if frame.clause == "with" and before and before.is_name:
                self.names.subqueries.append(before.name)
        elif not token.is_name or token.name in KEYWORDS:
            if token.is_symbol("=") and frame.in_pattern and before and before.is_name:
                self.names.paths.append(before.name)
            frame.source = ""
        elif frame.role in ("node", "edge") and before is None:
            self._owned(token.name, "feature" if frame.role == "node" else "edge")
            self.names.variables.append(token.name)
        elif frame.clause == "from" and (before is None or before.is_symbol(",") or before.name in _CLAUSES):
            frame.source = token.name
            self.names.sources.append(token.name)
            self._owned(token.name, token.name)
        elif frame.source:
            self._owned(token.name, frame.source)
            frame.source = ""

    def _owned(self, name: str, owner: str) -> None:
        self.names.owners.setdefault(name, owner)
