"""What every test can count on: a toy graph, plain text output, and no network."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

import featgraph
from featgraph import Graph
from featgraph.store import Store, open_store
from helpers.examples import examples
from helpers.toy import build_toy

# The same random examples every time, so that a commit that touched nothing cannot fail; other ones with
# HYPOTHESIS_PROFILE=random. No test knows the clock: deadlines are off.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=examples(100))
settings.register_profile("random", derandomize=False, deadline=None, max_examples=examples(100))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_UNSET = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS")
_SET = {
    "COLUMNS": "110",
    "LINES": "40",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}

# Before any test module is imported: Hugging Face libraries read these once. Subprocesses inherit them.
for _name in _UNSET:
    os.environ.pop(_name, None)
os.environ.update(_SET)


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: a test that reaches for another host fails there and then."""
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "localhost", "127.0.0.1", "::1"):
        raise PermissionError(f"tests run offline, but something looked up {arguments[0]!r}")
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"tests run offline, but something connected to {address!r}")


sys.addaudithook(_refuse_network)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-texts", action="store_true", help="write the texts that tests pin as files anew"
    )


FEW = 2
"""Cases of a parametrized test in the quick run; the others are `thorough`."""

EVERY_CASE = ("docs/", "cli/test_help.py", "test_structure.py")
"""Tests of files that a person edits: the quick run has all their cases."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a parametrized test repeats as thorough: the quick run has every kind, in 90 seconds."""
    taken: Counter[tuple[str, str]] = Counter()
    for item in items:
        place = str(item.path.relative_to(Path(__file__).parent)) if "tests" in item.path.parts else ""
        name = getattr(item, "originalname", None)
        marked = any(item.get_closest_marker(mark) for mark in ("slow", "thorough"))
        if name is None or marked or place.startswith(EVERY_CASE):
            continue
        taken[place, name] += 1
        if taken[place, name] > FEW:
            item.add_marker("thorough")


@pytest.fixture
def update_texts(request: pytest.FixtureRequest) -> bool:
    """Whether pinned texts are written anew, see `helpers.pinned`."""
    return bool(request.config.getoption("--update-texts"))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy graph directory, for reading; a test that damages a graph builds its own with `build_toy`."""
    return build_toy(tmp_path_factory.mktemp("graphs") / "toy.featgraph")


@pytest.fixture
def toy_copy(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy that a test may change."""
    return Path(shutil.copytree(toy, tmp_path / "toy.featgraph"))


@pytest.fixture(scope="module")
def graph(toy: Path) -> Iterator[Graph]:
    """The toy, open."""
    with featgraph.open(toy) as opened:
        yield opened


@pytest.fixture
def store(toy: Path) -> Iterator[Store]:
    """The toy as a store."""
    with open_store(toy) as opened:
        yield opened


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a small random suite with everything it names beside it; for reading."""
    from helpers.small_suite import build_small_suite

    return build_small_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="session")
def small(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of the small suite, made by a real ingest; for reading."""
    from featgraph.ingestion import ingest
    from featgraph.recipe import read_recipe

    path = tmp_path_factory.mktemp("graphs") / "small.featgraph"
    ingest(read_recipe(small_recipe), path)
    return path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with `demo.featgraph`, made by the command as a user types it, and what that printed."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the first process that needs it makes it for all
        shared = shared.parent
    folder, printed = shared / "demo", shared / "demo.txt"
    with FileLock(shared / "demo.lock"):
        if not printed.is_file():
            folder.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "featgraph", "ingest", "demo"]
            made = subprocess.run(
                command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr
            printed.write_text(made.stderr + made.stdout)
    return folder, printed.read_text()


@pytest.fixture(scope="module")
def demo_graph(demo: tuple[Path, str]) -> Iterator[Graph]:
    """The demo, open."""
    with featgraph.open(demo[0] / "demo.featgraph") as opened:
        yield opened


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
