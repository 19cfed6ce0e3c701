"""Where a feature comes from and what becomes of it, as Python objects: lineage and span.

The table macros of `verbs.sql` decide what belongs to a lineage; this file gives their rows names and a
graph. Nothing heavier than DuckDB is imported until a method needs it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featgraph.core.files import output_file
from featgraph.core.keys import MODULE_THRESHOLD, EdgeKind, FeatureKey
from featgraph.core.result import Result
from featgraph.core.text import pluralize
from featgraph.errors import StoreError, UsageError
from featgraph.lineage.in_memory import adjacency_if_repeated
from featgraph.store import Store
from featgraph.store.features import best_labels, find_feature, id_of

if TYPE_CHECKING:
    import networkx

    from featgraph.drawing import Detail, Theme


_MEMBER_COLUMNS = {
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
_EDGE_COLUMNS = {"src": "VARCHAR", "dst": "VARCHAR", "kind": "VARCHAR", "cosine": "FLOAT", "value": "FLOAT"}


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
    """Largest product of cosines over the paths from the seed, 1 for the seed."""
    density: float
    """Share of tokens on which it is active, 0 to 1."""
    label: str | None


@dataclass(frozen=True)
class Edge:
    """One edge of a lineage, from the upstream feature to the downstream one."""

    src: str
    dst: str
    kind: EdgeKind
    cosine: float
    value: float
    """The measure that the lineage goes by; of a writer's edge, the cosine."""


@dataclass(frozen=True)
class Step:
    """One feature of a span."""

    key: str
    layer: int
    cosine: float | None
    """Of the edge that joins it to the span on the seed's side; None for the seed itself."""


@dataclass(frozen=True, repr=False)
class Lineage:
    """A feature with its ancestors, descendants and writers, and the edges between them.

    In a notebook it shows itself as a picture.
    """

    seed: str
    members: tuple[Member, ...]
    """In order of id, which is the order in which the model computes them."""
    edges: tuple[Edge, ...]
    """In order of the source's id, then the target's."""
    min: float | None = None
    """Cosine threshold of its residual edges; None: each SAE's `threshold_high`."""
    by: str = "cosine"
    """The measure that its residual edges go by."""
    store: Store | None = field(default=None, compare=False)
    """The graph that it was read from, where a picture of it reads what else it tells."""

    def __repr__(self) -> str:
        layers = [member.layer for member in self.members]
        counts = f"{pluralize(len(self.members), 'feature')}, {pluralize(len(self.edges), 'edge')}"
        return f"<Lineage of {self.seed}: {counts}, layers {min(layers)} to {max(layers)}>"

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
        residual.sort(key=lambda edge: edge.value)
        parents = {edge.dst: (edge.src, edge.value) for edge in residual}
        children = {edge.src: (edge.dst, edge.value) for edge in residual}
        above, below = _follow(self.seed, parents), _follow(self.seed, children)
        line = [*reversed(above), (self.seed, None), *below]
        return tuple(Step(key, layers[key], cosine) for key, cosine in line)

    def member_rows(self) -> Result:
        """Return one row per feature, in order of id."""
        return Result.of(_MEMBER_COLUMNS, (tuple(vars(member).values()) for member in self.members))

    def edge_rows(self) -> Result:
        """Return one row per edge, in order of the source's id, then the target's; ends are keys."""
        return Result.of(_EDGE_COLUMNS, (tuple(vars(edge).values()) for edge in self.edges))

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

    def draw(
        self,
        *,
        limit: int | None = None,
        width: float | None = None,
        detail: "Detail | Literal['auto']" = "auto",
        theme: "Theme" = "auto",
    ) -> str:
        """Return a picture as SVG: layers to the right, features as cards, links as ribbons.

        limit: most residual features drawn, 150 unless given; the rest are counted. width: of the picture,
        else as wide as cards like to be. detail: card, line or bar, else by the room there is.

        Raises StoreError: the graph was replaced since, or is damaged.
        """
        from featgraph.drawing import Options, draw_lineage
        from featgraph.lineage.view import LIMIT, lineage_view

        graph = lineage_view(self, limit=LIMIT if limit is None else limit)
        return draw_lineage(graph, Options(detail, width, theme))

    def save(
        self,
        path: str | Path,
        *,
        limit: int | None = None,
        width: float | None = None,
        detail: "Detail | Literal['auto']" = "auto",
        theme: "Theme" = "auto",
    ) -> None:
        """Write the picture to a file: .svg, .png, or .html, which answers the reader and works from disk.

        Raises UsageError: the name has another ending, the file cannot be written, or there is no PNG here.
        StoreError: the graph was replaced since, or is damaged.
        """
        from featgraph.drawing import PngUnavailable, html_page, png

        ending = Path(path).suffix.lower()
        if ending not in (".svg", ".png", ".html"):
            raise UsageError(f"{str(path)!r}: a picture is written as .svg, .png or .html")
        svg = self.draw(limit=limit, width=width, detail=detail, theme=theme)
        try:
            page = html_page(svg, f"Lineage of {self.seed}") if ending == ".html" else svg
            data = png(svg) if ending == ".png" else page.encode()
        except PngUnavailable as error:
            raise UsageError(str(error)) from error
        with output_file(Path(path)) as partial:
            partial.write_bytes(data)

    def _repr_svg_(self) -> str:
        return self.draw()


