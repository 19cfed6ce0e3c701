"""A repeated edge as SQL: every walk of the lengths that can occur, one common table per step.

Written step by step rather than as a recursion: each step then has its own run of ids to scan, and wide
frontiers cost one hash join each. `tests/bench/README.md` has it beside the recursive join.
"""

from dataclasses import dataclass

from featgraph.query.language.bind import Edge, Node
from featgraph.query.language.sae_sets import Hops, hops
from featgraph.query.language.scans import Scans, conjunction, ends, quoted

TOO_MANY = "more paths than the limit"
"""What a statement fails with, at run time, when a pattern has more walks than `max_rows`."""

_WORTH_LOOKING_BACK = 4
"""Steps from which it pays to find out first from where the other end can be reached."""


@dataclass
class Wanted:
    """The columns of each walk that the statement needs, beside its two ends and its length."""

    nodes: bool = False
    weight: bool = False
    bottleneck: bool = False
    props: tuple[str, ...] = ()
    """Properties of its edges, as lists."""

    @property
    def columns(self) -> list[str]:
        """The columns wanted, in order."""
        plain = {"nodes": self.nodes, "weight": self.weight, "bottleneck": self.bottleneck}
        return [name for name, there in plain.items() if there] + [f".{prop}" for prop in self.props]


class Tables:
    """The common tables of one statement, in order, with names that nothing else in the statement has."""

    def __init__(self, taken: frozenset[str]) -> None:
        self.taken = set(taken)
        self.written: list[str] = []

    def free(self, name: str) -> str:
        """Return a name like the one given that is not taken yet, and take it."""
        number, candidate = 1, name
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate

    def add(self, name: str, query: str, *, materialized: bool = False) -> str:
        """Add a table and return its name."""
        name = self.free(name)
        self.written.append(f"{name} as {'materialized ' if materialized else ''}(\n    {query}\n)")
        return name


