"""Lines that are typed or piped in -> statements and dot commands, one by one.

A statement ends with `;` and may take any number of lines; a dot command is one line. What is inside a
string, a quoted name or a comment ends nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise

from featgraph.errors import QueryError
from featgraph.query.language.tokens import Token, tokenize

_WORDS = ("exit", "help", "quit")
"""Dot commands that are understood without their dot, because so many shells do."""


@dataclass(frozen=True)
class Input:
    """One statement without its `;`, or one dot command."""

    text: str
    """A statement is padded to stand where it stands in its source: `LINE 7` in an error is line 7."""
    line: int
    """The line of the source in which it starts, from 1."""
    is_command: bool = False


def scan(text: str) -> tuple[list[Token], int | None]:
    """Return the tokens of some text, and where a string, name or comment starts that is not closed.

    >>> tokens, unclosed = scan("select 'it; ")
    >>> [token.text for token in tokens], unclosed
    (['select'], 7)
    """
    unclosed = None
    try:
        tokens = tokenize(text)[:-1]
    except QueryError as error:
        unclosed = error.position or 0
        tokens = tokenize(text[:unclosed])[:-1]
    # A string between two $tag$ that has no second one is read as parameters side by side.
    for place, (token, after) in enumerate(pairwise(tokens)):
        opens = token.is_symbol("$") or token.kind == "parameter"
        if opens and after.text.startswith("$") and after.start == token.end:
            return tokens[:place], token.start
    return tokens, unclosed


def is_command(line: str) -> bool:
    r"""Say whether a line that starts an input is a dot command; `\d` and the like are taken as attempts."""
    stripped = line.strip()
    return stripped.startswith((".", "\\")) or stripped.rstrip("; ").lower() in _WORDS


def is_complete(text: str) -> bool:
    """Say whether nothing is left open, so that Enter may run the text.

    >>> [is_complete(text) for text in ("select 1;", "select 1", "select ';", ".help", "exit", "")]
    [True, False, False, True, True, True]
    """
    reader = _Reader()
    whole = [given for line in StringIO(text) for given in reader.feed(line)]
    return not reader.pending.strip() or (bool(whole) and scan(reader.pending) == ([], None))


def inputs(lines: Iterable[str]) -> Iterator[Input]:
    """Yield each input as soon as its last line was read; the last statement needs no `;`."""
    reader = _Reader()
    for line in lines:
        yield from reader.feed(line)
    if scan(reader.pending) != ([], None):
        yield _statement(reader.pending, reader.line, 0)


class _Reader:
    """Gathers lines until a statement is whole."""

    def __init__(self) -> None:
        self.pending = ""
        self.line = 1
        """The line of the source in which `pending` starts."""

    def feed(self, line: str) -> list[Input]:
        """Take one more line; return what it completes."""
        if is_command(line) and scan(self.pending) == ([], None):
            command = Input(_command(line), self.line + self.pending.count("\n"), True)
            self._forget(self.pending + line)
            return [command]
        self.pending += line
        return self._complete() if ";" in line else []

    def _complete(self) -> list[Input]:
        """Return the statements of `pending` that end in `;` and keep the rest."""
        inputs_done, start = [], 0
        text, line = self.pending, self.line
        for token in scan(text)[0]:
            if token.is_symbol(";"):
                statement = text[start : token.start]
                if scan(statement)[0]:
                    column = start - (text.rfind("\n", 0, start) + 1)
                    inputs_done.append(_statement(statement, line + text.count("\n", 0, start), column))
                start = token.end
        self._forget(text[:start])
        if not self.pending.strip():
            self._forget(self.pending)
        return inputs_done

    def _forget(self, done: str) -> None:
        self.pending = self.pending[len(done) :]
        self.line += done.count("\n")


def _statement(text: str, line: int, column: int) -> Input:
    """Return a statement, padded so that it starts at its line and column in the source."""
    tokens = scan(text)[0]
    blank = text.count("\n", 0, tokens[0].start) if tokens else 0
    return Input("\n" * (line - 1) + " " * column + text, line + blank)


def _command(line: str) -> str:
    """Return a dot command without what an SQL habit adds to it.

    >>> [_command(line) for line in ("  .limit 5;\\n", "Quit;")]
    ['.limit 5', '.quit']
    """
    command = line.strip().rstrip("; ")
    return command if command.startswith((".", "\\")) else "." + command.lower()
