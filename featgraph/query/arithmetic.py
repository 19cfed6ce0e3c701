"""Layer, site, index and key of a feature from its id alone: ids are dense, SAE by SAE, so no row is read."""

from collections.abc import Callable

from featgraph.model import Slab
from featgraph.query.reach import SlabGraph, Slabs

PROPERTIES = ("id", "key", "layer", "site", "idx")
"""What an id says by itself."""


def from_id(prop: str, column: str, slabs: Slabs, graph: SlabGraph) -> str:
    """Return the SQL of one of `PROPERTIES` of the feature whose id is in a column.

    slabs: the SAEs that the feature can be of; the fewer, the simpler the SQL.
    """
    if prop == "id":
        return column
    members = [slab for slab in graph.members(slabs) if slab.n_features]
    if not members:
        return f"nullif({column}, {column})::{'varchar' if prop in ('key', 'site') else 'integer'}"
    if prop == "layer":
        return _chosen(members, graph, column, lambda slab: str(slab.layer))
    if prop == "site":
        return _chosen(members, graph, column, lambda slab: f"'{slab.site}'")
    width = _width(graph)
    if len(members) == 1:
        idx = f"({column} - {members[0].first_id})"
    elif width:
        idx = f"({column} % {width})"
    else:
        idx = f"({column} - {_chosen(members, graph, column, lambda slab: str(slab.first_id))})"
    if prop == "idx":
        return idx
    start = _chosen(members, graph, column, lambda slab: f"'{slab.layer}/{slab.site}/'")
    return f"({start} || {idx})"


def _chosen(members: list[Slab], graph: SlabGraph, column: str, value: Callable[[Slab], str]) -> str:
    """Return the value of the SAE that an id is of."""
    if len(members) == 1:  # never a bare constant: GROUP BY and ORDER BY read those as places of columns
        return f"case when {column} is not null then {value(members[0])} end"
    width = _width(graph)
    if width:
        first, last = members[0].slab, members[-1].slab
        values = ", ".join(value(slab) for slab in graph.slabs[first : last + 1])
        return f"[{values}][{column} // {width} - {first - 1}]"
    whens = " ".join(f"when {column} >= {slab.first_id} then {value(slab)}" for slab in reversed(members))
    return f"case {whens} end"


def _width(graph: SlabGraph) -> int:
    """Return the number of features of every SAE if it is the same, else 0."""
    widths = {slab.n_features for slab in graph.slabs}
    return widths.pop() if len(widths) == 1 else 0
