"""Layer, site, index and key of a feature from its id alone: ids are dense, SAE by SAE, so no row is read."""

from collections.abc import Callable

from featgraph.core.keys import SaeRange
from featgraph.query.language.sae_sets import SaeGraph, SaeRanges

PROPERTIES = ("id", "key", "layer", "site", "idx")
"""What an id says by itself."""


def from_id(prop: str, column: str, saes: SaeRanges, graph: SaeGraph) -> str:
    """Return the SQL of one of `PROPERTIES` of the feature whose id is in a column.

    saes: the SAEs that the feature can be of; the fewer, the simpler the SQL.
    """
    if prop == "id":
        return column
    members = [sae for sae in graph.members(saes) if sae.n_features]
    if not members:
        return f"nullif({column}, {column})::{'varchar' if prop in ('key', 'site') else 'integer'}"
    if prop == "layer":
        return _chosen(members, graph, column, lambda sae: str(sae.layer))
    if prop == "site":
        return _chosen(members, graph, column, lambda sae: f"'{sae.site}'")
    width = _width(graph)
    if len(members) == 1:
        idx = f"({column} - {members[0].first_id})"
    elif width:
        idx = f"({column} % {width})"
    else:
        idx = f"({column} - {_chosen(members, graph, column, lambda sae: str(sae.first_id))})"
    if prop == "idx":
        return idx
    start = _chosen(members, graph, column, lambda sae: f"'{sae.layer}/{sae.site}/'")
    return f"({start} || {idx})"


def _chosen(members: list[SaeRange], graph: SaeGraph, column: str, value: Callable[[SaeRange], str]) -> str:
    """Return the value of the SAE that an id is of."""
    if len(members) == 1:  # never a bare constant: GROUP BY and ORDER BY read those as places of columns
        return f"case when {column} is not null then {value(members[0])} end"
    width = _width(graph)
    if width:
        first, last = members[0].number, members[-1].number
        values = ", ".join(value(sae) for sae in graph.saes[first : last + 1])
        return f"[{values}][{column} // {width} - {first - 1}]"
    whens = " ".join(f"when {column} >= {sae.first_id} then {value(sae)}" for sae in reversed(members))
    return f"case {whens} end"


def _width(graph: SaeGraph) -> int:
    """Return the number of features of every SAE if it is the same, else 0."""
    widths = {sae.n_features for sae in graph.saes}
    return widths.pop() if len(widths) == 1 else 0
