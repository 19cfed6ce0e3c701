"""A graph is written beside the old one and put in its place: whole, or not at all."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from featgraph import StoreError, store
from featgraph.store import publish as store_publish
from helpers.new_graph import replacing
from helpers.stored import message, n_edges, python
from helpers.toy import build_toy, saes


@contextmanager
def a_writer_of(path: Path) -> Iterator[None]:
    """Another process that holds the lock of `path`, half-way through a build."""
    code = (
        "from pathlib import Path\n"
        "from helpers.new_graph import replacing\n"
        "with replacing(Path(sys.argv[1])):\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        python(code, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        yield


@pytest.mark.thorough
def test_an_exception_leaves_the_old_graph_as_it_was(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}

    def half_a_build() -> None:
        with replacing(path) as build:
            (build / "graph.duckdb").write_bytes(b"half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        half_a_build()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_half_graph(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "new.featgraph"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_finished_build_takes_the_place_of_the_old_graph_and_leaves_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    of_the_old_graph = path / "vectors" / "res.99.faiss"
    of_the_old_graph.touch()
    build_toy(path)
    assert list(tmp_path.iterdir()) == [path]
    assert not of_the_old_graph.exists()


@pytest.mark.thorough
def test_a_reader_of_the_old_graph_keeps_reading_it(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with store.open_store(path) as opened:
        old = opened.connection.execute("select * from edge").fetchall()
        with replacing(path) as build:
            store.finish_database(store.create_database(build))
            store.write_manifest(build, {})
        assert opened.connection.execute("select * from edge").fetchall() == old
    assert n_edges(path) == 0


@pytest.mark.thorough
def test_the_swap_works_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    of_the_old_graph = path / "vectors" / "res.99.faiss"
    of_the_old_graph.touch()
    monkeypatch.setattr(store_publish, "_exchange", lambda one, other: False)
    build_toy(path)
    assert n_edges(path) > 0
    assert list(tmp_path.iterdir()) == [path]
    assert not of_the_old_graph.exists()


def test_two_directories_are_exchanged_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "a").touch()
    assert store_publish._exchange(one, other) is sys.platform.startswith("linux")
    assert (other / "a").exists() is sys.platform.startswith("linux")


def test_an_exchange_with_nothing_reports_that_it_failed(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    assert store_publish._exchange(one, tmp_path / "absent") is False


@pytest.mark.thorough
def test_a_second_writer_is_sent_away_while_the_first_writes(tmp_path: Path) -> None:
    path = tmp_path / "toy.featgraph"
    with a_writer_of(path), pytest.raises(StoreError) as refusal:
        build_toy(path)
    assert str(refusal.value) == f"{path} is being written by another process; wait for it to end"


@pytest.mark.thorough
def test_a_graph_still_being_written_says_so_to_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "toy.featgraph"
    with a_writer_of(path):
        assert message(path) == f"{path} is still being written; wait for `featgraph ingest` to end"


@pytest.mark.thorough
def test_a_reader_sees_the_old_graph_while_a_new_one_is_written(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    before = n_edges(path)
    with a_writer_of(path):
        assert n_edges(path) == before > 0


@pytest.mark.thorough
def test_a_killed_writer_does_not_stop_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "toy.featgraph"
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom helpers.new_graph import replacing\n"
        "with replacing(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run(python(code, path), check=False).returncode < 0
    assert n_edges(build_toy(path)) > 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.thorough
@pytest.mark.parametrize("room", [100, 4096, 100_000, 300_000])
def test_a_full_disk_leaves_the_old_graph_whole(tmp_path: Path, room: int) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    before = n_edges(path)
    code = (
        "import resource\nfrom pathlib import Path\nfrom helpers.toy import build_toy\n"
        "room = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))\n"
        "build_toy(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run(python(code, path, room), capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert n_edges(path) == before > 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.thorough
def test_a_graph_replaced_while_open_is_not_mixed_with_the_new_one(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    opened = store.open_store(path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "ended": "later"}))
    with pytest.raises(StoreError, match=r"was replaced by a newer build while it was open; open it again"):
        _ = opened.connection
    with pytest.raises(StoreError, match=r"was replaced by a newer build"):
        opened.vectors(saes()[0])


def test_an_ingest_that_was_killed_is_not_said_to_go_on(tmp_path: Path) -> None:
    (tmp_path / ".toy.featgraph.building").mkdir()
    with pytest.raises(StoreError, match=r"was interrupted; give the same command again"):
        store.open_store(tmp_path / "toy.featgraph")


@pytest.mark.thorough
def test_a_file_that_this_process_has_open_otherwise_is_not_called_damaged(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with (
        duckdb.connect(str(path / "graph.duckdb"), read_only=True),
        store.open_store(path) as opened,
        pytest.raises(StoreError, match="is open in this process, by a DuckDB connection of its own"),
    ):
        opened.rows("from meta")
