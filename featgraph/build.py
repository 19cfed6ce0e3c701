"""The ingest stage, the steps in order: load, match, read the text, calibrate, write.

The candidates come first because they need no text; the one pass over the text then gathers every statistic,
and for each candidate how the two features fire together. Nothing is visible at the target until all is
written.
"""

import os
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from featgraph import store, suite, tables, vectors
from featgraph.activations import Pieces, Sites, one_thread_per_task, read_pieces
from featgraph.errors import StoreError
from featgraph.matching import candidates, null_best_cosine
from featgraph.model import SAME_FEATURE, edge_plan
from featgraph.progress import Progress, Silent
from featgraph.recipe import Recipe
from featgraph.statistics import CoActivation, Contexts, Moments, Reconstruction, TopTokens
from featgraph.suite import LanguageModel, LoadedSae
from featgraph.tables import Counted, Pair, Thresholds
from featgraph.words import Vocabulary

NULL_QUANTILE = 0.999
"""`threshold_low` is the cosine that one feature in a thousand reaches by chance; the share is our choice."""

NULL_ROTATIONS = 4
"""Random rotations per SAE; with a thousand features, 4 put about four matches above the quantile."""


@dataclass(frozen=True)
class Summary:
    """What an ingest made; events are counted at the default threshold."""

    path: Path
    features: int
    edges: int
    births: int
    deaths: int
    splits: int
    merges: int
    n_tokens: int
    seconds: float


@dataclass
class Build:
    """One ingest under way: the recipe, where progress goes, and which steps are done."""

    recipe: Recipe
    progress: Progress
    steps: list[dict[str, object]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, total: int, unit: str) -> Iterator[Any]:
        """Report a step and enter it in the ledger with its duration."""
        began = time.monotonic()
        with self.progress.step(name, total, unit) as advance:
            yield advance
        self.steps.append({"step": name, "n": total, "seconds": round(time.monotonic() - began, 2)})


