"""Ablations -> `ablation_change` and `ablation_n` of edges of an existing graph."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featgraph.ablation.choosing import Edges
from featgraph.core.arrays import Counts
from featgraph.store.update import GraphUpdate

_STAGED = "create or replace table staged (src integer, dst integer, change float, n integer)"

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
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {**settings, "n_measured": int((n > 0).sum()), "at": now}
    before = work.store.manifest.get("ablations", [])
    work.replace_manifest({**work.store.manifest, "ablations": [*before, entry]})
