"""DuckDB alone: the same file, and the SQL that one would write first."""

from pathlib import Path

from peers import HOPS, THRESHOLD, Rows, Shape, connect

LINEAGE = f"""
    with recursive down as (
        select $feature::integer as id
        union
        select e.dst from down d join edge e on e.src = d.id where e.cosine >= {THRESHOLD}{{residual}}
    ),
    up as (
        select $feature::integer as id
        union
        select e.src from up u join edge e on e.dst = u.id where e.cosine >= {THRESHOLD}{{residual}}
    )
    select id from down union select id from up
"""
SPLITS = f"""
    select src, count(*) as n
    from edge e
    where cosine >= {THRESHOLD} and rank_in = 1{{residual}}
    group by src
    having n >= 2
"""
CHILDREN = f"""
    select src, list(dst) as children
    from edge e
    where cosine >= {THRESHOLD} and rank_in = 1{{residual}}
    group by src
    having count(*) >= 2
"""
BEST_PATH = """
    with recursive best as (
        select $first::integer as id, 0 as hops, 1::double as weight, [$first::integer] as nodes
        union all
        select e.dst, b.hops + 1, max(b.weight * e.cosine), arg_max(b.nodes || [e.dst], b.weight * e.cosine)
        from best b join edge e on e.src = b.id
        where e.cosine > 0 and b.hops < {hops}{residual}
        group by e.dst, b.hops
    )
    select nodes from best where id = $last order by weight desc limit 1
"""
WALKS = f"""
    with recursive walk as (
        select e.dst as id, 1 as length
        from edge e join feature f on f.id = e.src
        where f.layer = $layer and e.cosine >= {THRESHOLD}{{residual}}
        union all
        select e.dst, w.length + 1
        from walk w join edge e on e.src = w.id
        where e.cosine >= {THRESHOLD} and w.length < {HOPS}{{residual}}
    )
    select count(*), sum(length) from walk
"""


class ByHand:
    """A read-only connection of its own; statements name the kind of edge where there are several."""

    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
        del scratch
        self.connection = connect(graph)
        self.chosen = {"residual": shape.residual, "hops": shape.hops}

    def _rows(self, statement: str, parameters: dict[str, int] | None = None) -> Rows:
        return self.connection.execute(statement.format(**self.chosen), parameters or {}).fetchall()

    def lineage(self, feature: int) -> list[int]:
        return [row[0] for row in self._rows(LINEAGE, {"feature": feature})]

    def splits(self) -> Rows:
        return self._rows(SPLITS)

    def children(self) -> Rows:
        return self._rows(CHILDREN)

    def best_path(self, first: int, last: int) -> list[int]:
        return list(self._rows(BEST_PATH, {"first": first, "last": last})[0][0])

    def walks(self, layer: int) -> tuple[int, int]:
        count, total = self._rows(WALKS, {"layer": layer})[0]
        return int(count), int(total or 0)

    def close(self) -> None:
        self.connection.close()
