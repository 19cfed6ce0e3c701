"""Selectors over rows that hold whole paths: which of those between the same two ends are kept.

The order in which paths come, after what the selector puts first: among equal ones, the path whose last node
but one has the smaller id, then the one whose way up to there comes first by the same rule. `best` follows
the same order one step at a time; here it is written out for patterns of several edges.
"""

from typing import Protocol

from featgraph.core.keys import Score
from featgraph.query.language.ast import Selector
from featgraph.query.language.bind import Edge, Path
from featgraph.query.language.scans import id_column, quoted

EMPTY_PATH_SCORE: dict[Score, str] = {"product": "1::double", "sum": "0::double", "min": "'inf'::double"}
"""The score of a path of no edges."""

VALUES, NODES, LENGTH, LENGTHS = "order#values", "order#nodes", "order#length", "order#lengths"


class Measures(Protocol):
    """What writes a measure of a whole path."""

    def of_path(self, path: Path, name: str) -> str:
        """Return the SQL of one measure over the rows of a path."""

    def of_edge(self, edge: Edge, name: str) -> str:
        """Return the SQL of one measure of one edge."""


def extended_score(selector: Selector, score: str, value: str) -> str:
    """Return the SQL of a score when an edge with some value is added to a path."""
    if selector.choice != "best":
        return f"{score} * greatest({value}::double, 0)"
    return {
        "product": f"{score} * {value}::double",
        "sum": f"{score} + {value}::double",
        "min": f"least({score}, {value}::double)",
    }[selector.by]


def path_order(selector: Selector) -> tuple[str, str]:
    """Return how paths between the same two ends are ordered, by columns `score` and `length`."""
    return ("length", "score desc") if selector.choice == "shortest" else ("score desc", "length")


def order_columns(path: Path, measures: Measures) -> list[tuple[str, str]]:
    """Return the columns that `qualify_clause` needs, name and SQL."""
    columns = [(LENGTH, measures.of_path(path, "length"))]
    if path.selector.choice == "all shortest":
        return columns
    lengths = ", ".join(measures.of_edge(edge, "length") for edge in path.edges)
    return [
        *columns,
        (VALUES, measures.of_path(path, path.selector.prop)),
        (NODES, measures.of_path(path, "nodes")),
        (LENGTHS, f"[{lengths}]::integer[]"),
    ]


def qualify_clause(path: Path) -> str:
    """Return the QUALIFY that keeps what the selector keeps."""
    ends = ", ".join(dict.fromkeys(id_column(node.name) for node in (path.nodes[0], path.nodes[-1])))
    length = quoted(LENGTH)
    selector = path.selector
    if selector.choice == "all shortest":
        return f"qualify {length} = min({length}) over (partition by {ends})"
    values, nodes = quoted(VALUES), quoted(NODES)

    def score(n: str) -> str:
        start = EMPTY_PATH_SCORE[selector.by if selector.choice == "best" else "product"]
        step = extended_score(selector, "so_far", "value")
        return f"list_reduce({values}[:{n}]::double[], lambda so_far, value: {step}, {start})"

    measures = {"score desc": f"{score(f'len({values})')} desc", "length": length}
    order = [measures[name] for name in path_order(selector)]
    step = f"{{'id': {nodes}[i], 'score': -{score('i - 1')}}}"
    ties = f"list_transform(range(len({values}), 0, -1), lambda i: {step})"
    ordered = ", ".join([*order, ties, quoted(LENGTHS)])
    return f"qualify row_number() over (partition by {ends} order by {ordered}) <= {selector.k}"
