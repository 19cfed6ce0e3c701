"""The files of the steps -> `graph.duckdb` and the manifest, in the order of the features' ids."""

import tomllib
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from featgraph import store
from featgraph.core.keys import SAME_FEATURE, SaeRange
from featgraph.core.progress import Advance
from featgraph.edges import calibration
from featgraph.ingestion.plan import Plan
from featgraph.ingestion.worker import pair_name
from featgraph.recipe import chosen
from featgraph.suite import registry

PACKAGES = ("featgraph", "sae_lens", "transformers", "torch", "duckdb", "faiss-cpu", "numpy")


def write_tables(plan: Plan, advance: Advance) -> None:
    """Write every table of the schema from the files of the steps; advance by one per file."""
    work, folder = plan.worker.work, store.new_graph(plan.worker.work.root)
    for left in folder.glob("graph.duckdb*"):
        left.unlink()  # of a build that was cut off here
    known = {store.vectors_file(folder, sae) for sae in plan.saes}
    for left in set(store.vectors_file(folder, plan.saes[0]).parent.iterdir()) - known:
        left.unlink()  # of an SAE that the recipe no longer has
    connection = store.create_database(folder)
    for sae in plan.saes:
        _insert(connection, "sae", pa.Table.from_pylist([_sae(plan, sae)]))
        numbered = f"{sae.first_id} + idx as id, *"
        _insert_file(connection, "feature", work.root / f"features/{sae.name}.parquet", numbered)
        for name in () if plan.recipe.text is None else ("example", "label"):
            shifted = f"* replace ({sae.first_id} + feature as feature)"
            _insert_file(connection, name, work.root / f"{name}s/{sae.name}.parquet", shifted)
        advance(1)
    for up, down, _ in plan.pairs:
        shifted = f"* replace ({up.first_id} + src as src, {down.first_id} + dst as dst)"
        _insert_file(connection, "edge", work.root / f"edges/{pair_name(up, down)}.parquet", shifted)
        nulls = work.json(f"edges/{pair_name(up, down)}.json")["nulls"]
        for measure, null in nulls.items():
            if null is not None:
                line = {"sae": down.number, "measure": measure, "low": null[0], "high": null[1]}
                _insert(connection, "threshold", pa.Table.from_pylist([line]))
        advance(1)
    meta = {"recipe": plan.recipe.name, "model": plan.recipe.model_name}
    meta |= {name: str(getattr(plan.recipe.edges, name)) for name in ("top_k", "twera_k")}
    if plan.recipe.text is not None:
        meta["n_tokens"] = str(plan.worker.n_tokens)
    _insert(connection, "meta", pa.table({"key": list(meta), "value": list(meta.values())}))
    crowded = [
        (up.number, down.number, work.json(f"edges/{pair_name(up, down)}.json")["n_crowded"])
        for up, down, _ in plan.pairs
    ]
    store.finish_database(connection, crowded)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    connection.register("incoming", rows)
    connection.execute(f"insert into {table} by name select * from incoming")
    connection.unregister("incoming")


def _insert_file(connection: duckdb.DuckDBPyConnection, table: str, file: Path, columns: str) -> None:
    connection.execute(f"insert into {table} by name select {columns} from read_parquet(?)", [str(file)])


def _sae(plan: Plan, sae: SaeRange) -> dict[str, Any]:
    """Return the row of one SAE."""
    metadata, worker = plan.worker.sae_metadata(sae.name), plan.worker
    thresholds = worker.work.json(f"thresholds/{sae.name}.json")
    names = ("hook_name", "release", "sae_id", "architecture", "d_in", "neuronpedia_id", "no_virtual_weight")
    row = {
        "number": sae.number,
        "layer": sae.layer,
        "site": sae.site,
        "first_id": sae.first_id,
        "n_features": sae.n_features,
        **{name: metadata[name] for name in names},
        "threshold_low": thresholds["low"],
        "threshold_high": thresholds["high"],
    }
    if plan.recipe.text is not None:
        moments = worker.moments(sae)
        row["n_dead"] = int((moments.n_active == 0).sum())
        row["l0"] = float(moments.n_active.sum() / max(worker.n_counted(sae), 1))
        row |= worker.work.json(f"moments/{sae.name}.json")
    row["expected_variance"], row["expected_l0"] = registry.expected(metadata["release"], metadata["sae_id"])
    return row


def write_manifest(plan: Plan, steps: list[dict[str, object]], started: datetime) -> None:
    """Write the manifest: inputs of the graph, settings, versions, and seconds of each step."""
    recipe, worker = plan.recipe, plan.worker
    metadata = [worker.sae_metadata(sae.name) for sae in plan.saes]
    names = ("layer", "site", "release", "sae_id", "hook_name", "sha256")
    manifest = {
        "recipe": {"name": recipe.name, **tomllib.loads(recipe.file.read_text(encoding="utf-8"))},
        "chosen": chosen(recipe),
        "model": _model(plan, metadata),
        "saes": [{name: one[name] for name in names} for one in metadata],
        "text": None if recipe.text is None else _text(plan),
        "settings": {
            **{name: value for name, value in asdict(recipe.edges).items() if name != "kinds"},
            "null_quantile": calibration.NULL_QUANTILE,
            "null_draws": calibration.NULL_DRAWS,
            "same_feature": SAME_FEATURE,
        },
        "versions": {package: _version(package) for package in PACKAGES},
        "steps": steps,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.write_manifest(store.new_graph(worker.work.root), manifest)


def _model(plan: Plan, saes: list[dict[str, Any]]) -> dict[str, Any]:
    model = plan.worker.shape
    model_name: dict[str, Any] = {"name": plan.recipe.model_name, "d_model": saes[0]["d_model"]}
    if model is None:
        return {**model_name, "n_layers": plan.recipe.layers}
    return {
        **model_name,
        "model_type": model.model_type,
        "n_layers": model.n_layers,
        "sha256": model.digest,
        **model.parallel_residual,
    }


def _text(plan: Plan) -> dict[str, Any]:
    source, counts = plan.recipe.text, plan.worker.work.json("text.json")
    assert source is not None
    return {
        "path": plan.recipe.as_written(source.path) if source.path else None,
        "dataset": source.dataset,
        "sha256": plan.text_identity,
        "n_tokens": sum(counts["n_tokens"]),
        "massive": source.massive,
        "n_rows": counts["n_rows"],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None
