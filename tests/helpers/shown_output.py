"""Whether a program prints what a page shows, up to what differs between processors.

A line `...` stands for any number of lines. The width of columns is not compared. A whole number from 1,000
on may differ by one in a thousand, because a count may hang on a threshold; a decimal by one in its last
digit. All else must be equal.
"""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_LOOSE = 1000


def matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether all lines printed are those shown."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(matches(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and same(shown[0], printed[0]) and matches(shown[1:], printed[1:])


def missing(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """The lines shown that are not among those printed."""
    return [line for line in shown if line != "..." and not any(same(line, other) for other in printed)]


def same(shown: str, printed: str) -> bool:
    """Whether two lines say the same.

    >>> same("edges  372,382  0.628", "edges 372,383 0.6279"), same("3/res/346  0.70", "3/res/347  0.70")
    (True, False)
    >>> same("98 rows", "99 rows"), same("0.74 from 1/res/3 +1", "0.75 from 1/res/3 +1")
    (False, True)
    """
    ours, theirs = _words(shown), _words(printed)
    return len(ours) == len(theirs) and all(map(_alike, ours, theirs))


def _words(line: str) -> list[str]:
    return re.sub(r"─{3,}", "───", line).split()


def _alike(one: str, other: str) -> bool:
    if one == other:
        return True
    a, b = (_NUMBER.fullmatch(word.rstrip(",;")) for word in (one, other))
    if a is None or b is None or one.endswith((",", ";")) != other.endswith((",", ";")):
        return False
    first, second = (float(found[0].replace(",", "")) for found in (a, b))
    digits = max(_digits(a[0]), _digits(b[0]))
    if digits:
        return abs(first - second) <= 1.01 * 10.0**-digits
    return abs(first - second) <= max(first, second) // _LOOSE


def _digits(number: str) -> int:
    return len(number.partition("e")[0].partition(".")[2])
