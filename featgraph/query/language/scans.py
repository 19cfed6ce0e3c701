"""SQL that reads features and edges: which rows of the two tables a node or an edge of a pattern can be."""

from collections.abc import Iterable

from featgraph.query.language.bind import Edge, Node
from featgraph.query.language.context import QueryContext
from featgraph.query.language.expressions import Expressions, Use
from featgraph.query.language.sae_sets import SaeRanges


def quoted(name: str) -> str:
    """Return a name as SQL writes it whatever it contains.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def id_column(name: str) -> str:
    """Return the column of a path's table that holds the id of a node: a name that no user gives."""
    return quoted(f"{name}#id")


def row_alias(name: str) -> str:
    """Return the alias of the row of `feature` that a node's properties are read from."""
    return quoted(f"{name}#row")


def own(use: Use) -> str:
    """Render `variable.property` inside a scan, where the row has the variable's name."""
    return f"{quoted(use.variable.name or '')}.{quoted(use.prop or '')}"


def ends(edge: Edge, forward: bool) -> tuple[str, str]:
    """Return the columns of an edge's row at the end where a step begins, and where it leads."""
    name = quoted(edge.name)
    return (f"{name}.src", f"{name}.dst") if edge.down == forward else (f"{name}.dst", f"{name}.src")


def conjunction(tests: Iterable[str]) -> str:
    """Return tests joined by AND, each on its own line, or `true`."""
    return "\n    and ".join(tests) or "true"


class Scans:
    """Writes the scans of one statement."""

    def __init__(self, context: QueryContext, expressions: Expressions) -> None:
        self.context = context
        self.graph = context.graph
        self.expressions = expressions

    def feature_ids(self, node: Node) -> str:
        """Return a query for the ids of the features that a node can be by itself, in a column `id`."""
        if node.id is not None and not node.conditions:
            return f"select {node.id} as id"
        alias = quoted(node.name)
        tests = [*self.id_tests(f"{alias}.id", node, self.graph.everything), *self.condition_tests(node)]
        return f"select {alias}.id\n    from main.feature {alias}\n    where {conjunction(tests)}"

    def node_tests(self, column: str, node: Node, among: SaeRanges) -> list[str]:
        """Return the tests that an id, of a feature of the SAEs `among`, is one that a node can be."""
        tests = self.id_tests(column, node, among)
        if node.conditions:
            tests.append(f"{column} in ({self.feature_ids(node)})")
        return tests

    def edge_tests(
        self, edge: Edge, here: SaeRanges, there: SaeRanges, *, forward: bool, begins: bool = False
    ) -> list[str]:
        """Return the tests that a row of `edge` is one that an edge can be, from some SAEs to some others.

        begins: nothing else says that the end where the step begins is in `here`.
        """
        going_down = edge.down == forward
        tests = self.range_tests(f"{quoted(edge.name)}.src", here if going_down else there)
        near, far = ends(edge, forward)
        everything = self.graph.everything
        start = everything if begins else here
        if self.graph.other_kinds(start, edge.kinds, down=going_down):
            kinds = ", ".join(f"'{kind}'" for kind in sorted(edge.kinds))
            tests.append(f"{quoted(edge.name)}.kind in ({kinds})" if kinds else "false")
        if begins:
            tests += self.sae_tests(near, here, self.graph.step(everything, edge.kinds, down=not going_down))
        tests += self.sae_tests(far, there, self.graph.step(here, edge.kinds, down=going_down))
        return [*tests, *self.condition_tests(edge)]

    def range_tests(self, column: str, saes: SaeRanges) -> list[str]:
        """Return a test that lets DuckDB skip what lies outside some SAEs; rows that it lets pass may too."""
        runs = self.graph.runs(saes, saes)
        if not runs or saes == self.graph.everything:
            return []
        return [f"{column} between {runs[0][0]} and {runs[-1][1]}"]

    def id_tests(self, column: str, node: Node, among: SaeRanges) -> list[str]:
        """Return the tests that an id, of a feature of the SAEs `among`, lies where a node can be."""
        if node.id is not None:
            return [f"{column} = {node.id}"]
        return self.sae_tests(column, node.saes, among)

    def sae_tests(self, column: str, saes: SaeRanges, among: SaeRanges) -> list[str]:
        """Return the test that an id, of a feature of the SAEs `among`, is of one of some."""
        if saes & among == among:
            return []
        runs = [f"{column} between {first} and {last}" for first, last in self.graph.runs(saes, among)]
        return [f"({' or '.join(runs)})" if len(runs) > 1 else runs[0] if runs else "false"]

    def condition_tests(self, thing: Node | Edge) -> list[str]:
        """Return the conditions that a row must pass, in brackets, since they may contain OR."""
        tests = [f"({self.expressions.sql(condition, own, own=thing)})" for condition in thing.conditions]
        if isinstance(thing, Edge) and thing.scored:
            tests.append(f"{quoted(thing.name)}.{thing.scored}")
        return tests
