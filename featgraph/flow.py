"""Where a feature comes from and what becomes of it, as Python objects: lineage, span, nearest features.

The table macros of `verbs.sql` decide what belongs to a lineage; this file gives their rows names and a
graph. Nothing heavier than DuckDB is imported until a method needs it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featgraph.errors import UsageError
from featgraph.model import MODULE_THRESHOLD, EdgeKind, FeatureKey, Slab
from featgraph.store import Store

if TYPE_CHECKING:
    import networkx

    from featgraph.query.result import Result


@dataclass(frozen=True)
class Member:
    """One feature of a lineage."""

    id: int
    key: str
    layer: int
    site: str
    idx: int
    distance: int
    """Steps from the seed, which is at 0."""
    weight: float
    """Largest product of cosines over the ways from the seed, 1 for the seed."""
    density: float
    """Share of tokens on which it is active, 0 to 1."""
    label: str | None


@dataclass(frozen=True)
class Edge:
    """One link of a lineage, from the upstream feature to the downstream one."""

    src: str
    dst: str
    kind: EdgeKind
    cosine: float


@dataclass(frozen=True)
class Step:
    """One feature of a span."""

    key: str
    layer: int
    cosine: float | None
    """Of the edge that joins it to the span on the seed's side; None for the seed itself."""


@dataclass(frozen=True)
class Lineage:
    """A feature with its ancestors, descendants and writers, and the edges between them."""

    seed: str
    members: tuple[Member, ...]
    """In order of id, which is the order in which the model computes them."""
    edges: tuple[Edge, ...]
    """In order of the source's id, then the target's."""

    @property
    def span(self) -> tuple[Step, ...]:
        """The seed's main line, lowest layer first: its best parent and child, their best ones, and so on.

        Empty for an mlp or att seed, which is on no residual line itself; see `span` for where it writes.
        """
        layers = {member.key: member.layer for member in self.members if member.site == "res"}
        if self.seed not in layers:
            return ()
        # Weakest first, so that the last edge of an end is its best; ties go to the lower id, as ranks do.
        residual = [edge for edge in reversed(self.edges) if edge.kind == "res_res"]
        residual.sort(key=lambda edge: edge.cosine)
        parents = {edge.dst: (edge.src, edge.cosine) for edge in residual}
        children = {edge.src: (edge.dst, edge.cosine) for edge in residual}
        above, below = _follow(self.seed, parents), _follow(self.seed, children)
        line = [*reversed(above), (self.seed, None), *below]
        return tuple(Step(key, layers[key], cosine) for key, cosine in line)

    def to_networkx(self) -> "networkx.DiGraph":
        """Return a directed graph: nodes are keys, edges carry `kind` and `cosine`.

        Nodes carry id, layer, site, idx, distance, weight and density, and a label where there is one.
        """
        import networkx

        graph = networkx.DiGraph(seed=self.seed)
        for member in self.members:
            values = {name: value for name, value in vars(member).items() if value is not None}
            graph.add_node(values.pop("key"), **values)
        for edge in self.edges:
            graph.add_edge(edge.src, edge.dst, kind=edge.kind, cosine=edge.cosine)
        return graph


def lineage(
    store: Store, key: str, *, min: float | None, hops: int | None, writers: bool, writer_min: float
) -> Lineage:
    """Return a feature with its ancestors and descendants over edges that pass, and their writers.

    min: cosine threshold; None holds each edge against `threshold_high` of its downstream SAE.
    hops: how many layers to go each way, None for all. writer_min: smallest cosine of mlp and att writers.

    Raises UsageError: the graph has no such feature.
    """
    seed = FeatureKey.parse(key)
    asked = {"key": str(seed), "min": min, "hops": hops, "writers": writers, "writer_min": writer_min}
    found = store.rows(_MEMBERS, asked)
    if not found:
        find(store, key)
    ids = [row[0] for row in found]
    details = {row[0]: row[1:] for row in store.rows(_DETAILS, {"ids": ids})}
    members = tuple(Member(*row, *details[row[0]]) for row in found)
    keys = {member.id: member.key for member in members}
    links = store.rows(_EDGES, {"ids": ids, "min": min, "writer_min": writer_min})
    return Lineage(str(seed), members, tuple(Edge(keys[src], keys[dst], *rest) for src, dst, *rest in links))


def span(store: Store, key: str, *, min: float | None) -> tuple[Step, ...]:
    """Return the main line of a feature, lowest layer first, one residual feature per layer.

    It goes on to the best parent and the best child while the cosine stays at or above `min` (None: the
    downstream SAE's `threshold_high`). An mlp or att feature stands for the residual feature that it writes
    most strongly; if it writes none with a cosine of at least `MODULE_THRESHOLD`, the span is empty.

    Raises UsageError: the graph has no such feature.
    Source: arXiv 2502.03032 v3, section 3.3 (similarity span).
    """
    seed, slab = find(store, key)
    if seed.site == "res":
        return lineage(store, str(seed), min=min, hops=None, writers=False, writer_min=MODULE_THRESHOLD).span
    written = strongest_written(store, slab.first_id + seed.idx)
    if written is None:
        return ()
    return tuple(written if step.cosine is None else step for step in span(store, written.key, min=min))