def lineage(
    store: Store,
    key: str,
    *,
    min: float | None,
    hops: int | None,
    writers: bool,
    writer_min: float,
    by: str = "cosine",
) -> Lineage:
    """Return a feature with its ancestors and descendants over edges that pass, and their writers.

    min: cosine threshold; None holds each edge against `threshold_high` of its downstream SAE.
    hops: how many edges to go each way, None for all. writer_min: smallest cosine of mlp and att writers.

    Raises UsageError: the graph has no such feature. StoreError: it has edges to features that are not there.
    """
    seed = str(FeatureKey.parse(key))
    memory = adjacency_if_repeated(store) if by == "cosine" else None
    if memory is None:
        asked = {
            "key": seed,
            "min": min,
            "hops": hops,
            "writers": writers,
            "writer_min": writer_min,
            "by": by,
        }
        rows = store.rows(_MEMBERS, asked)
    else:
        rows = memory.lineage(seed, min=min, hops=hops, writers=writers, writer_min=writer_min).rows
    if not rows:
        find_feature(store.saes, key)
    ids = [row[0] for row in rows]
    densities, labels = _densities(store, ids), best_labels(store, ids)
    members = {row[0]: Member(*(*row, densities[row[0]], labels.get(row[0]))) for row in rows}
    if memory is None:
        edges = store.rows(_EDGES, {"ids": ids, "min": min, "writer_min": writer_min, "by": by})
    else:
        among = memory.among(ids, min, writer_min=writer_min)
        kinds = [f"{members[src].site}_res" for src in among.src.tolist()]
        edges = list(
            zip(
                among.src.tolist(),
                among.dst.tolist(),
                kinds,
                among.cosine.tolist(),
                among.cosine.tolist(),
                strict=True,
            )
        )
    return Lineage(
        seed,
        tuple(members.values()),
        tuple(Edge(members[src].key, members[dst].key, *rest) for src, dst, *rest in edges),
        min,
        by,
        store,
    )


def span(store: Store, key: str, *, min: float | None) -> tuple[Step, ...]:
    """Return the main line of a feature, lowest layer first, one residual feature per layer.

    It continues to the best parent and the best child while the cosine stays at or above `min` (None: the
    downstream SAE's `threshold_high`). An mlp or att feature stands for the residual feature that it writes
    most strongly; if it writes none with a cosine of at least `MODULE_THRESHOLD`, the span is empty.

    Raises UsageError: the graph has no such feature.
    Source: arXiv 2502.03032 v3, section 3.3 (similarity span).
    """
    seed = find_feature(store.saes, key)[0]
    if seed.site == "res":
        return lineage(store, str(seed), min=min, hops=None, writers=False, writer_min=MODULE_THRESHOLD).span
    written = strongest_written(store, id_of(store.saes, key))
    if written is None:
        return ()
    return tuple(written if step.cosine is None else step for step in span(store, written.key, min=min))


def strongest_written(store: Store, feature: int) -> Step | None:
    """Return the residual feature that an mlp or att feature writes most strongly, if it writes one.

    feature: its id. Writing means a cosine of at least `MODULE_THRESHOLD`.
    """
    rows = store.rows(_WRITTEN, {"feature": feature, "least": MODULE_THRESHOLD})
    return Step(*rows[0]) if rows else None


_MEMBERS = (
    "from lineage($key, min := $min, hops := $hops, writers := $writers, writer_min := $writer_min, "
    "by := $by)"
)

_DENSITIES = "select id, density from feature where id in (select unnest($ids::integer[]))"
"""Read by id once the members are known: joined to the macro, the planner takes longer."""

_EDGES = "from edges_among($ids, min := $min, writer_min := $writer_min, by := $by)"

_WRITTEN = """
    select n.key, n.layer, e.cosine
    from edge e join feature n on n.id = e.dst
    where e.src = $feature and e.kind in ('mlp_res', 'att_res') and e.cosine >= $least::float
    order by e.cosine desc, e.dst limit 1
"""


def _densities(store: Store, ids: list[int]) -> dict[int, float]:
    densities = dict(store.rows(_DENSITIES, {"ids": ids}))
    if len(densities) < len(ids):
        raise StoreError(
            f"{store.path} has edges to features that are not there; see `featgraph verify {store.path}`"
        )
    return densities


def _follow(key: str, best: dict[str, tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the features reached from `key` along best edges, with the cosine of each edge."""
    line: list[tuple[str, float]] = []
    while key in best:
        line.append(best[key])
        key = best[key][0]
    return line
