"""Ablations -> the measured columns of edges of an existing graph."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featgraph.ablation.choosing import Edges
from featgraph.core.arrays import Counts
from featgraph.store.update import GraphUpdate, Statement

_STAGED = "create or replace table staged (src integer, dst integer, change float, n integer)"

_NO_THRESHOLDS = "delete from graph.threshold where measure = 'effect'"

_THRESHOLD = "insert into graph.threshold values ($sae, 'effect', $low, $high)"

_UPDATE = """
    update graph.edge set ablation_change = s.change, ablation_n = s.n
    from staged s
    where edge.src = s.src and edge.dst = s.dst
"""


def record(
    work: GraphUpdate, edges: Edges, change: NDArray[np.float64], n: Counts, settings: dict[str, Any]
) -> None:
    """Write the numbers of some edges, and record their settings in the manifest; other edges keep theirs.

    change: NaN where an edge had no token, which becomes NULL with a count of 0.

    Raises duckdb.Error or OSError: the graph cannot be written; it is then as it was.
    """
    rows = pa.table(
        {
            "src": edges.src.astype(np.int32),
            "dst": edges.dst.astype(np.int32),
            "change": pa.array(change.astype(np.float32), from_pandas=True),
            "n": n.astype(np.int32),
        }
    )
    work.connection.execute(_STAGED)
    work.connection.register("rows", rows)
    work.connection.execute("insert into staged from rows")
    work.connection.unregister("rows")
    work.replace_database([(_UPDATE, None)])
    _note(work, {**settings, "n_measured": int((n > 0).sum())})


def record_effects(
    work: GraphUpdate,
    edges: pa.Table,
    thresholds: Sequence[tuple[int, float, float]],
    settings: dict[str, Any],
) -> None:
    """Write the measured effects of edges and their thresholds, and record their settings in the manifest.

    edges: src, dst and the columns to write, as `edge` calls them. thresholds: number of the downstream SAE,
    low and high of `effect`.

    Raises duckdb.Error or OSError: the graph cannot be written; it is then as it was.
    """
    names = [name for name in edges.column_names if name not in ("src", "dst")]
    work.connection.register("rows", edges)
    work.connection.execute("create or replace table staged as select * from rows")
    work.connection.unregister("rows")
    columns = ", ".join(f"{name} = s.{name}" for name in names)
    update = f"update graph.edge set {columns} from staged s where edge.src = s.src and edge.dst = s.dst"
    statements: list[Statement] = [(update, None), (_NO_THRESHOLDS, None)]
    statements += [(_THRESHOLD, {"sae": sae, "low": low, "high": high}) for sae, low, high in thresholds]
    work.replace_database(statements)
    n = len(edges) - edges.column("effect").null_count
    _note(work, {**settings, "n": len(edges), "n_measured": n})


def _note(work: GraphUpdate, settings: dict[str, Any]) -> None:
    """Append an ablation to the manifest."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {**settings, "at": now}
    before = work.store.manifest.get("ablations", [])
    work.replace_manifest({**work.store.manifest, "ablations": [*before, entry]})
