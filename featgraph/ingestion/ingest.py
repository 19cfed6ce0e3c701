"""Run the steps of a build that are not done yet, write the graph, put it in place."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Literal

import duckdb

from featgraph import store
from featgraph.core.files import os_reason
from featgraph.core.progress import Progress, Silent
from featgraph.errors import FeatgraphError, SourceError, StoreError
from featgraph.ingestion import write_graph
from featgraph.ingestion.ledger import Ledger, Step
from featgraph.ingestion.local import Local
from featgraph.ingestion.plan import Plan, Stage
from featgraph.ingestion.worker import Worker
from featgraph.recipe import Recipe
from featgraph.store import carry, health

if TYPE_CHECKING:
    from featgraph.ingestion.ray import Cluster

EngineName = Literal["local", "ray"]

EVENTS = ("births", "deaths", "splits", "merges")
"""The verbs whose rows are counted when a graph is there."""

_THRESHOLDS = "select min(threshold_high), max(threshold_high) from sae where site = 'res'"


@dataclass(frozen=True)
class Summary:
    """The size of the graph that an ingest made.

    Events are counted by cosine at each SAE's `threshold_high`.
    """

    path: Path
    features: int
    edges: int
    births: int
    deaths: int
    splits: int
    merges: int
    with_evidence: dict[str, int]
    """The same events, by name, of edges whose ends also fire together; empty without a text."""
    thresholds: tuple[float, float]
    """The smallest and the largest `threshold_high` of a residual SAE."""
    n_tokens: int
    """0 for a graph of directions alone."""
    n_resumed: int
    """Steps that were done already."""
    warnings: list[str]
    """Signs that the suite does not fit the model or the text."""
    seconds: float
    dropped: list[str]
    """What the graph before had and this one could not take over."""


def ingest(
    recipe: Recipe,
    out: Path,
    progress: Progress | None = None,
    *,
    engine: EngineName = "local",
    ray_address: str | None = None,
    fresh: bool = False,
    force: bool = False,
) -> Summary:
    """Build the graph of a recipe's suite at `out`, replacing the graph there only once all is written.

    An interruption leaves the finished steps beside `out`, and the next call resumes from them.
    engine: where steps run. ray_address: of a running cluster. fresh: forget the steps of an earlier call.
    Labels and ablations of the graph at `out` are taken over where features are the same; force: drop those
    that cannot be.

    Raises SourceError: the model, an SAE or the text cannot be used. StoreError: `out` is something else, is
    being written, holds labels or ablations that would be lost, or the disk is full. UsageError: the engine
    is not installed.
    """
    began, started = monotonic(), datetime.now(UTC)
    with store.building(out) as root:
        if fresh:
            store.empty_build(root)
        build = Build(recipe, root, progress or Silent(), out, force)
        try:
            build.run(engine, ray_address, started)
            dropped = carry.carry_over(out, store.new_graph(root), force=force)
            build.ledger.end()  # before the swap, after which these files would be those of the old graph
            store.publish_graph(root, out)
        except (OSError, duckdb.Error) as error:
            reason = os_reason(error)
            refused: FeatgraphError = StoreError(f"cannot write {out}: {reason}; what was there is as it was")
            file = getattr(error, "filename", None)
            if file is not None and root not in Path(file).parents:
                refused = SourceError(f"cannot read {file}: {reason}")
            build.note(refused)
            raise refused from error
        except (FeatgraphError, KeyboardInterrupt) as error:
            build.note(error)
            raise
    return _summary(out, build.n_resumed, monotonic() - began, dropped)


class Build:
    """One call of `ingest`: it runs the steps that the ledger does not have, in the order of `plan.py`."""

    def __init__(self, recipe: Recipe, root: Path, progress: Progress, out: Path, force: bool) -> None:
        self.root = root
        self.out = out
        self.force = force
        self.progress = progress
        self.ledger = Ledger(root)
        self.stop = Event()
        self.worker = Worker(recipe, root, self.stop)
        self.n_resumed = 0
        for left in root.rglob(".*.partial"):
            left.unlink()  # of a process that was killed while it wrote

    def run(self, engine: EngineName, ray_address: str | None, started: datetime) -> None:
        """Run every step that is not done, then write tables and manifest."""
        with self._engine(engine, ray_address) as running:
            plan = Plan(self.worker, running.at_once)
            ledger: list[dict[str, object]] = []
            for stage in plan.stages():
                self._run_stage(stage, running)
                if not ledger:  # the SAEs are known, and the work that takes long is still to come
                    self._check_carried(plan)
                ledger.append(self._entry(stage))
                self.worker.release()
        n_files = len(plan.saes) + len(plan.pairs)
        began = monotonic()
        with self.progress.step("write", n_files, "files") as advance:
            write_graph.write_tables(plan, advance)
        ledger.append({"step": "write", "n": n_files, "seconds": round(monotonic() - began, 2)})
        write_graph.write_manifest(plan, ledger, started)

    def _check_carried(self, plan: Plan) -> None:
        """Refuse to go on where labels and ablations of the old graph would be lost."""
        worker = self.worker
        saes = [
            carry.SaeIdentity(
                f"{sae.layer}/{sae.site}",
                sae.first_id,
                sae.n_features,
                worker.sae_metadata(sae.name)["sha256"],
            )
            for sae in plan.saes
        ]
        carry.check_carried(self.out, saes, worker.shape.digest if worker.shape else None, force=self.force)

    def _engine(self, name: EngineName, address: str | None) -> "Local | Cluster":
        if name == "local":
            return Local(self.worker, self.stop)
        from featgraph.ingestion.ray import Cluster

        return Cluster(self.worker, address)

    def _run_stage(self, stage: Stage, running: "Local | Cluster") -> None:
        left = [step for step in stage.steps if not self.ledger.done(step)]
        self.n_resumed += len(stage.steps) - len(left)
        self.ledger.invalidate(left)
        with self.progress.step(stage.name, sum(step.units for step in stage.steps), stage.unit) as advance:
            advance(sum(step.units for step in stage.steps) - sum(step.units for step in left))

            def finished(step: Step, seconds: float) -> None:
                self.ledger.enter(step, seconds)
                advance(step.units)

            running.run(left, finished, whole_machine=stage.whole_machine)

    def _entry(self, stage: Stage) -> dict[str, object]:
        seconds = self.ledger.seconds(stage.steps)
        return {"step": stage.name, "n": len(stage.steps), "seconds": round(seconds, 2)}

    def note(self, error: BaseException) -> None:
        """Add the number of kept steps to an error; where there are none, remove the build directory."""
        if len(self.ledger):
            error.add_note(f"{len(self.ledger)} finished steps are kept; the same command goes on from there")
        else:
            shutil.rmtree(self.root, ignore_errors=True)


def _summary(path: Path, n_resumed: int, seconds: float, dropped: list[str]) -> Summary:
    with store.open_store(path) as opened:
        n_tokens = int((opened.manifest["text"] or {"n_tokens": 0})["n_tokens"])

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
            with_evidence={name: count(f"{name}(by := 'coactive')") for name in EVENTS if n_tokens},
            thresholds=opened.rows(_THRESHOLDS)[0],
            n_tokens=n_tokens,
            n_resumed=n_resumed,
            warnings=health.warnings(opened),
            seconds=seconds,
            dropped=dropped,
        )