def similar(store: Store, key: str, *, k: int) -> "Result":
    """Return the k features of every SAE nearest to one feature's direction, best first, without itself.

    Columns: id, key, layer, site, cosine, label.

    Raises UsageError: the graph has no such feature, or k is below 1.
    """
    from featgraph import vectors
    from featgraph.query.result import Result

    if k < 1:
        raise UsageError(f"k = {k} asks for no features; give 1 or more")
    seed, home = find(store, key)
    query = vectors.directions(store.vectors(home), [seed.idx])
    found: dict[int, float] = {}
    for slab in store.slabs:
        cosines, ids = vectors.search(store.vectors(slab), query, k + (slab == home))
        pairs = zip(ids[0].tolist(), cosines[0].tolist(), strict=True)
        others = [(slab.first_id + idx, cosine) for idx, cosine in pairs if slab.key(idx) != seed]
        found.update(others[:k])
    named = store.rows(_NAMES, {"ids": list(found)})
    named.sort(key=lambda row: (-found[row[0]], row[0]))
    rows: list[tuple[object, ...]] = [(*row[:4], found[row[0]], row[4]) for row in named]
    columns = ["id", "key", "layer", "site", "cosine", "label"]
    return Result(columns, rows, ["INTEGER", "VARCHAR", "INTEGER", "VARCHAR", "FLOAT", "VARCHAR"])


def find(store: Store, key: str) -> tuple[FeatureKey, Slab]:
    """Return a feature's key, parsed, and the SAE that it belongs to.

    Raises UsageError: the key is malformed, or the graph has no such feature.
    """
    wanted = FeatureKey.parse(key)
    for slab in store.slabs:
        if (slab.layer, slab.site) != (wanted.layer, wanted.site):
            continue
        if wanted.idx < slab.n_features:
            return wanted, slab
        raise UsageError(
            f"no feature {key!r}: {slab.layer}/{slab.site} has {slab.n_features} features; "
            f"the last is '{slab.key(slab.n_features - 1)}'"
        )
    raise UsageError(f"no feature {key!r}: {_why_no_sae(wanted, store.slabs)}")


def strongest_written(store: Store, feature: int) -> Step | None:
    """Return the residual feature that an mlp or att feature writes most strongly, if it writes one.

    feature: its id. Writing means a cosine of at least `MODULE_THRESHOLD`.
    """
    rows = store.rows(_WRITTEN, {"feature": feature, "least": MODULE_THRESHOLD})
    return Step(*rows[0]) if rows else None


_BEST_LABEL = """
    select feature, arg_min(text, (source = 'tokens', source)) as label
    from label where feature in (select id from chosen) group by feature
"""
"""One label per feature: what somebody wrote comes before what was made from its tokens."""

_MEMBERS = "from lineage($key, min := $min, hops := $hops, writers := $writers, writer_min := $writer_min)"

_DETAILS = """
    select f.id, any_value(f.density), arg_min(l.text, (l.source = 'tokens', l.source))
    from feature f
    left join label l on l.feature = f.id
    where f.id in (select unnest($ids))
    group by f.id
"""
"""Read by id once the members are known: joined to the macro, the planner takes longer."""

_EDGES = "from edges_among($ids, min := $min, writer_min := $writer_min)"

_NAMES = f"""
    with chosen as (select unnest($ids) as id), named as ({_BEST_LABEL})
    select f.id, f.key, f.layer, f.site, n.label
    from feature f join chosen c on c.id = f.id
    left join named n on n.feature = f.id
"""

_WRITTEN = """
    select n.key, n.layer, e.cosine
    from edge e join feature n on n.id = e.dst
    where e.src = $feature and e.kind <> 'res_res' and e.cosine >= $least::float
    order by e.cosine desc, e.dst limit 1
"""


def _follow(key: str, best: dict[str, tuple[str, float]]) -> list[tuple[str, float]]:
    """Return what is reached from `key` by going on to the best, with the cosine of each edge."""
    line: list[tuple[str, float]] = []
    while key in best:
        line.append(best[key])
        key = best[key][0]
    return line


def _why_no_sae(wanted: FeatureKey, slabs: list[Slab]) -> str:
    """Say which layers or sites there are instead, and the nearest key that exists."""
    same_site = [slab for slab in slabs if slab.site == wanted.site]
    if same_site:
        layers = ", ".join(str(slab.layer) for slab in same_site)
        there = f"{wanted.site} SAEs are at layer {layers}"
    else:
        there = f"there are no {wanted.site} SAEs, only {', '.join(sorted({slab.site for slab in slabs}))}"
    # At equal distance the later one of the model, so the residual one of a layer.
    close = min(same_site or slabs, key=lambda slab: (abs(slab.layer - wanted.layer), -slab.slab))
    return f"{there}; did you mean '{close.key(min(wanted.idx, close.n_features - 1))}'?"
