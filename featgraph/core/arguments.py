"""Checks the arguments of verbs, from statements, commands and Python callers."""

from decimal import Decimal
from math import isfinite
from numbers import Integral, Real

from featgraph.errors import UsageError

MOST = 10**9 - 1
"""Largest whole number a verb takes, such as a number of paths or edges."""


def check_cosine(name: str, value: object) -> float:
    """Return a cosine, given as a number or as text.

    Raises UsageError: it is none.
    """
    number = float(_number(name, value, float))
    if not -1 <= number <= 1:
        raise UsageError(f"{name} = {value} is out of range: -1 to 1")
    return number


def check_number(name: str, value: object) -> float:
    """Return a finite number, given as a number or as text: a threshold in the unit of some measure.

    Raises UsageError: it is none.
    """
    number = float(_number(name, value, float))
    if not isfinite(number):
        raise UsageError(f"{name} = {value} is not a finite number")
    return number


def check_count(name: str, value: object, least: int = 0) -> int:
    """Return a whole number from `least` up, given as a number or as text.

    Raises UsageError: it is none.
    """
    number = int(_number(name, value, int))
    if number < least:
        raise UsageError(f"{name} = {value} is too small; give a whole number from {least} up")
    if number > MOST:
        raise UsageError(f"{name} = {value} is too large; give a whole number up to {MOST:,}")
    return number


def check_bool(name: str, value: object) -> bool:
    """Return true or false.

    Raises UsageError: it is neither.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} = {shown(value)} is not true or false")
    return value


def shown(value: object) -> str:
    """Return a value as quoted in a message."""
    return "null" if value is None else repr(value)


def _number(name: str, value: object, kind: type[int] | type[float]) -> int | float:
    allowed = (str, Integral) if kind is int else (str, Real, Decimal)
    try:
        if isinstance(value, allowed) and not isinstance(value, bool):
            return kind(value)  # type: ignore[arg-type]
    except ValueError:
        pass
    raise UsageError(f"{name} = {shown(value)} is not a {'whole ' * (kind is int)}number")
