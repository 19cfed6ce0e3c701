"""Labels enter a graph at once: readers, second writers, kills and full disks."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock

import featgraph
from featgraph.errors import StoreError
from featgraph.labels import writing
from featgraph.labels.writing import labelling
from helpers.repository import ROOT
from helpers.toy import LABELS

WRITER = """
import sys
from featgraph.labels.writing import labelling
with labelling(sys.argv[1]) as work:
    work.stage(list(range(36)) * 2000, "killed", [f"text {n}" for n in range(72_000)])
    print("ready", flush=True)
    sys.stdin.readline()
    work.commit("a test")
    print("done", flush=True)
"""


def put(path: Path, source: str = "me", text: str = "words") -> None:
    with labelling(path) as work:
        work.stage([0, 20], source, [text, text])
        work.commit("a test")


def sources(path: Path) -> dict[str, int]:
    with featgraph.open(path) as opened:
        rows = opened.sql("select source, count(*) from label group by source").rows
        return {str(source): int(str(n)) for source, n in rows}


@pytest.mark.thorough
def test_the_manifest_tells_where_labels_came_from(toy_copy: Path) -> None:
    put(toy_copy, text="old")
    put(toy_copy, text="new")
    put(toy_copy, "you")
    with featgraph.open(toy_copy) as opened:
        told = opened.manifest["labels"]
        assert opened.manifest["recipe"] == {"name": "toy"}
    assert [(entry["source"], entry["n"], entry["from"]) for entry in told] == [
        ("me", 2, "a test"),
        ("you", 2, "a test"),
    ]
    assert all(entry["at"].endswith("+00:00") for entry in told)


def test_the_rest_of_the_graph_is_as_it_was(toy_copy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_copy, tmp_path / "before")
    put(toy_copy)
    with duckdb.connect() as client:
        for name, path in {"old": tmp_path / "before", "new": toy_copy}.items():
            client.execute(f"attach '{path / 'graph.duckdb'}' as {name} (read_only)")
        for table in ("sae", "feature", "edge", "pair", "example", "meta"):
            assert (
                client.execute(f"from old.{table}").fetchall()
                == client.execute(f"from new.{table}").fetchall()
            )
        statement = (
            "select tags['storage_version'] from duckdb_databases() where database_name in ('old', 'new')"
        )
        old, new = client.execute(statement).fetchall()
        macros = "select function_name from duckdb_functions() where database_name = '{}' order by 1"
        assert old == new
        assert (
            client.execute(macros.format("old")).fetchall() == client.execute(macros.format("new")).fetchall()
        )
        described = client.execute("describe new.label").fetchall()
    assert [row[:2] for row in described] == [
        ("feature", "INTEGER"),
        ("source", "VARCHAR"),
        ("text", "VARCHAR"),
    ]
    assert {path.name for path in toy_copy.iterdir()} == {"graph.duckdb", "manifest.json", "vectors"}
    assert {path.name for path in toy_copy.parent.iterdir()} == {"before", "toy.featgraph"}


def test_labels_lie_in_order_of_their_features(toy_copy: Path) -> None:
    put(toy_copy)
    with featgraph.open(toy_copy) as opened:
        rows = opened.sql("from label").rows
    assert rows == sorted(rows, key=lambda row: (row[0], row[1] == "tokens"))


def test_a_reader_goes_on_or_is_told(toy_copy: Path) -> None:
    with featgraph.open(toy_copy) as early, featgraph.open(toy_copy) as late:
        assert len(early.sql("from label")) == len(LABELS)
        put(toy_copy)
        assert len(early.sql("from label")) == len(LABELS)
        with pytest.raises(
            StoreError, match="was replaced by a newer build while it was open; open it again"
        ):
            late.sql("from label")
        with pytest.raises(StoreError, match="open it again"):
            early.similar("1/res/0")
    assert sources(toy_copy) == {"tokens": 5, "me": 2}


def test_a_second_writer_is_refused(toy_copy: Path) -> None:
    with (
        labelling(toy_copy),
        pytest.raises(StoreError, match="is being written by another process; wait for it"),
    ):
        put(toy_copy)
    with (
        FileLock(toy_copy.parent / ".toy.featgraph.lock"),
        pytest.raises(StoreError, match="is being written"),
    ):
        put(toy_copy)
    put(toy_copy)


def test_the_steps_of_an_ingest_that_was_cut_off_are_left(toy_copy: Path) -> None:
    left = toy_copy.parent / ".toy.featgraph.building" / "ledger"
    left.parent.mkdir()
    left.write_text("step")
    put(toy_copy)
    assert left.read_text() == "step"


def test_an_error_in_the_middle_leaves_the_graph_as_it_was(
    toy_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (toy_copy / "graph.duckdb").read_bytes(), (toy_copy / "manifest.json").read_bytes()
    monkeypatch.setattr(
        writing,
        "_RELABEL",
        "create table graph.relabelled as select error('full') from graph.label where $remade <> [1]",
    )
    with pytest.raises(
        StoreError, match=r"cannot write .*: Invalid Input Error: full; the graph is as it was"
    ):
        put(toy_copy)
    assert ((toy_copy / "graph.duckdb").read_bytes(), (toy_copy / "manifest.json").read_bytes()) == before
    assert not (toy_copy / ".labelling").exists()


@pytest.mark.thorough
def test_a_full_disk_is_an_error_and_leaves_the_graph_unchanged(toy_copy: Path) -> None:
    """The limit on the size of a file stands for the disk: the system's answer is an OSError too."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.argv[0] = 'featgraph'; "
        "from featgraph.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "label", str(toy_copy), "--from", "tokens"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "the graph is as it was" in done.stderr
    assert "Traceback" not in done.stderr
    assert sources(toy_copy) == {"tokens": 5}


def test_a_read_only_folder_is_an_error(toy_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"cannot write .*toy.featgraph: permission denied"):
        put(toy_copy)


@pytest.mark.thorough
def test_a_kill_at_any_moment_leaves_the_old_labels_or_the_new_ones(toy: Path, tmp_path: Path) -> None:
    """Each writer is killed a little later; what it leaves does not hinder the next one."""
    for moment in (0, 0.02, 0.05, 0.1, 0.2, 0.4):
        toy_copy = Path(shutil.copytree(toy, tmp_path / f"{moment}.featgraph"))
        kill_after(moment, toy_copy)
        found = sources(toy_copy)
        assert found in ({"tokens": 5}, {"tokens": 5, "killed": 72_000})
        with featgraph.open(toy_copy) as opened:
            assert len(opened.manifest.get("labels", [])) <= len(found) - 1
            assert opened.similar("2/res/1").rows
        put(toy_copy)
        assert sources(toy_copy) == {**found, "me": 2}
        assert not (toy_copy / ".labelling").exists()


def kill_after(seconds: float, toy_copy: Path) -> None:
    """Let a process write labels, and kill it so long after it began to."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(toy_copy)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.write("\n")
    writer.stdin.flush()
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
