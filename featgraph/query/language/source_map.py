"""Where each part of the SQL that runs comes from in the text that the user wrote.

While SQL is put together it is ordinary text in which `mark` brackets a part with its place in the user's
text; `unmark` removes the brackets and returns the map, so that an error of DuckDB points at the user's text.
The brackets are characters that Unicode promises never to assign.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass

RESERVED = "\ufdd0\ufdd1\ufdd2"
"""The brackets: `mark` writes OPEN start-end SEPARATOR text CLOSE. A statement must not contain them."""

_OPEN, _SEPARATOR, _CLOSE = tuple(RESERVED)
_MARK = re.compile(f"{_OPEN}(\\d+)-(\\d+){_SEPARATOR}|{_CLOSE}")


def mark(text: str, start: int, end: int) -> str:
    """Return text that says it stands for a stretch of the user's text."""
    return f"{_OPEN}{start}-{end}{_SEPARATOR}{text}{_CLOSE}" if text else ""


@dataclass(frozen=True)
class Stretch:
    """A stretch of the SQL: where it starts, the stretch it stands for, and whether it is the same text."""

    at: int
    start: int
    end: int
    verbatim: bool


@dataclass(frozen=True)
class SourceMap:
    """From offsets in some SQL to offsets in the user's text: the stretches of the SQL, in order."""

    stretches: list[Stretch]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the offset and length in the user's text of what a stretch of the SQL stands for."""
        first, last = self._at(start), self._at(max(start, end - 1))
        begin = first.start + (start - first.at) * first.verbatim
        finish = last.start + (end - last.at) if last.verbatim else last.end
        return begin, max(1, finish - begin)

    def _at(self, offset: int) -> Stretch:
        return self.stretches[bisect_right(self.stretches, offset, key=lambda stretch: stretch.at) - 1]


def unmark(marked: str, source: str) -> tuple[str, SourceMap]:
    """Return the SQL without its marks, and where its stretches come from."""
    pieces: list[str] = []
    stretches = [Stretch(0, 0, 1, False)]
    outer = [(0, 1)]
    length = last = 0
    for bracket in [*_MARK.finditer(marked), None]:
        piece = marked[last : bracket.start() if bracket else None]
        if piece:
            start, end = outer[-1]
            same = source[start:end] == piece
            stretches.append(Stretch(length, start, end, same))
            pieces.append(piece)
            length += len(piece)
        if bracket is None:
            break
        if bracket[1] is None:
            outer.pop()
        else:
            outer.append((int(bracket[1]), int(bracket[2])))
        last = bracket.end()
    return "".join(pieces), SourceMap(stretches)


def unchanged(text: str) -> SourceMap:
    """Return the map of SQL that is the user's text as it is."""
    return SourceMap([Stretch(0, 0, len(text), True)])
