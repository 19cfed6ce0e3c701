"""What a statement is read against: its text, the values of its parameters, its limits, and the graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from featgraph.errors import QueryError
from featgraph.query.language.sae_sets import SaeGraph
from featgraph.query.language.tokens import Token
from featgraph.store import Store

_COLUMNS = """
    select table_name, column_name, data_type
    from duckdb_columns()
    where table_name in ('feature', 'edge') and not internal
    order by column_index
"""


@dataclass(frozen=True)
class QueryContext:
    """What a statement is read against; what a graph holds is looked up once it is needed."""

    store: Store
    text: str
    values: Mapping[str, object]
    """Of the parameters, by name."""
    max_rows: int | None

    @property
    def graph(self) -> SaeGraph:
        """The SAEs, and which of them edges join."""
        return SaeGraph.of(self.store)

    @property
    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Types of the columns of `feature` and `edge`, by name."""
        kept: dict[str, dict[str, str]] | None = self.store.__dict__.get("pattern_columns")
        if kept is None:
            kept = {"feature": {}, "edge": {}}
            for table, column, kind in self.store.rows(_COLUMNS):
                kept[table][column] = kind
            self.store.__dict__["pattern_columns"] = kept
        return kept

    def fail(self, message: str, at: Token) -> NoReturn:
        """Raise the QueryError that points at a token."""
        raise QueryError(message, self.text, at.start, max(1, at.end - at.start))
