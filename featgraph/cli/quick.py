"""Reads plain option values without pydantic: Typer imports it for them, which a cold start feels.

Only what is plainly right is read here. Everything else, errors above all, goes to Typer itself, so what a
user sees is Typer's; where a Typer has no such seam, it does all the reading.
"""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperCommand, TyperGroup


class QuickCommand(TyperCommand):
    """A command whose plain values are read here."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _quicken(self.params)

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, `--help` included."""
        return _quicken(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """A group whose own plain values are read here."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, `--help` included."""
        return _quicken(super().get_params(ctx))


class _Reader:
    """Stands where a parameter keeps its reader; hands over to Typer's own for good when in doubt."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        try:
            kind, bounds = param.type_descriptor.annotation, param.type_descriptor.parameter_info
            if several:
                return [_plain(item, get_args(kind)[0], bounds) for item in value]
            return _plain(value, kind, bounds)
        except (ValueError, TypeError, IndexError, AttributeError):
            param._runtime_param = None
            return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _quicken(params: Any) -> Any:
    for param in params:
        if getattr(param, "_runtime_param", param) is None:
            param._runtime_param = _Reader()
    return params


def _plain(value: Any, kind: Any, bounds: Any) -> Any:
    """Return a value of a plain kind within its bounds; raise ValueError for all else."""
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if kind in (str, Path) and isinstance(value, (str, Path)):
        return kind(value)
    if kind in (int, float):
        number = kind(value)
        low, high = bounds.min, bounds.max
        if (low is None or number >= low) and (high is None or number <= high):
            return number
    raise ValueError(value)