class Walks:
    """Writes the walks of repeated edges."""

    def __init__(self, scans: Scans, tables: Tables) -> None:
        self.scans = scans
        self.tables = tables
        self.max_rows = scans.context.max_rows
        self.row = tables.free("so_far")

    def add_walks(self, edge: Edge, start: str, wanted: Wanted, *, forward: bool) -> str:
        """Add the tables that follow an edge from the ids in table `start`; return the last one's name.

        Its columns: root (an id of `start`), node (the other end), length, and what is wanted. `forward` =
        from the left end to the right one. Lists are in the order of the pattern, left to right.
        """
        target, steps = self.target_and_hops(edge, forward)
        towards_target = self.target_tests(edge, steps, forward=forward)
        tables = [start]
        for step in range(1, steps.lengths[-1] + 1):
            tests = [
                *self.scans.edge_tests(edge, steps.at[step - 1], steps.at[step], forward=forward),
                *towards_target[step],
            ]
            tables.append(self.add_step(edge, tables[-1], step, tests, wanted, forward=forward))
        branches = []
        for length in steps.lengths:
            columns = (
                ["root", "node", *map(quoted, wanted.columns)] if length else self.empty_walk_columns(wanted)
            )
            there = conjunction(self.scans.id_tests("node" if length else "id", target, steps.at[length]))
            row = f"{', '.join(columns)}, {length} as length"
            branches.append(f"select {row} from {tables[length]} where {there}")
        last = [f"node in ({self.scans.feature_ids(target)})"] if target.conditions else []
        kept = conjunction([*last, *self.row_limit_test(tables[1:])])
        joined = "\n        union all ".join(branches)
        return self.tables.add("walk", f"select * from (\n        {joined}\n    ) where {kept}")

    def target_and_hops(self, edge: Edge, forward: bool) -> tuple[Node, Hops]:
        """Return the node that the walks end at, and where they are after each step."""
        if forward:
            return edge.right, edge.hops
        graph, left, right = self.scans.graph, edge.left.saes, edge.right.saes
        return edge.left, hops(graph, right, left, edge.kinds, edge.low, edge.high, down=not edge.down)

    def target_tests(self, edge: Edge, steps: Hops, *, forward: bool) -> list[list[str]]:
        """Return, per step, the tests that it can still lead to the other end, where that is one feature.

        The features that lead there are found first, from that end, for the second half of the steps: there
        the walks from the first end have become many, and those that end well are few.
        """
        start, target = (edge.left, edge.right) if forward else (edge.right, edge.left)
        tests: list[list[str]] = [[] for _ in steps.at]
        longest = steps.lengths[-1]
        if target.id is None or longest < _WORTH_LOOKING_BACK:
            return tests
        near, far = ends(edge, forward)
        towards = f"(select {target.id} as id)"
        for step in range(longest, (longest + 1) // 2 if start.id is not None else 1, -1):
            on = conjunction(self.scans.edge_tests(edge, steps.at[step - 1], steps.at[step], forward=forward))
            query = (
                f"select {near} as id from main.edge {quoted(edge.name)}\n"
                f"    where {far} in (select id from {towards}) and {on}"
            )
            if step - 1 in steps.lengths:
                query += f"\n    union all select {target.id}"
            towards = self.tables.add("towards", f"select distinct id from ({query})", materialized=True)
            tests[step - 1].append(f"{far} in (select id from {towards})")
        return tests

    def add_step(
        self, edge: Edge, before: str, step: int, tests: list[str], wanted: Wanted, *, forward: bool
    ) -> str:
        """Add the table of walks that are one edge longer than those of the table before."""
        near, far = ends(edge, forward)
        extended = self.extended_columns(edge, wanted, first=step == 1, forward=forward)
        root, node = ("id", "id") if step == 1 else ("root", "node")
        columns = [f"{self.row}.{root} as root", f"{far} as node"]
        columns += [f"{sql} as {quoted(column)}" for column, sql in extended]
        limit = f"\n    limit {self.max_rows + 1}" if self.max_rows is not None else ""
        return self.tables.add(
            f"step{step}",
            f"select {', '.join(columns)}\n"
            f"    from {before} {self.row} join main.edge {quoted(edge.name)} on {near} = {self.row}.{node}\n"
            f"    where {conjunction(tests)}{limit}",
            materialized=True,
        )

    def extended_columns(
        self, edge: Edge, wanted: Wanted, *, first: bool, forward: bool
    ) -> list[tuple[str, str]]:
        """Return the columns wanted of walks grown by one edge: name and SQL."""
        name, (near, far) = quoted(edge.name), ends(edge, forward)
        columns: list[tuple[str, str]] = []

        def longer(column: str, item: str) -> str:
            so_far = f"{self.row}.{quoted(column)}"
            return f"list_append({so_far}, {item})" if forward else f"list_prepend({item}, {so_far})"

        if wanted.nodes:
            both = f"[{near}, {far}]" if forward else f"[{far}, {near}]"
            columns.append(("nodes", both if first else longer("nodes", far)))
        if wanted.weight:
            weight = f"{name}.cosine::double"
            columns.append(("weight", weight if first else f"{self.row}.weight * {weight}"))
        if wanted.bottleneck:
            least = f"least({self.row}.bottleneck, {name}.cosine)"
            columns.append(("bottleneck", f"{name}.cosine" if first else least))
        for prop in wanted.props:
            item = f"{name}.{quoted(prop)}"
            columns.append((f".{prop}", f"[{item}]" if first else longer(f".{prop}", item)))
        return columns

    def empty_walk_columns(self, wanted: Wanted) -> list[str]:
        """Return the columns of a walk of no edges, which starts and ends at an id."""
        types = self.scans.context.columns["edge"]
        columns = ["id as root", "id as node"]
        values = {"nodes": "[id]", "weight": "1::double", "bottleneck": "null::float"}
        for column in wanted.columns:
            value = values.get(column) or f"[]::{types[column[1:]]}[]"
            columns.append(f"{value} as {quoted(column)}")
        return columns

    def row_limit_test(self, tables: list[str]) -> list[str]:
        """Return a test that fails the statement when a table was cut off at `max_rows`."""
        if self.max_rows is None or not tables:
            return []
        counts = " union all ".join(f"select count(*) as n from {table}" for table in tables)
        most = f"(select max(n) from ({counts}))"
        return [f"case when {most} > {self.max_rows} then error('{TOO_MANY}') else true end"]
