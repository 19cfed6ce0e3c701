"""The steps of a build on a Ray cluster; all its machines see the build directory under the same path."""

import logging
import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from featgraph.core.files import os_reason
from featgraph.errors import FeatgraphError, SourceError, UsageError
from featgraph.ingestion.ledger import Step
from featgraph.ingestion.local import Finished, timed
from featgraph.ingestion.worker import Worker
from featgraph.recipe import Recipe

TRIES = 3
"""Times that a step is run again after the process or the machine that ran it was lost."""

REACHABLE = 10.0
"""Seconds that a cluster has to answer at all."""


class Cluster:
    """Runs each step as a Ray task that takes one processor."""

    def __init__(self, worker: Worker, address: str | None) -> None:
        """address: of a running cluster, such as `auto` or `ray://host:10001`; None starts one here.

        Raises UsageError: Ray is not installed. SourceError: there is no cluster at the address.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "the engine 'ray' needs Ray; install it with `pip install featgraph[ray]`"
            ) from error
        self.worker = worker
        self._ray: Any = ray
        self._started = not ray.is_initialized()
        if self._started:
            _check_reachable(address)
            try:
                ray.init(address, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise SourceError(f"cannot join a Ray cluster at {address!r}: {reason}") from error
        self._build = uuid4().hex
        self._run: Any = ray.remote(num_cpus=1, max_retries=TRIES)(_run)

    @property
    def at_once(self) -> int:
        """Encoding steps that may share one machine's memory."""
        return max(int(node.get("CPU", 1)) for node in self._nodes())

    def _nodes(self) -> list[dict[str, float]]:
        """Resources of each machine."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._started:
            self._ray.shutdown()

    def run(self, steps: Sequence[Step], finished: Finished, *, whole_machine: bool) -> None:
        """Run steps that do not need each other; the first that fails ends it.

        As many are handed out as the cluster has processors, and those that run when one fails end by
        themselves: Ray 2.60 aborts our process when it cancels a task that ends at that moment.
        """
        nodes = self._nodes()
        room = max(node.get("memory", 0) for node in nodes)
        at_once = max(1, sum(int(node.get("CPU", 1)) for node in nodes))
        left = list(reversed(steps))
        running: dict[Any, Step] = {}
        try:
            while left or running:
                while left and len(running) < at_once:
                    step = left.pop()
                    running[self._start(step, min(step.memory, room))] = step
                [done], _ = self._ray.wait(list(running), num_returns=1)
                step = running.pop(done)
                finished(step, self._result(done, step))
        except FeatgraphError:
            if running:
                self._ray.wait(list(running), num_returns=len(running))
            raise

    def _start(self, step: Step, memory: float) -> Any:
        """Hand a step to the cluster; returns what Ray calls its result."""
        worker = self.worker
        return self._run.options(memory=memory).remote(step, worker.recipe, worker.work.root, self._build)

    def _result(self, done: Any, step: Step) -> float:
        try:
            return float(self._ray.get(done))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            raise SourceError(f"Ray lost the step {step.name}, {TRIES + 1} times: {reason}") from error


def _check_reachable(address: str | None) -> None:
    """Ask first whether anything listens at `host:port`: Ray itself goes on asking for minutes."""
    match = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address or "")
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), timeout=REACHABLE).close()
    except OSError as error:
        raise SourceError(f"cannot join a Ray cluster at {address!r}: {os_reason(error)}") from error


def _run(step: Step, recipe: Recipe, root: Path, build: str) -> float:
    from featgraph.activations.encoding import one_thread_per_task

    with one_thread_per_task():
        return timed(step, _worker(recipe, root, build))


@lru_cache(maxsize=1)
def _worker(recipe: Recipe, root: Path, build: str) -> Worker:
    """The worker of this process, which keeps the model and the SAEs from step to step of one build."""
    return Worker(recipe, root)
