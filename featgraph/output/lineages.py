"""A lineage as rows: its members, and the edges between them."""

from featgraph.core.result import Result
from featgraph.lineage.lineage import Lineage

_MEMBER = {
    "id": "INTEGER",
    "key": "VARCHAR",
    "layer": "INTEGER",
    "site": "VARCHAR",
    "idx": "INTEGER",
    "distance": "INTEGER",
    "weight": "FLOAT",
    "density": "FLOAT",
    "label": "VARCHAR",
}
_EDGE = {"src": "VARCHAR", "dst": "VARCHAR", "kind": "VARCHAR", "cosine": "FLOAT"}


def members(lineage: Lineage) -> Result:
    """Return one row per feature, in order of id."""
    return Result.of(_MEMBER, (tuple(vars(member).values()) for member in lineage.members))


def edges(lineage: Lineage) -> Result:
    """Return one row per edge, in order of the source's id, then the target's; ends are keys."""
    return Result.of(_EDGE, (tuple(vars(edge).values()) for edge in lineage.edges))
