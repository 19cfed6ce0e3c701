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
        return self.store.cached(SaeGraph.of)

    @property
    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Types of the columns of `feature` and `edge`, by name."""
        return self.store.cached(_column_types)

    def fail(self, message: str, at: Token) -> NoReturn:
        """Raise the QueryError that points at a token."""
        raise QueryError(message, self.text, at.start, max(1, at.end - at.start))


def _column_types(store: Store) -> Mapping[str, Mapping[str, str]]:
    types: dict[str, dict[str, str]] = {"feature": {}, "edge": {}}
    for table, column, kind in store.rows(_COLUMNS):
        types[table][column] = kind
    return types
