"""The steps of a build in this process."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

from featgraph.activations.encoding import one_thread_per_task
from featgraph.ingestion.ledger import Step
from featgraph.ingestion.worker import Worker

Finished = Callable[[Step, float], None]
"""Called in the main thread with each step that is done, and the seconds it took."""


class Local:
    """Runs steps here: side by side where one keeps one processor busy, else one by one."""

    at_once = 1
    """Encoding steps that share this machine's memory."""

    def __init__(self, worker: Worker, stop: Event) -> None:
        self.worker = worker
        self._stop = stop

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def run(self, steps: Sequence[Step], finished: Finished, *, whole_machine: bool) -> None:
        """Run steps that do not need each other; the first that fails ends it."""
        if whole_machine:
            for step in steps:
                finished(step, timed(step, self.worker))
            return
        with one_thread_per_task(), ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = {pool.submit(timed, step, self.worker): step for step in steps}
            try:
                for job in as_completed(jobs):
                    finished(jobs[job], job.result())
            except BaseException:
                self._stop.set()  # so that a long step ends soon, too
                pool.shutdown(cancel_futures=True)
                raise


def timed(step: Step, worker: Worker) -> float:
    """Run one step; return the seconds it took."""
    began = time.monotonic()
    step.run(worker)
    return time.monotonic() - began
