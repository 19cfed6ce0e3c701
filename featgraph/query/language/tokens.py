"""A statement as words, strings, numbers and symbols, each with its place in the text.

SQL is passed on as it was written, so symbols stay single characters: only patterns give them a meaning.
Blanks are those of DuckDB, which takes U+200B, U+2060 and U+FEFF for some too.
Comments are not tokens, but a token knows of the one before it, because `-->` begins a comment in SQL.
"""

import re
from dataclasses import dataclass
from typing import Literal

from featgraph.errors import QueryError

TokenKind = Literal["word", "quoted", "string", "number", "parameter", "symbol", "end"]

_TOKEN = re.compile(
    r"""
    (?P<blank>[\s\u200b\u2060\ufeff]+)
  | (?P<comment>--[^\n]*|/\*.*?\*/)
  | (?P<string>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>[^\W\d]?\w*)\$.*?\$(?P=tag)\$)
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<parameter>\$(?:\w|[^\x00-\x7f\s\u200b\u2060\ufeff])+|\?)
  | (?P<number>\d[\d_]*(?:\.(?!\.)[\d_]*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<word>(?:[^\W\d]|[^\x00-\x7f\s\u200b\u2060\ufeff])(?:[\w$]|[^\x00-\x7f\s\u200b\u2060\ufeff])*)
  | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_UNCLOSED = {"'": "this string has no closing '", '"': 'this name has no closing "'}


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `start` and `end` are offsets into the statement."""

    kind: TokenKind
    text: str
    start: int
    end: int
    comment: int | None = None
    """Where the comment before this token starts, if there is one."""

    @property
    def name(self) -> str:
        """The name that a word or quoted name stands for, lower case, since SQL's names have no case."""
        return (self.text[1:-1].replace('""', '"') if self.kind == "quoted" else self.text).lower()

    @property
    def is_name(self) -> bool:
        """Whether it can name a variable, a property or a column."""
        return self.kind in ("word", "quoted")

    def is_word(self, *words: str) -> bool:
        """Whether it is one of some keywords, given in lower case."""
        return self.kind == "word" and self.text.lower() in words

    def is_symbol(self, *symbols: str) -> bool:
        """Whether it is one of some symbols."""
        return self.kind == "symbol" and self.text in symbols


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a statement; the last one has the kind `end`.

    Raises QueryError: a string, a quoted name or a comment that is not closed.
    """
    tokens: list[Token] = []
    comment: int | None = None
    for piece in _TOKEN.finditer(text):
        kind = piece.lastgroup if piece.lastgroup != "tag" else "string"
        start, end = piece.span()
        if kind == "blank":
            continue
        if kind == "comment":
            comment = start if comment is None else comment
            continue
        if kind == "symbol" and piece[0] in _UNCLOSED:
            raise QueryError(_UNCLOSED[piece[0]], text, start)
        if kind == "symbol" and text.startswith("/*", start):
            raise QueryError("this comment has no closing */", text, start)
        tokens.append(Token(kind, piece[0], start, end, comment))  # type: ignore[arg-type]
        comment = None
    tokens.append(Token("end", "", len(text), len(text), comment))
    return tokens


def closing(tokens: list[Token], opening: int, text: str) -> int:
    """Return the place of the bracket that closes the one at place `opening`.

    Raises QueryError: there is none, or another kind of bracket closes first.
    """
    pairs = {"(": ")", "[": "]", "{": "}"}
    waiting: list[Token] = []
    for place in range(opening, len(tokens)):
        token = tokens[place]
        if token.kind != "symbol":
            continue
        if token.text in pairs:
            waiting.append(token)
        elif token.text in pairs.values():
            if token.text != pairs[waiting[-1].text]:
                raise QueryError(f"{token.text!r} does not close {waiting[-1].text!r}", text, token.start)
            waiting.pop()
            if not waiting:
                return place
    last = waiting[-1]
    raise QueryError(f"this {last.text!r} is not closed; add {pairs[last.text]!r}", text, last.start)


def split(tokens: list[Token], *separators: str) -> list[list[Token]]:
    """Return the parts of some tokens between separators (symbols) that stand outside all brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.is_symbol("(", "[", "{"):
            depth += 1
        elif token.is_symbol(")", "]", "}"):
            depth -= 1
        if depth == 0 and token.is_symbol(*separators):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
