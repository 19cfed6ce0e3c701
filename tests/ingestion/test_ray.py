"""The same steps on a Ray cluster of two workers: the same tables, also when a worker is killed midway."""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featgraph.errors import SourceError
from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe
from helpers.repository import ROOT
from helpers.same_tables import differences

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    root = str(ROOT)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = root if before is None else f"{root}:{before}"  # the workers inherit it
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()
    del os.environ["PYTHONPATH"]
    if before is not None:
        os.environ["PYTHONPATH"] = before


def busy_workers() -> list[int]:
    """Processes that run one of our steps, by the name that Ray gives them."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"ray::_run"):
                found.append(int(process.name))
        except OSError:
            pass  # it has ended
    return found


def test_two_workers_give_the_tables_of_one_process(
    cluster: None, small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.featgraph"
    summary = ingest(read_recipe(small_recipe), out, engine="ray")
    assert summary.n_resumed == 0
    assert differences(small, out) == []


def test_when_workers_are_killed_midway_their_steps_run_again(
    cluster: None, small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    out, over = tmp_path / "x.featgraph", threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not over.is_set() and len(killed) < 3:
            for worker in busy_workers()[:1]:
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
                time.sleep(4)  # for Ray to have another one ready
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ingest(read_recipe(small_recipe), out, engine="ray")
    finally:
        over.set()
        killer.join()
    assert killed
    assert differences(small, out) == []


def test_a_cluster_that_is_not_there_is_named() -> None:
    from featgraph.ingestion.ray import _check_reachable

    with pytest.raises(
        SourceError, match=r"cannot join a Ray cluster at '127\.0\.0\.1:1': connection refused"
    ):
        _check_reachable("127.0.0.1:1")
    for local in (None, "auto"):
        _check_reachable(local)


def test_an_error_on_a_worker_is_the_users_error(cluster: None, small_recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(small_recipe.parent, tmp_path / "suite")
    weights = tmp_path / "suite" / "small" / "saes" / "1.mlp" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SourceError, match=r"1\.mlp"):
        ingest(read_recipe(tmp_path / "suite" / small_recipe.name), tmp_path / "x.featgraph", engine="ray")
