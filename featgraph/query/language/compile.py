"""`Bindings` -> one SELECT: a common table per path, joined on the variables that paths share."""

from collections.abc import Iterable, Iterator

from featgraph.query.language.bind import Bindings, Edge, Node, Path
from featgraph.query.language.context import QueryContext
from featgraph.query.language.expressions import Expressions, Use
from featgraph.query.language.feature_ids import PROPERTIES, from_id
from featgraph.query.language.path_tables import PathTables
from featgraph.query.language.scans import Scans, conjunction, id_column, quoted, row_alias
from featgraph.query.language.walks import Tables


class Compiler:
    """Writes one MATCH."""

    def __init__(
        self,
        bound: Bindings,
        uses: Iterable[Use],
        context: QueryContext,
        expressions: Expressions,
        taken: frozenset[str],
    ) -> None:
        """uses: every mention of a variable outside the patterns. taken: names that tables must not have."""
        self.bound = bound
        self.uses = {use.key: use for use in uses}
        self.graph = context.graph
        self.expressions = expressions
        self.tables = Tables(taken)
        path_tables = PathTables(bound, self.uses.values(), Scans(context, expressions), self.tables)
        self.relations = [path_tables.add_path(path) for path in bound.paths]

    def select(self, columns: str, tail: str = "") -> str:
        """Return the whole SELECT; columns and tail are SQL, written with `render`."""
        tables = ",\n".join(self.tables.written)
        sources = [*self.relations, *(f"main.feature {row_alias(node.name)}" for node in self._read_nodes())]
        where = (f"({self.expressions.sql(part, self.render)})" for part in self.bound.where)
        tests = [*self._joins(), *where]
        filtered = f"\nwhere {conjunction(tests)}" if tests else ""
        return f"with {tables}\nselect {columns}\nfrom {', '.join(sources)}{filtered}{tail}"

    def render(self, use: Use) -> str:
        """Return the SQL of one use of a variable in the columns, the WHERE or the tail."""
        variable = use.variable
        if isinstance(variable, Node):
            if use.prop in PROPERTIES:
                column = next(self._columns(variable))
                return from_id(use.prop, column, variable.saes, self.graph)
            return f"{row_alias(variable.name)}.{quoted(use.prop or '')}"
        relation = self._relation(variable)
        if isinstance(variable, Path):
            return self._on_path(use.function or "", relation, variable)
        if use.function == "count" and use.prop is None:
            return f"{relation}.{quoted(variable.name + '#length')}"
        column = f"{relation}.{quoted(f'{variable.name}.{use.prop}')}"
        return column if use.function in (None, "list") else f"list_{use.function}({column})"

    def _read_nodes(self) -> list[Node]:
        """Return the nodes with a property that only the row of `feature` tells."""
        nodes = [use.variable for use in self.uses.values() if use.prop not in PROPERTIES]
        return [node for node in self.bound.variables.values() if isinstance(node, Node) and node in nodes]

    def _joins(self) -> Iterator[str]:
        """Yield the tests that join paths on shared nodes, and nodes with their rows."""
        for node in self.bound.variables.values():
            if isinstance(node, Node):
                first, *others = self._columns(node)
                yield from (f"{other} = {first}" for other in others)
        for node in self._read_nodes():
            yield f"{row_alias(node.name)}.id = {next(self._columns(node))}"

    def _columns(self, node: Node) -> Iterator[str]:
        """Yield the columns that hold the id of a node, one per path that it is on."""
        for relation, path in zip(self.relations, self.bound.paths, strict=True):
            if any(node.name == other.name for other in path.nodes):
                yield f"{relation}.{id_column(node.name)}"

    def _relation(self, variable: Edge | Path) -> str:
        """Return the table of the path that is, or has, a variable."""
        places = zip(self.relations, self.bound.paths, strict=True)
        return next(
            name for name, path in places if variable is path or any(variable is e for e in path.edges)
        )

    def _on_path(self, function: str, relation: str, path: Path) -> str:
        """Return the SQL of a function of a path."""
        measure = {"path_length": "length", "keys": "nodes", "edges": "nodes"}.get(function, function)
        column = f"{relation}.{quoted(f'{path.name}#{measure}')}"
        if function in ("weight", "bottleneck"):
            return f"{column}::float"
        if function == "keys":
            saes = 0
            for place in [node.saes for node in path.nodes] + [
                at for edge in path.edges for at in edge.hops.at
            ]:
                saes |= place
            return f"list_transform({column}, lambda id: {from_id('key', 'id', saes, self.graph)})"
        if function == "edges":
            cosines = f"{relation}.{quoted(f'{path.name}#cosine')}"
            two = f"{column}[i], {column}[i + 1]"
            fields = f"'src': least({two}), 'dst': greatest({two}), 'cosine': {cosines}[i]"
            return f"list_transform(range(1, len({column})), lambda i: {{{fields}}})"
        return column
