"""Where a graph may be written: refused before any work, and nothing of the user's is lost there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featgraph import StoreError, store
from helpers.repository import ROOT
from helpers.toy import build_toy


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as refused, store.building(path):
        pytest.fail("there was work")
    return str(refused.value)


def test_a_link_to_a_graph_is_refused_by_name(tmp_path: Path) -> None:
    graph = build_toy(tmp_path / "toy.featgraph")
    link = tmp_path / "link.featgraph"
    link.symlink_to(graph)
    assert refusal(link) == f"{link} is a link to {graph}; name the graph itself with -o"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["link.featgraph", "toy.featgraph"]


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.featgraph"
    link.symlink_to(tmp_path / "nothing")
    assert (
        refusal(link) == f"{link} is a broken link to {tmp_path / 'nothing'}; name the graph itself with -o"
    )


@pytest.mark.parametrize("name", [".", "..", "/", "a/.."])
def test_a_folder_that_cannot_be_exchanged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cannot be the name of a graph" in refusal(Path(name))


def test_a_device_is_refused() -> None:
    assert refusal(Path("/dev/null")) == "/dev/null exists and is not a folder; choose another name with -o"
    assert refusal(Path("/dev/null/x")) == (
        "cannot write /dev/null/x: /dev/null is no folder; choose another place with -o"
    )


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "is too long; choose a shorter one" in refusal(tmp_path / ("x" * 250))
    assert "is too long; choose a shorter one" in refusal(tmp_path / "/".join(["x" * 200] * 19))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_a_folder_of_the_user_with_the_name_of_a_build_stays(tmp_path: Path, what: str) -> None:
    path, build = tmp_path / "toy.featgraph", tmp_path / ".toy.featgraph.building"
    mine = tmp_path / "mine"
    (build if what == "folder" else mine).mkdir()
    if what == "file":
        build.write_text("mine")
    if what == "link":
        build.symlink_to(mine)
    kept = (build if what == "folder" else mine) / "notes.md"
    kept.write_text("mine")
    assert f"{build} is where featgraph builds" in refusal(path)
    assert kept.read_text() == "mine"
    assert build.exists()


@pytest.mark.thorough
def test_a_folder_of_the_user_beside_the_graph_stays_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    old = tmp_path / ".toy.featgraph.old"
    old.mkdir()
    (old / "notes.md").write_text("mine")
    monkeypatch.setattr(store.publish, "_exchange", lambda one, other: False)
    build_toy(path)
    assert (old / "notes.md").read_text() == "mine"


def test_a_file_of_the_user_with_the_name_of_the_lock_stays(tmp_path: Path) -> None:
    lock = tmp_path / ".toy.featgraph.lock"
    lock.write_text("mine")
    assert f"{lock} is where featgraph locks" in refusal(tmp_path / "toy.featgraph")
    assert lock.read_text() == "mine"


def test_a_graph_that_a_killed_swap_left_behind_comes_back(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with store.building(path) as build:
        path.rename(build / "old")
    with store.building(path):
        assert (path / "graph.duckdb").is_file()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["a?b", "a*b", "a[1]b", "it's", "a b", "#x", "ü"])
def test_odd_letters_in_a_name_do_no_harm(tmp_path: Path, name: str) -> None:
    path = build_toy(tmp_path / f"{name}.featgraph")
    inner = build_toy(tmp_path / name / "in" / "x.featgraph")
    for graph in (path, inner):
        with store.open_store(graph) as opened:
            assert opened.rows("select count(*) from edge") == [(16,)]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("format", "alone"), [("json", True), ("gguf", True), ("svec", False), ("caa", False)]
)
def test_an_export_goes_to_stdout_where_it_is_one_file(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, alone: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        sys.executable,
        "-m",
        "featgraph",
        "export",
        str(toy),
        "1/res/0",
        "--format",
        format,
        "-o",
        "-",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == (0 if alone else 2), done.stderr
    assert bool(done.stdout) is alone
    assert list(tmp_path.iterdir()) == []
