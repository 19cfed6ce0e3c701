"""What a statement answers: named columns and rows, in memory."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

TIMEOUT = 60.0
"""Seconds after which a statement is stopped, unless the caller says otherwise."""

MAX_ROWS = 1_000_000
"""Most rows of an answer, and most paths of one repeated edge, unless the caller says otherwise."""


@dataclass(frozen=True)
class Result:
    """Rows under named columns; iterate it for rows, or take `dicts()`."""

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

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[dict[str, object]]:
        """Return one dictionary per row with the column names as keys."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
