"""Edges over any distance, of kind `far`, written into an existing graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from featgraph.store import vectors
from featgraph.store.update import GraphUpdate

KIND = "far"
"""The kind of these edges, in the database and in patterns."""

_WITHOUT = "delete from graph.edge where kind = 'far' and dst in (select dst from replaced)"

_ADDED = """
    insert into graph.edge by name
    select src, dst, 'far' as kind, cosine, attribution, 'attribution' as found_by from staged
"""

_SORTED = """
    create or replace table graph.edge as
    select * replace (
        case kind when 'far' then row_number() over (partition by src, kind order by cosine desc, dst)
            else rank_out end::smallint as rank_out,
        case kind when 'far' then row_number() over (partition by dst, kind order by cosine desc, src)
            else rank_in end::smallint as rank_in
    )
    from graph.edge order by src, dst
"""

_NO_PAIRS = "delete from graph.pair where kind = 'far'"

_PAIRS = """
    insert into graph.pair by name
    select u.number as src_sae, d.number as dst_sae, 'far' as kind, count(*)::integer as n_edges
    from graph.edge e
    join graph.sae u on e.src between u.first_id and u.first_id + u.n_features - 1
    join graph.sae d on e.dst between d.first_id and d.first_id + d.n_features - 1
    where e.kind = 'far'
    group by all
"""

_SORTED_PAIRS = "create or replace table graph.pair as from graph.pair order by src_sae, dst_sae, kind"


@dataclass(frozen=True)
class FarEdges:
    """Some edges by number of the SAE and index of the feature at either end, one entry each."""

    src_sae: Sequence[int]
    src: Sequence[int]
    dst_sae: Sequence[int]
    dst: Sequence[int]
    attribution: Sequence[float]


def write_far_edges(
    work: GraphUpdate, edges: FarEdges, targets: Sequence[int], settings: dict[str, Any]
) -> None:
    """Write edges into the graph in place of earlier ones of the same targets, and note it in the manifest.

    Pairs of SAEs that edges of another kind join are left out: their edges have measures of their own.
    targets: ids of the features that were attributed.

    Raises duckdb.Error or OSError: the graph cannot be written; it is then as it was.
    """
    table = _table(work, edges)
    for name, rows in {"staged": table, "replaced": pa.table({"dst": pa.array(targets, pa.int32())})}.items():
        work.connection.register("rows", rows)
        work.connection.execute(f"create or replace table {name} as select * from rows")
        work.connection.unregister("rows")
    statements = (_WITHOUT, _ADDED, _SORTED, _NO_PAIRS, _PAIRS, _SORTED_PAIRS)
    work.replace_database([(statement, None) for statement in statements])
    entry = {
        **settings,
        "targets": len(targets),
        "n_edges": table.num_rows,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    before = work.store.manifest.get("attributions", [])
    work.replace_manifest({**work.store.manifest, "attributions": [*before, entry]})


def _table(work: GraphUpdate, edges: FarEdges) -> pa.Table:
    """Return ids, cosine and attribution of the edges between SAEs that no others join."""
    store = work.store
    joined = set(store.rows("select src_sae, dst_sae from pair where kind <> 'far' and n_edges > 0"))
    saes = store.saes
    columns: dict[str, list[Any]] = {"src": [], "dst": [], "cosine": [], "attribution": []}
    by_pair: dict[tuple[int, int], list[int]] = {}
    for place, pair in enumerate(zip(edges.src_sae, edges.dst_sae, strict=True)):
        if pair not in joined:
            by_pair.setdefault(pair, []).append(place)
    for (up, down), places in by_pair.items():
        src, dst = ([ends[place] for place in places] for ends in (edges.src, edges.dst))
        ends = (
            vectors.directions(store.vectors(saes[up]), src),
            vectors.directions(store.vectors(saes[down]), dst),
        )
        columns["src"] += [saes[up].first_id + idx for idx in src]
        columns["dst"] += [saes[down].first_id + idx for idx in dst]
        columns["cosine"] += np.einsum("ij,ij->i", *ends).tolist()
        columns["attribution"] += [edges.attribution[place] for place in places]
    types = {"src": pa.int32(), "dst": pa.int32(), "cosine": pa.float32(), "attribution": pa.float32()}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
