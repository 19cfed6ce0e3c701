"""The edges in the rows of an answer: from columns `src` and `dst`, or from a column of paths."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from featgraph.core.keys import SITES
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.output.streams import note
from featgraph.output.values import json_rows, types
from featgraph.store.features import Name

INSTEAD = (
    "return src and dst, or a path as edges(p), keys(p) or nodes(p), or use `featgraph subgraph GRAPH KEY`"
)
"""How to make any question return a graph."""

_KEY = re.compile(rf"\d+/({'|'.join(SITES)})/\d+")

_EDGES = re.compile(r"STRUCT\((?=(.*, )?src )(?=(.*, )?dst ).*\)\[\d*\]")
_KEYS = re.compile(r"VARCHAR\[\d*\]")
_IDS = re.compile(r"U?(INTEGER|BIGINT)\[\d*\]")
_PATHS = (_EDGES, _KEYS, _IDS)
"""Types of columns that hold paths; the first found is read, because edges carry the most."""


class Arrow(NamedTuple):
    """Two features that a row joins, or only one, and the row's other columns; NULL is left out."""

    src: Name | None
    dst: Name | None
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class Arrows:
    """The edges in the rows of an answer."""

    rows: list[list[Arrow]]
    """The arrows of each row."""
    path: str | None
    """The column that they are read from, or None where each row is an arrow itself."""

    def names(self) -> set[Name]:
        """Return every feature named."""
        ends = {end for row in self.rows for src, dst, _ in row for end in (src, dst)}
        return {name for name in ends if name is not None}


def arrows_of(result: Result) -> Arrows:
    """Return the arrows of the rows; an end that is NULL joins nothing.

    Raises UsageError: no column says which features are joined, or one holds something else than features.
    """
    named = {column.lower(): column for column in result.columns}
    if "src" in named and "dst" in named:
        src, dst = named["src"], named["dst"]
        return Arrows([[_arrow(row.pop(src), row.pop(dst), row)] for row in json_rows(result)], None)
    path = _path_column(result)
    if path is None:
        raise UsageError(
            f"a graph needs to know which features are joined, and columns {', '.join(result.columns)} "
            f"do not say it; {INSTEAD}"
        )
    return Arrows([_steps(row[path]) for row in json_rows(result)], path)


def _path_column(result: Result) -> str | None:
    """Return the first column that holds paths of the best kind."""
    for kind in _PATHS:
        columns = [
            column
            for place, (column, type) in enumerate(zip(result.columns, types(result), strict=True))
            if kind.fullmatch(type) and (kind is not _KEYS or _holds_keys(result, place))
        ]
        if columns[1:]:
            note(f"paths are read from column {columns[0]!r}, not from {', '.join(map(repr, columns[1:]))}")
        if columns:
            return columns[0]
    return None


def _holds_keys(result: Result, place: int) -> bool:
    """Say whether all texts of a list column are feature keys: tokens are lists of text too."""
    texts = (text for row in result.rows for text in cast(list[str | None], row[place] or []))
    return all(_KEY.fullmatch(text) for text in texts if text is not None)


def _steps(path: object) -> list[Arrow]:
    """Return the arrows of one path; a feature that nothing follows is joined to none."""
    steps = path if isinstance(path, list) else []
    if any(isinstance(step, dict) for step in steps):
        return [_arrow(step.pop("src"), step.pop("dst"), step) for step in steps if step is not None]
    return [_arrow(src, dst, _NOTHING) for src, dst in zip(steps, [*steps[1:], None], strict=False)]


def _arrow(src: object, dst: object, attributes: Mapping[str, object]) -> Arrow:
    said = {name: value for name, value in attributes.items() if value is not None}
    return Arrow(_name(src), _name(dst), said or _NOTHING)


def _name(end: object) -> Name | None:
    if end is None or (isinstance(end, (int, str)) and not isinstance(end, bool)):
        return end
    raise UsageError(f"{end!r} is neither a feature's id nor its key; {INSTEAD}")


_NOTHING: Mapping[str, object] = {}
"""Shared by all arrows without attributes: there can be millions."""
