"""The result of a query: named columns and rows, in memory."""

from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from featgraph.core.text import cell, cut, pluralize
from featgraph.errors import UsageError

if TYPE_CHECKING:
    import pandas
    import pyarrow

TIMEOUT = 60.0
"""Default seconds after which a query is stopped. Our choice."""

MAX_ROWS = 1_000_000
"""Default limit of rows in a result, and of paths of one repeated edge. Our choice."""

SHOWN_ROWS = 20
"""Rows shown in a notebook or at a Python prompt."""

_SHOWN_WIDTH = 60
"""Characters shown per cell there."""


@dataclass(frozen=True, repr=False)
class Result:
    """Rows under named columns.

    Iterate it for rows whose values have the columns' names (`row.key`), or take `rows` (plain tuples),
    `dicts()`, `to_arrow()` or `to_pandas()`.
    """

    columns: list[str]
    rows: list[tuple[object, ...]]
    types: list[str] = field(default_factory=list)
    """DuckDB's type names, one per column."""

    @classmethod
    def of(cls, columns: Mapping[str, str], rows: Iterable[tuple[object, ...]]) -> "Result":
        """Return rows under columns given as name -> DuckDB type.

        >>> Result.of({"layer": "INTEGER"}, [(0,), (1,)]).dicts()
        [{'layer': 0}, {'layer': 1}]
        """
        return cls(list(columns), list(rows), list(columns.values()))

    @cached_property
    def _row(self) -> Any:
        """The named tuple of a row; a column whose name is no Python identifier is `_0`, `_1`, by
        position."""
        return namedtuple("Row", self.columns, rename=True)

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows as named tuples.

        >>> [row.layer for row in Result.of({"layer": "INTEGER"}, [(0,), (1,)])]
        [0, 1]
        """
        return map(self._row._make, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[dict[str, object]]:
        """Return one dictionary per row with the column names as keys."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_arrow(self) -> "pyarrow.Table":
        """Return an Arrow table whose columns have the types of DuckDB's.

        Raises UsageError: the values of a column are not of one type.
        """
        import pyarrow

        scalars = {
            "BIGINT": pyarrow.int64(),
            "BOOLEAN": pyarrow.bool_(),
            "DOUBLE": pyarrow.float64(),
            "FLOAT": pyarrow.float32(),
            "INTEGER": pyarrow.int32(),
            "SMALLINT": pyarrow.int16(),
            "VARCHAR": pyarrow.string(),
        }
        arrays = []
        for place, name in enumerate(self.columns):
            kind = self.types[place] if self.types else ""
            base = scalars.get(kind.removesuffix("[]"))
            wanted = pyarrow.list_(base) if base is not None and kind.endswith("[]") else base
            try:
                arrays.append(pyarrow.array([row[place] for row in self.rows], type=wanted))
            except (pyarrow.ArrowException, OverflowError) as error:
                raise UsageError(
                    f"arrow and parquet cannot hold column {name!r} ({kind}); cast it in the query"
                ) from error
        return pyarrow.Table.from_arrays(arrays, names=self.columns)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a pandas data frame.

        Raises UsageError: the values of a column are not of one type.
        """
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __repr__(self) -> str:
        """Return the number of rows, and the first rows in columns."""
        shown = [self.columns, *self._cells()] if self.columns else []
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in shown
        ]
        return "\n".join([f"Result of {pluralize(len(self), 'row')}{self._rest()}", *lines])

    def _repr_html_(self) -> str:
        """Return the first rows as an HTML table, for notebooks; all text is escaped."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in self._cells()
        )
        count = f"{pluralize(len(self), 'row')}{self._rest()}"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{count}</p>"

    def _cells(self) -> list[list[str]]:
        return [[cut(cell(value), _SHOWN_WIDTH) for value in row] for row in self.rows[:SHOWN_ROWS]]

    def _rest(self) -> str:
        return f", the first {SHOWN_ROWS} shown" if len(self) > SHOWN_ROWS else ""
