"""One path of a pattern as tables: single edges become joins, repeated ones the tables of `walks`.

A path is written from the end that fewer features can be at. Its last table has one column per node (an id),
`edge.property` for what is asked of its edges (a list where the edge repeats), and `path#measure` for what is
requested of the path as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from featgraph.query.language.best_walks import BestWalks
from featgraph.query.language.bind import Bindings, Edge, Node, Path
from featgraph.query.language.expressions import Use
from featgraph.query.language.scans import Scans, conjunction, ends, id_column, quoted
from featgraph.query.language.selectors import order_columns, qualify_clause
from featgraph.query.language.walks import Tables, Walks, Wanted

_BY_CONDITION = 20
"""A condition on a node is taken to let one feature in so many pass when the end to begin at is chosen."""

_ORDERED = ("any", "shortest", "best")
"""Selectors that put paths in an order, and so need their nodes and the property that scores them."""


@dataclass
class RequestedColumns:
    """What of one path the rest of the statement mentions."""

    functions: set[str] = field(default_factory=set)
    props: dict[str, set[str]] = field(default_factory=dict)
    """Properties of its edges, by the name of the edge."""

    def of(self, edge: Edge) -> set[str]:
        """Return the properties requested of one edge."""
        return self.props.setdefault(edge.name, set())


@dataclass(frozen=True)
class _Traversal:
    """An edge and its traversal direction: from the end that rows hold already, or that they begin with."""

    edge: Edge
    forward: bool

    @property
    def near(self) -> Node:
        """The end that it begins at."""
        return self.edge.left if self.forward else self.edge.right

    @property
    def far(self) -> Node:
        """The end that it leads to."""
        return self.edge.right if self.forward else self.edge.left


class PathTables:
    """Writes the paths of one MATCH."""

    def __init__(self, bound: Bindings, uses: Iterable[Use], scans: Scans, tables: Tables) -> None:
        self.bound = bound
        self.uses = list(uses)
        self.graph = scans.graph
        self.scans = scans
        self.tables = tables
        self.walks = Walks(scans, tables)
        self.best = BestWalks(scans, tables)

    def add_path(self, path: Path) -> str:
        """Add the tables of one path and return the name of the last one."""
        requested = self._requested(path)
        if self.bound.is_empty:
            return self._add_empty(path, requested)
        is_one_run = len(path.edges) == 1 and path.edges[0].is_group
        if path.selector.choice in _ORDERED and is_one_run:
            return self._add_best_walks(path, requested)
        return self._add_all_matches(path, requested)

    def _requested(self, path: Path) -> RequestedColumns:
        requested = RequestedColumns()
        for use in self.uses:
            if use.variable is path:
                requested.functions.add(use.function or "")
            elif isinstance(use.variable, Edge) and use.variable in path.edges and use.prop is not None:
                requested.of(use.variable).add(use.prop)
        for edge in path.edges:
            if requested.functions & {"weight", "bottleneck"} and not edge.is_group:
                requested.of(edge).add("cosine")
            if "edges" in requested.functions:
                requested.of(edge).add("cosine")
            if path.selector.choice in _ORDERED:
                requested.of(edge).add(path.selector.prop)
        return requested

    def _wanted(self, path: Path, edge: Edge, requested: RequestedColumns) -> Wanted:
        """Return what is wanted of the walks of a repeated edge."""
        return Wanted(
            nodes=bool(requested.functions & {"nodes", "keys", "edges"}) or path.selector.choice in _ORDERED,
            weight="weight" in requested.functions,
            bottleneck="bottleneck" in requested.functions,
            props=tuple(sorted(requested.of(edge))),
        )

    def _forward(self, path: Path) -> bool:
        """Say whether to begin at the left end: where fewer features can be."""
        first, last = (self._estimate(node) for node in (path.nodes[0], path.nodes[-1]))
        return first <= last

    def _estimate(self, node: Node) -> float:
        if node.id is not None:
            return 1
        return self.graph.n_features(node.saes) / (_BY_CONDITION if node.conditions else 1)

    def _add_all_matches(self, path: Path, requested: RequestedColumns) -> str:
        """Add the tables of all matches of a path, then those that its selector keeps."""
        forward = self._forward(path)
        edges = path.edges if forward else path.edges[::-1]
        rows, known = "", set[str]()
        if not edges:
            node = path.nodes[0]
            rows = self.tables.add(
                "nodes", f"select id as {id_column(node.name)} from ({self.scans.feature_ids(node)})"
            )
        for place, edge in enumerate(edges):
            step = _Traversal(edge, forward)
            if edge.is_group:
                rows = self._join_walks(rows, step, known, self._wanted(path, edge, requested))
            else:
                before_group = place + 1 < len(edges) and edges[place + 1].is_group
                rows = self._join_edge(rows, step, known, requested.of(edge), materialized=before_group)
            known |= {step.near.name, step.far.name}
        return self._select_paths(path, rows, requested)

    def _join_edge(
        self, rows: str, step: _Traversal, known: set[str], props: set[str], *, materialized: bool
    ) -> str:
        """Add one edge to rows, or begin with it."""
        edge, near, far = step.edge, step.near, step.far
        name, (near_end, far_end) = quoted(edge.name), ends(edge, step.forward)
        tests = self.scans.edge_tests(edge, near.saes, far.saes, forward=step.forward, begins=not rows)
        columns = [f"{name}.{quoted(prop)} as {quoted(f'{edge.name}.{prop}')}" for prop in sorted(props)]
        if near.name == far.name:
            tests.append(f"{near_end} = {far_end}")
        else:
            tests += self.scans.node_tests(far_end, far, far.saes)
            if far.name in known:
                tests.append(f"{far_end} = {rows}.{id_column(far.name)}")
            else:
                columns.insert(0, f"{far_end} as {id_column(far.name)}")
        source = f"main.edge {name}"
        if rows:
            columns.insert(0, f"{rows}.*")
            source = f"{rows} join {source} on {near_end} = {rows}.{id_column(near.name)}"
        else:
            tests += self.scans.node_tests(near_end, near, near.saes)
            columns.insert(0, f"{near_end} as {id_column(near.name)}")
        query = f"select {', '.join(columns)}\n    from {source}\n    where {conjunction(tests)}"
        return self.tables.add("rows", query, materialized=materialized)

    def _join_walks(self, rows: str, step: _Traversal, known: set[str], wanted: Wanted) -> str:
        """Add a repeated edge to rows, or begin with it."""
        edge, near, far = step.edge, step.near, step.far
        starts = (
            f"select distinct {id_column(near.name)} as id from {rows}"
            if rows
            else self.scans.feature_ids(near)
        )
        start = self.tables.add("start", starts, materialized=True)
        walk = self.walks.add_walks(edge, start, wanted, forward=step.forward)
        columns = [f"{walk}.length as {quoted(edge.name + '#length')}"]
        for column in wanted.columns:
            named = edge.name + (column if column.startswith(".") else f"#{column}")
            columns.append(f"{walk}.{quoted(column)} as {quoted(named)}")
        tests = []
        if near.name == far.name:
            tests.append(f"{walk}.node = {walk}.root")
        elif far.name in known:
            tests.append(f"{walk}.node = {rows}.{id_column(far.name)}")
        else:
            columns.insert(0, f"{walk}.node as {id_column(far.name)}")
        if rows:
            columns.insert(0, f"{rows}.*")
            source = f"{rows} join {walk} on {walk}.root = {rows}.{id_column(near.name)}"
        else:
            columns.insert(0, f"{walk}.root as {id_column(near.name)}")
            source = walk
        where = f" where {conjunction(tests)}" if tests else ""
        return self.tables.add("rows", f"select {', '.join(columns)} from {source}{where}")

    def _select_paths(self, path: Path, rows: str, requested: RequestedColumns) -> str:
        """Add what is asked of the path as a whole, and keep what its selector keeps."""
        columns = self._path_columns(path, requested)
        if path.selector.choice == "all":
            if not columns:
                return rows
            added = "".join(f", {sql} as {quoted(name)}" for name, sql in columns)
            return self.tables.add("path", f"select *{added} from {rows}")
        columns += order_columns(path, self)
        added = "".join(f", {sql} as {quoted(name)}" for name, sql in columns)
        whole = self.tables.add("path", f"select *{added} from {rows}")
        return self.tables.add("chosen", f"select * from {whole} {qualify_clause(path)}")

    def _path_columns(self, path: Path, requested: RequestedColumns) -> list[tuple[str, str]]:
        made = {"path_length": "length", "weight": "weight", "bottleneck": "bottleneck"}
        names = {made.get(function) or "nodes" for function in requested.functions}
        if "edges" in requested.functions:
            names.add("cosine")
        return [(f"{path.name}#{name}", self.of_path(path, name)) for name in sorted(names)]

    def of_path(self, path: Path, name: str) -> str:
        """Return the SQL of one measure of a whole path over its rows: of its edges taken together."""
        parts = [self.of_edge(edge, name) for edge in path.edges]
        if name == "length":
            return " + ".join(parts) or "0"
        if name == "weight":
            return " * ".join(parts) or "1::double"
        if name == "bottleneck":
            return f"least({', '.join(parts)})" if parts else "null::float"
        if name == "nodes":
            return " || ".join([f"[{id_column(path.nodes[0].name)}]", *parts])
        kind = self.scans.context.columns["edge"][name]
        return " || ".join(parts) or f"[]::{kind}[]"

    def of_edge(self, edge: Edge, name: str) -> str:
        """Return the SQL of one measure of one edge: a list where the measure of the path is one."""
        if edge.is_group:
            if name == "nodes":
                return f"{quoted(edge.name + '#nodes')}[2:]"
            return quoted(
                edge.name + (f"#{name}" if name in ("length", "weight", "bottleneck") else f".{name}")
            )
        if name == "length":
            return "1"
        if name == "nodes":
            return f"[{id_column(edge.right.name)}]"
        column = quoted(f"{edge.name}.{'cosine' if name in ('weight', 'bottleneck') else name}")
        if name == "weight":
            return f"{column}::double"
        return column if name == "bottleneck" else f"[{column}]"

    def _add_best_walks(self, path: Path, requested: RequestedColumns) -> str:
        """Add the tables of a path of one repeated edge and a selector that can drop walks on the way."""
        (edge,) = path.edges
        start = self.tables.add("start", self.scans.feature_ids(edge.left), materialized=True)
        wanted = Wanted(
            nodes=bool(requested.functions & {"nodes", "keys", "edges"}),
            weight="weight" in requested.functions,
            bottleneck="bottleneck" in requested.functions,
            props=tuple(sorted(self._named_props(path, requested))),
        )
        walk = self.best.add_best_walks(path, start, wanted)
        columns = [f"root as {id_column(edge.left.name)}"]
        test = ""
        if edge.left.name == edge.right.name:
            test = " where root = node"
        else:
            columns.append(f"node as {id_column(edge.right.name)}")
        columns.append(f"length as {quoted(edge.name + '#length')}")
        columns += [f"{quoted('.' + prop)} as {quoted(f'{edge.name}.{prop}')}" for prop in wanted.props]
        measures = ["length", *wanted.columns] if path.name is not None else []
        for measure in measures:  # of all lists of properties, only the cosines are requested of a path
            if measure in (".cosine", "length", "nodes", "weight", "bottleneck"):
                columns.append(f"{quoted(measure)} as {quoted(f'{path.name}#' + measure.removeprefix('.'))}")
        return self.tables.add("chosen", f"select {', '.join(columns)} from {walk}{test}")

    def _named_props(self, path: Path, requested: RequestedColumns) -> set[str]:
        """Return the properties that the statement itself asks for along the edge of a chosen walk."""
        named = {use.prop for use in self.uses if use.variable is path.edges[0] and use.prop}
        return named | ({"cosine"} if "edges" in requested.functions else set())

    def _add_empty(self, path: Path, requested: RequestedColumns) -> str:
        """Add a table without rows that has the columns of the path."""
        types = self.scans.context.columns["edge"]
        columns = {id_column(node.name): "integer" for node in path.nodes}
        for edge in path.edges:
            many = "[]" if edge.is_group else ""
            columns |= {quoted(f"{edge.name}.{prop}"): types[prop] + many for prop in requested.of(edge)}
            columns[quoted(edge.name + "#length")] = "integer"
        kinds = {
            "nodes": "integer[]",
            "length": "integer",
            "weight": "double",
            "bottleneck": "float",
            "cosine": "float[]",
        }
        columns |= {quoted(f"{path.name}#{name}"): kind for name, kind in kinds.items()}
        nulls = ", ".join(f"null::{kind} as {name}" for name, kind in columns.items())
        return self.tables.add("nothing", f"select {nulls} where false")
