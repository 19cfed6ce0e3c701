"""The demo suite as if it had been released: what lm-eval's csv names is a release that sae_lens can load.

The demo's SAEs lie in this repository, so an export writes no csv for them. A copy of the graph that calls
them released, and a Hugging Face cache that has them, let the real exporter write one and the real loader
read it.
"""

import shutil
from pathlib import Path

RELEASE = "readers/demo-saes"
"""A repository on no server; found in the cache alone."""
HUB = "hub"
"""Folder of the cache; sae_lens looks in HF_HUB_CACHE."""
_REVISION = "0" * 40


def publish(graph: Path, folder: Path) -> Path:
    """Return a copy of the demo graph whose SAEs are released; their cache is `folder / HUB`."""
    import duckdb

    from featgraph.core.shipped import shipped

    copy = folder / "published.featgraph"
    shutil.copytree(graph, copy)
    with duckdb.connect(str(copy / "graph.duckdb")) as connection:
        connection.execute("update sae set release = $release", {"release": RELEASE})
    repository = folder / HUB / f"models--{RELEASE.replace('/', '--')}"
    snapshot = repository / "snapshots" / _REVISION
    shutil.copytree(shipped("ingest") / "demo" / "saes", snapshot / "demo" / "saes")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_REVISION, encoding="ascii")
    return copy