def ingest(recipe: Recipe, out: Path, progress: Progress | None = None) -> Summary:
    """Build the graph of a recipe's suite at `out`, replacing the graph there only once all is written.

    Raises SourceError: the model, an SAE or the text cannot be used. StoreError: `out` is something else, is
    being written, or the disk is full.
    """
    build = Build(recipe, progress or Silent())
    began, started = time.monotonic(), datetime.now(UTC)
    try:
        with store.replacing(out) as folder:
            _write(build, folder, started)
    except (OSError, duckdb.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StoreError(f"cannot write {out}: {reason}; what was there is as it was") from error
    return _summary(out, time.monotonic() - began)


def _write(build: Build, folder: Path, started: datetime) -> None:
    recipe = build.recipe
    with build.step("load model", 1, "model") as advance:
        model = suite.load_model(recipe)
        advance(1)
    saes = _load_saes(build, model)
    pieces = _read_text(build, model)
    pairs = _match(build, saes)
    counted = _count(build, model, saes, pieces, pairs)
    thresholds = [_thresholds(recipe, saes, counted, place) for place in range(len(saes))]
    with build.step("write", 6, "tables") as advance:
        for loaded in saes:
            vectors.save(store.vectors_file(folder, loaded.slab), loaded.directions)
        connection = store.create_database(folder)
        words = Vocabulary(model.tokenizer, model.n_vocabulary)
        rows = tables.all_tables(recipe, model, saes, pieces, pairs, counted, thresholds, words)
        for name, rows_of_one in rows:
            connection.register("incoming", rows_of_one)
            connection.execute(f"insert into {name} by name select * from incoming")
            connection.unregister("incoming")
            advance(1)
        store.finish_database(connection)
    store.write_manifest(folder, _manifest(build, model, saes, pieces, started))


def _load_saes(build: Build, model: LanguageModel) -> list[LoadedSae]:
    recipe = build.recipe
    places = [(layer, source) for layer in range(recipe.layers) for source in recipe.sources]
    found: list[LoadedSae] = []
    with build.step("load SAEs", len(places), "SAEs") as advance:
        for number, (layer, source) in enumerate(places):
            first = found[-1].slab.first_id + found[-1].slab.n_features if found else 0
            found.append(suite.load_sae(recipe, source, layer, number, first, model))
            advance(1)
    return found


def _read_text(build: Build, model: LanguageModel) -> Pieces:
    with build.step("read text", 1, "text") as advance:
        pieces = read_pieces(build.recipe.text, model)
        advance(1)
    return pieces


def _match(build: Build, saes: list[LoadedSae]) -> list[Pair]:
    plan = edge_plan([loaded.slab for loaded in saes], build.recipe.edges.kinds)
    found = []
    with build.step("match directions", len(plan), "pairs of SAEs") as advance:
        for upstream, downstream, kind in plan:
            ends = saes[upstream.slab], saes[downstream.slab]
            nearest = candidates(ends[0].directions, ends[1].directions, build.recipe.edges.top_k)
            found.append(Pair(upstream, downstream, kind, nearest))
            advance(1)
    return found


def _count(
    build: Build, model: LanguageModel, saes: list[LoadedSae], pieces: Pieces, pairs: list[Pair]
) -> Counted:
    """Run the model over the text once and gather everything that depends on activations."""
    counted = Counted(
        [Moments(loaded.slab.n_features) for loaded in saes],
        [Reconstruction(model.d_model) for _ in saes],
        [TopTokens(model.n_vocabulary, loaded.slab.n_features) for loaded in saes],
        [Contexts(loaded.slab.n_features) for loaded in saes],
        [CoActivation(pair.candidates) for pair in pairs],
    )
    sites = Sites(model, [loaded.module for loaded in saes])
    with (
        build.step("read activations", pieces.n_tokens, "tokens") as advance,
        one_thread_per_task(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        batches = list(pieces.batches())
        ahead = pool.submit(sites, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            activations = ahead.result()
            if following is not None:
                ahead = pool.submit(sites, following)
            encoding = [
                pool.submit(counted.update_sae, place, loaded, activations[loaded.module], batch)
                for place, loaded in enumerate(saes)
            ]
            codes = [job.result() for job in encoding]
            counting = [
                pool.submit(
                    counted.update_pair, place, codes[pair.upstream.slab], codes[pair.downstream.slab]
                )
                for place, pair in enumerate(pairs)
            ]
            for job in counting:
                job.result()
            advance(len(batch.token))
        for done in [pool.submit(top_tokens.merge) for top_tokens in counted.top_tokens]:
            done.result()
    return counted


def _thresholds(recipe: Recipe, saes: list[LoadedSae], counted: Counted, place: int) -> Thresholds:
    """Calibrate one SAE: `low` from the null of its best upstream match, `high` at least the published line.

    The upstream directions are those of the previous residual SAE, or its own where there is none. Dead
    features are left out on both sides.

    Source: arXiv 2502.03032 v3, section 3.3 for 0.5; the null is ours (see `matching.null_best_cosine`).
    """
    own = saes[place]
    before = [sae for sae in saes[:place] if sae.slab.site == "res"]
    upstream = before[-1] if own.slab.site == "res" and before else own
    live_up = upstream.directions[counted.moments[upstream.slab.slab].n_active > 0]
    live = own.directions[counted.moments[place].n_active > 0]
    if not len(live) or not len(live_up):
        return Thresholds(SAME_FEATURE, SAME_FEATURE)
    rng = np.random.default_rng([recipe.seed, place])
    null = np.concatenate([null_best_cosine(live_up, live, rng) for _ in range(NULL_ROTATIONS)])
    low = float(np.quantile(null, NULL_QUANTILE, method="higher"))
    return Thresholds(low, max(low, SAME_FEATURE))


def _summary(path: Path, seconds: float) -> Summary:
    with store.open_store(path) as opened:

        def count(source: str) -> int:
            row = opened.rows(f"select count(*) from {source}")
            return int(row[0][0])

        return Summary(
            path,
            features=count("feature"),
            edges=count("edge"),
            births=count("births()"),
            deaths=count("deaths()"),
            splits=count("splits()"),
            merges=count("merges()"),
            n_tokens=int(opened.manifest["text"]["n_tokens"]),
            seconds=seconds,
        )


def _manifest(
    build: Build, model: LanguageModel, saes: list[LoadedSae], pieces: Pieces, started: datetime
) -> dict[str, Any]:
    recipe = build.recipe
    packages = ("featgraph", "sae_lens", "transformers", "torch", "duckdb", "faiss-cpu", "numpy")
    return {
        "recipe": {"name": recipe.name, **tomllib.loads(recipe.file.read_text(encoding="utf-8"))},
        "model": {
            "name": model.name,
            "model_type": model.model_type,
            "d_model": model.d_model,
            "n_layers": model.n_layers,
            "sha256": model.digest,
            **model.parallel_residual,
        },
        "saes": [
            {
                "layer": loaded.slab.layer,
                "site": loaded.slab.site,
                "release": loaded.release,
                "sae_id": loaded.sae_id,
                "hook_name": loaded.hook_name,
                "sha256": loaded.digest,
            }
            for loaded in saes
        ],
        "text": {
            "path": recipe.as_written(recipe.text.path),
            "sha256": suite.file_digest(recipe.text.path),
            "n_tokens": pieces.n_tokens,
            "n_pieces": len(pieces.rows),
        },
        "settings": {
            "top_k": recipe.edges.top_k,
            "null_quantile": NULL_QUANTILE,
            "null_rotations": NULL_ROTATIONS,
            "same_feature": SAME_FEATURE,
        },
        "versions": {package: _version(package) for package in packages},
        "steps": build.steps,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None
