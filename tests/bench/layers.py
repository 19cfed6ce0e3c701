"""Write a layered random graph of any size: one residual SAE per layer, links from each layer to the next.

python tests/bench/layers.py M.featgraph --layers 26 --width 65536 --out 8 --seed 0

A whole graph directory except for `vectors/`, made through the same store as an ingest, so that what is timed
on it is what a user waits for. Nothing is learned: directions, text and most evidence are missing. Out-degree
is `--out` for every feature (a fraction is a mean), in-degree is Poisson, and STRONG edges a feature reach
the published line for "the same feature".
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

import featgraph
from featgraph import store
from featgraph.core.arrays import Indices
from featgraph.core.keys import SaeRange
from featgraph.errors import StoreError

TESTS = Path(__file__).parent.parent
LOW, HIGH = 0.3, 0.5
STRONG = 1.11
"""Mean number of a feature's edges that reach HIGH."""
WEAKEST = 0.05
D_MODEL = 2304


def build(path: Path, layers: int, width: int, out: float, seed: int = 0) -> Path:
    """Write the graph at `path`, in place of an older one."""
    rng = np.random.default_rng(seed)
    saes = [SaeRange(layer, layer, "res", layer * width, width) for layer in range(layers)]
    sys.path.insert(0, str(TESTS))
    from helpers.new_graph import replacing

    with replacing(path) as directory:
        connection = store.create_database(directory)
        connection.execute("set memory_limit = '4GB'")
        _write_saes(connection, saes)
        for upstream, downstream in pairwise(saes):
            _write_edges(connection, _edges(upstream, downstream, out, rng))
        for sae in saes:
            _write_features(connection, sae, rng)
        for entry in {"recipe": "layers", "model": "none", "n_tokens": "0", "top_k": f"{out:g}"}.items():
            connection.execute("insert into meta values (?, ?)", entry)
        store.finish_database(connection)
        model = {"name": "none", "model_type": "none", "d_model": D_MODEL, "n_layers": layers}
        settings = {"layers": layers, "width": width, "out": out, "seed": seed, "sql": _sql_digest()}
        store.write_manifest(directory, {"recipe": {"name": "layers"}, "model": model, "settings": settings})
    return path


def ready(path: Path, layers: int, width: int, out: float) -> Path:
    """Write the graph unless it is there already, of these sizes and with the tables and verbs of today."""
    settings = {"layers": layers, "width": width, "out": out, "seed": 0, "sql": _sql_digest()}
    try:
        with store.open_store(path) as opened:
            if opened.manifest.get("settings") == settings:
                return path
    except StoreError:
        pass
    return build(path, layers, width, out)


def _sql_digest() -> str:
    """Return a digest of what featgraph stores beside the data: the schema and the verbs."""
    package = Path(featgraph.__file__).parent / "store" / "sql"
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(package.glob("*.sql")))).hexdigest()


def _write_saes(connection: duckdb.DuckDBPyConnection, saes: list[SaeRange]) -> None:
    for sae in saes:
        connection.execute(
            """
            insert into sae by name
            select $number as number, $number as layer, 'res' as site, $first_id as first_id,
                $n_features as n_features, 'model.layers.' || $number as hook_name, 'layers' as release,
                $number || '.res' as sae_id, 'none' as architecture, $d_in as d_in, 0 as n_dead,
                $low as threshold_low, $high as threshold_high
            """,
            {
                "number": sae.number,
                "first_id": sae.first_id,
                "n_features": sae.n_features,
                "d_in": D_MODEL,
                "low": LOW,
                "high": HIGH,
            },
        )


def _edges(upstream: SaeRange, downstream: SaeRange, out: float, rng: np.random.Generator) -> pa.Table:
    """Return src, dst, cosine and pearson of random edges between two layers, no pair twice."""
    most = int(np.ceil(out))
    targets = _distinct_rows(upstream.n_features, most, downstream.n_features, rng)
    degree = int(out) + (rng.random(upstream.n_features) < out - int(out))
    chosen = np.arange(most) < degree[:, None]
    src = upstream.first_id + np.nonzero(chosen)[0]
    dst = downstream.first_id + targets[chosen]
    strong = rng.random(len(src)) < min(1.0, STRONG / out)
    share = rng.random(len(src))
    cosine = np.where(strong, HIGH + share * (1 - HIGH), WEAKEST + share * (HIGH - WEAKEST)).astype(
        np.float32
    )
    cosine[~strong] = np.minimum(cosine[~strong], np.nextafter(np.float32(HIGH), np.float32(0)))
    return pa.table(
        {
            "src": src.astype(np.int32),
            "dst": dst.astype(np.int32),
            "cosine": cosine,
            "pearson": rng.uniform(-0.1, 1.0, len(src)).astype(np.float32),
        }
    )


def _distinct_rows(rows: int, columns: int, below: int, rng: np.random.Generator) -> Indices:
    """Return a matrix of random numbers under `below`, none twice in a row, in random order within it."""
    drawn: Indices = rng.integers(0, below, (rows, columns))
    again = np.arange(rows)
    while len(again):
        ordered = np.sort(drawn[again], axis=1)
        again = again[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        drawn[again] = rng.integers(0, below, (len(again), columns))
    return drawn


def _write_edges(connection: duckdb.DuckDBPyConnection, edges: pa.Table) -> None:
    """Add the edges between two layers, ranked; later layers have larger ids, so the table stays in order."""
    connection.register("drawn", edges)
    connection.execute(
        """
        insert into edge by name
        select src, dst, 'res_res' as kind, cosine,
            row_number() over (partition by src order by cosine desc, dst) as rank_out,
            row_number() over (partition by dst order by cosine desc, src) as rank_in,
            pearson, 'cosine' as found_by
        from drawn
        order by src, dst
        """
    )
    connection.unregister("drawn")


def _write_features(connection: duckdb.DuckDBPyConnection, sae: SaeRange, rng: np.random.Generator) -> None:
    idx = np.arange(sae.n_features)
    density = rng.uniform(0, 0.1, sae.n_features).astype(np.float32)
    connection.register("drawn", pa.table({"idx": idx.astype(np.int32), "density": density}))
    connection.execute(
        """
        insert into feature by name
        select $first_id + d.idx as id, $layer || '/res/' || d.idx as key, $layer as layer, 'res' as site,
            d.idx, d.density, e.s_res, [] as top_tokens, [] as logit_tokens
        from drawn d
        left join (
            select dst, max(cosine) as s_res
            from edge
            where dst between $first_id and $first_id + $n_features - 1
            group by dst
        ) e on e.dst = $first_id + d.idx
        order by d.idx
        """,
        {"first_id": sae.first_id, "layer": sae.layer, "n_features": sae.n_features},
    )
    connection.unregister("drawn")


def sizes(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what the graph at `path` holds, for saying it."""
    with store.open_store(path) as opened:
        for table, condition in (("feature", "true"), ("edge", "true"), ("edge", f"cosine >= {HIGH}")):
            label = table if condition == "true" else f"{table} with {condition}"
            yield label, opened.rows(f"select count(*) from {table} where {condition}")[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path)
    parser.add_argument("--layers", type=int, default=26)
    parser.add_argument("--width", type=int, default=65536)
    parser.add_argument("--out", type=float, default=8, help="edges per feature; a fraction is a mean")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    build(arguments.graph, arguments.layers, arguments.width, arguments.out, arguments.seed)
    print(f"{arguments.graph}: {time.perf_counter() - began:.1f} s")
    for label, count in sizes(arguments.graph):
        print(f"{label}: {count:,}")


if __name__ == "__main__":
    main()
