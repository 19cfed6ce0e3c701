"""Measures text, cuts and wraps it to a width, and escapes invisible characters.

No font is read. Widths are those of Arial, Helvetica and Liberation Sans (`widths.py`); a letter outside the
tables gets the largest width that it has in common fonts.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate, takewhile
from unicodedata import category, east_asian_width

from featgraph.drawing import widths

FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
"""The fonts whose widths are in the tables, then a fallback."""

ELLIPSIS = "…"

_TABLES = {
    bold: {
        chr(code): (widths.DIGITS.index(digit)) / widths.UNITS
        for code, digit in zip((code for span in widths.RANGES for code in range(*span)), table, strict=True)
    }
    | {sign: units / widths.UNITS for sign, units in widths.SIGNS.items()}
    for bold, table in ((False, widths.REGULAR), (True, widths.BOLD))
}

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "\ua9c5\ufdfa\ufdfb\ufdfd]"
)
"""Characters that are written as Python escapes: forbidden in XML, without a shape, changing the direction
of the text, and four that are as wide as a word."""

_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}

_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"

_MARKS = re.compile(f"({_MARK}{{3}}){_MARK}+")
"""Four or more combining marks on one letter: no language has so many, and they would cover other lines."""


def visible(text: str) -> str:
    r"""Return text in which every character is visible and allowed in XML.

    >>> print(visible("a\nb\x1b\u202e \ud800"))
    a\nb\x1b\u202e \ud800
    """
    return _MARKS.sub(r"\1", _UNSEEN.sub(_escaped, text))


def word(token: str) -> str:
    """Return a token as a word: visible, without surrounding blanks; a token of blanks is quoted.

    >>> [word(token) for token in (" looked", "\\u200b", "  ")]
    ['looked', '\\\\u200b', "'  '"]
    """
    stripped = token.strip(" ")
    return visible(stripped) if stripped else f"'{token}'"


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of visible text in units of the picture, without kerning.

    size: font size in the same units.
    """
    table = _TABLES[bold]
    return sum(table[letter] if letter in table else _other(letter) for letter in text) * size


def is_measured(text: str) -> bool:
    """Return whether all letters of a text are in the tables, so that its width is exact."""
    return all(letter in _TABLES[False] for letter in text)


def fit(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """Return the beginning of a visible text that fits into `room`, cut after a word if that keeps most of
    it.

    >>> fit("words about being afraid", 100, 12), fit("antidisestablishment", 60, 12), fit("word", 3, 12)
    ('words about…', 'antidises…', '')
    """
    if text_width(text, size, bold=bold) <= room:
        return text
    room -= text_width(ELLIPSIS, size, bold=bold)
    used = accumulate(text_width(letter, size, bold=bold) for letter in text)
    end = sum(1 for _ in takewhile(lambda so_far: so_far <= room, used))
    if not end:
        return ""
    blank = text.rfind(" ", 0, end + 1)
    kept = (text[:blank] if blank > end // 2 else text[:end]).rstrip(" ,;:")
    return kept + ELLIPSIS if kept else ""


def wrap(text: str, room: float, size: float, lines: int, *, bold: bool = False) -> list[str]:
    """Return visible text broken at blanks into at most `lines` lines; the last one is cut if needed.

    >>> wrap("words about being afraid of dogs", 75, 12, 2)
    ['words about', 'being afraid…']
    """
    broken: list[str] = []
    rest = text.strip(" ")
    while rest and len(broken) < lines - 1:
        line = _longest_line(rest, room, size, bold)
        if not line:
            break
        broken.append(line)
        rest = rest[len(line) :].lstrip(" ")
    last = fit(rest, room, size, bold=bold) if rest else ""
    return [*broken, last] if last else broken


def fit_words(
    words: Iterable[str], room: float, size: float, *, bold: bool = False, most: int | None = None
) -> str:
    """Return as many of the first words as fit into `room`, joined by commas; case variants count once.

    The first word is cut if it is too long; the others are whole or left out.

    >>> fit_words(["looked", "Looked", "felt", "feeling"], 72, 12)
    'looked, felt'
    """
    several = [one for one in distinct(words) if one][:most]
    shown = fit(several[0], room, size, bold=bold) if several else ""
    if not several or shown != several[0]:
        return shown
    for one in several[1:]:
        longer = f"{shown}, {one}"
        if text_width(longer, size, bold=bold) > room:
            break
        shown = longer
    return shown


def distinct(words: Iterable[str]) -> list[str]:
    """Return words without those that differ from an earlier word only in case."""
    kept: dict[str, str] = {}
    for one in words:
        kept.setdefault(one.casefold(), one)
    return list(kept.values())


def _longest_line(text: str, room: float, size: float, bold: bool) -> str:
    """Return the longest beginning that ends before a blank and fits; empty if the first word does not
    fit."""
    line = ""
    for part in text.split(" "):
        longer = f"{line} {part}" if line else part
        if text_width(longer, size, bold=bold) > room:
            break
        line = longer
    return line


def _escaped(match: re.Match[str]) -> str:
    if match[0] in _SHORT:
        return _SHORT[match[0]]
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@lru_cache(4096)
def _other(letter: str) -> float:
    """Return the width of a letter outside the tables: the largest in common fonts, in font sizes."""
    if category(letter) in ("Mn", "Me", "Cf"):
        return 0.0
    if 0x1F000 <= ord(letter) < 0x20000:  # emoji, which color fonts draw wider than they are high
        return 1.4
    if east_asian_width(letter) in "WF":
        return 1.05
    return 1.1 if ord(letter) < 0x10000 else 2.0
