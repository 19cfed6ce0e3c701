"""Plain option values read without pydantic, so that a cold command starts sooner.

`featgraph lineage GRAPH KEY` has to end within 2.5 times `python -c "import duckdb"`. Typer reads values with
pydantic, whose import alone takes as long as DuckDB's. Processor time over that of `import duckdb`, medians
of 9 paired runs of `python tests/bench/cold.py GRAPH KEY` (Python 3.11, Typer 0.29, DuckDB 2.0, busy cores):

    as it is                          2.1
    values read by Typer alone        3.3

Tried and left out: collecting garbage less often (2.1), importing Rich in a thread while DuckDB answers (2.8,
and 2.7 without the thread). With a tree drawn by Rich instead of `output.tree` it takes 2.6.
"""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperCommand, TyperGroup


class QuickCommand(TyperCommand):
    """A command that reads plain option values without pydantic, which Typer imports for them.

    Only what is plainly right is read here. Everything else, errors above all, goes to Typer itself, so what
    a user sees is Typer's; a Typer without the private `_runtime_param` does all the reading.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _quicken(self.params)

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, `--help` included."""
        return _quicken(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """A group that reads its own plain values in the same way."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, `--help` included."""
        return _quicken(super().get_params(ctx))


class _Reader:
    """Takes the place of a parameter's reader; hands over to Typer's own for good when in doubt."""

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
