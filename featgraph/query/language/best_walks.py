"""ANY, SHORTEST and BEST over one repeated edge: per step only the first k ways to each node go on.

That is enough because all scores are monotone: of two ways to a node, the one that comes first still does
when both go on over the same edge. Once the ends are chosen, their ways are traced back step by step.
"""

from featgraph.query.language.bind import Path
from featgraph.query.language.scans import conjunction, ends, quoted
from featgraph.query.language.selectors import EMPTY_PATH_SCORE, extended_score, path_order
from featgraph.query.language.walks import Walks, Wanted


class BestWalks(Walks):
    """Writes the first k walks between each two ends of a repeated edge."""

    def add_best_walks(self, path: Path, start: str, wanted: Wanted) -> str:
        """Add the tables that find the first walks of a path from the ids in table `start`.

        The last one, whose name is returned, has the columns root, node, length, and what is wanted.
        """
        (edge,) = path.edges
        target, steps = self.target_and_hops(edge, forward=True)
        towards_target = self.target_tests(edge, steps, forward=True)
        zero = EMPTY_PATH_SCORE[path.selector.by if path.selector.choice == "best" else "product"]
        places = ", null::integer as prev, 1 as place, 1 as prev_place" if path.selector.k > 1 else ""
        tables = [
            self.tables.add("step0", f"select id as root, id as node, {zero} as score{places} from {start}")
        ]
        for step in range(1, steps.lengths[-1] + 1):
            passing = [
                *self.scans.edge_tests(edge, steps.at[step - 1], steps.at[step], forward=True),
                *towards_target[step],
            ]
            tables.append(self.add_best_step(path, tables[-1], step, conjunction(passing)))
        branches = []
        for length in steps.lengths:
            there = conjunction(self.scans.id_tests("node", target, steps.at[length]))
            branches.append(f"select *, {length} as length from {tables[length]} where {there}")
        joined = "\n        union all by name ".join(branches)
        last = [f"node in ({self.scans.feature_ids(target)})"] if target.conditions else []
        order = ", ".join([*path_order(path.selector), *(["prev", "prev_place"] if places else [])])
        tests = conjunction([*last, *self.row_limit_test(tables[1:])])
        ended = self.tables.add(
            "ended",
            f"select * from (\n        {joined}\n    )\n    where {tests}\n"
            f"    qualify row_number() over (partition by root, node order by {order}) <= {path.selector.k}",
            materialized=True,
        )
        return self.add_trace(path, ended, tables, wanted)

    def add_best_step(self, path: Path, before: str, step: int, tests: str) -> str:
        """Add the first k ways of one edge more to each node; of one way only its score is kept."""
        (edge,) = path.edges
        near, far = ends(edge, forward=True)
        row, k = self.row, path.selector.k
        score = extended_score(
            path.selector, f"{row}.score", f"{quoted(edge.name)}.{quoted(path.selector.prop)}"
        )
        joined = f"{before} {row} join main.edge {quoted(edge.name)} on {near} = {row}.node"
        source = f"from {joined}\n    where {tests}"
        limit = f"\n    limit {self.max_rows + 1}" if self.max_rows is not None else ""
        if k == 1:
            alone = f"{edge.left.id} as root" if edge.left.id is not None else f"{row}.root"
            groups = far if edge.left.id is not None else f"{row}.root, {far}"
            best = f"{alone}, {far} as node, max({score}) as score"
            query = f"select {best}\n    {source}\n    group by {groups}{limit}"
        else:
            place = "row_number() over (partition by root, node order by score desc, prev, prev_place)"
            ways = (
                f"{row}.root, {far} as node, {score} as score, {row}.node as prev, {row}.place as prev_place"
            )
            query = (
                f"select *, {place} as place\n    from (\n        select {ways}\n        {source}\n    )\n"
                f"    qualify place <= {k}{limit}"
            )
        return self.tables.add(f"step{step}", query, materialized=True)

    def add_trace(self, path: Path, ended: str, tables: list[str], wanted: Wanted) -> str:
        """Add the tables that go back along the chosen walks, if anything along them is wanted."""
        (edge,) = path.edges
        columns = self.measure_columns(path, wanted)
        needs_cosines = any("cosine" in sql for sql in columns.values())
        props = [*wanted.props, *(["cosine"] if needs_cosines and "cosine" not in wanted.props else [])]
        summed = "".join(f", {sql} as {name}" for name, sql in columns.items())
        if not wanted.nodes and not props:
            return self.tables.add("walk", f"select root, node, length{summed} from {ended}")
        types = self.scans.context.columns["edge"]
        carried = "".join(f", []::{types[prop]}[] as {quoted('.' + prop)}" for prop in props)
        place = "place" if path.selector.k > 1 else "1"
        begin = (
            f"select root, node, length, {place} as place, score, [node] as nodes{carried},\n"
            f"        node as at_node, score as at_score, {place} as at_place"
        )
        before = ""
        for length in range(edge.hops.lengths[-1], -1, -1):
            parts = [f"{begin} from {ended} where length = {length}"] if length in edge.hops.lengths else []
            if before:
                parts.append(self.trace_step(path, before, tables[length : length + 2], length, props))
            before = self.tables.add("trace", "\n    union all by name ".join(parts), materialized=True)
        kept = ["nodes", *(quoted("." + prop) for prop in wanted.props)]
        return self.tables.add("walk", f"select root, node, length, {', '.join(kept)}{summed} from {before}")

    def trace_step(self, path: Path, before: str, steps: list[str], length: int, props: list[str]) -> str:
        """Return the query that goes one edge back, to the nodes after `length` edges.

        Of k ways each row says where it came from. Of one way only the score is known: it came over the edge
        that makes the score what it is, from the smallest id if there are several.
        """
        (edge,) = path.edges
        name, (near, far) = quoted(edge.name), ends(edge, forward=True)
        here, there = edge.hops.at[length], edge.hops.at[length + 1]
        lists = "".join(
            f", list_prepend({name}.{quoted(prop)}, {before}.{quoted('.' + prop)}) as {quoted('.' + prop)}"
            for prop in props
        )
        kept = ", ".join(f"{before}.{column}" for column in ("root", "node", "length", "place", "score"))
        row = self.row
        on_edge = [f"{far} = {before}.at_node", *self.scans.edge_tests(edge, here, there, forward=True)]
        if path.selector.k == 1:
            score = extended_score(path.selector, f"{row}.score", f"{name}.{quoted(path.selector.prop)}")
            same = f"{row}.root = {before}.root and {row}.node = {near} and {score} = {before}.at_score"
            return (
                f"select {kept}, list_prepend({near}, {before}.nodes) as nodes{lists}, {near} as at_node,\n"
                f"        {row}.score as at_score, 1 as at_place\n"
                f"    from {before} join main.edge {name} on {conjunction(on_edge)}\n"
                f"    join {steps[0]} {row} on {same}\n"
                f"    qualify row_number() over (partition by {before}.root, {before}.node\n"
                f"        order by {near}) = 1"
            )
        link = (
            f"\n    join main.edge {name} on {conjunction([f'{near} = {row}.prev', *on_edge])}"
            if props
            else ""
        )
        return (
            f"select {kept}, list_prepend({row}.prev, {before}.nodes) as nodes{lists},\n"
            f"        {row}.prev as at_node, 0::double as at_score, {row}.prev_place as at_place\n"
            f"    from {before} join {steps[1]} {row} on {row}.root = {before}.root\n"
            f"        and {row}.node = {before}.at_node and {row}.place = {before}.at_place{link}"
        )

    def measure_columns(self, path: Path, wanted: Wanted) -> dict[str, str]:
        """Return weight and bottleneck as SQL over a traced walk."""
        selector = path.selector
        by = selector.by if selector.choice == "best" and selector.prop == "cosine" else None
        columns: dict[str, str] = {}
        if wanted.weight:
            product = 'coalesce(list_product(".cosine"::double[]), 1)'
            columns["weight"] = "score" if by == "product" else product
        if wanted.bottleneck:
            columns["bottleneck"] = 'list_min(".cosine")'
        return columns
