"""The graph directory: what is refused and in which words, and that a reader never sees half a graph."""

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from featgraph import StoreError, store
from featgraph.store import vectors
from helpers.stored import message, n_edges
from helpers.toy import build_toy, directions, ids, saes

# What cannot be opened


def test_a_path_where_nothing_is_names_the_command_that_makes_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message(Path("absent.featgraph")) == (
        "there is no graph at absent.featgraph; make one with `featgraph ingest demo`"
    )


def test_a_path_where_nothing_is_names_the_graphs_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_toy(tmp_path / "here.featgraph")
    monkeypatch.chdir(tmp_path)
    assert message(Path("her.featgraph")) == "there is no graph at her.featgraph; graphs here: here.featgraph"


def test_a_directory_without_manifest_is_not_a_graph(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert message(tmp_path) == (
        f"{tmp_path} is not a feature graph (it has no manifest.json); make one with `featgraph ingest demo`"
    )


def test_a_file_is_not_a_graph(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert message(file).startswith(f"{file} is not a feature graph")


def test_a_path_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300)
    assert message(path) == f"cannot read {path}: file name too long"


def test_a_newer_format_names_both_versions_and_the_upgrade(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 99}))
    assert message(path) == (
        f"{path} was written in graph format 99, this featgraph reads up to {store.FORMAT_VERSION}; "
        "upgrade with `pip install -U featgraph`"
    )


def test_an_older_format_says_to_build_the_graph_again(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 1}))
    assert message(path) == (
        f"{path} was written by an older featgraph, in graph format 1; "
        f"this one reads format {store.FORMAT_VERSION}; "
        f"build it again with `featgraph ingest RECIPE -o {path}`"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format_version": "new"}', b"\xff\xfe\x00"])
def test_a_broken_manifest_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "manifest.json").write_bytes(content)
    told = message(path)
    assert told.startswith(f"{path / 'manifest.json'} is broken (")
    assert told.endswith(f"; remove {path}, then build it again with `featgraph ingest RECIPE -o {path}`")


def test_a_graph_without_database_says_so(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "graph.duckdb").unlink()
    again = f"build it again with `featgraph ingest RECIPE -o {path}`"
    assert message(path) == f"{path} has no graph.duckdb; remove it, then {again}"


@pytest.mark.thorough
def test_a_database_that_is_not_one_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "graph.duckdb").write_bytes(b"not a database" * 1000)
    told = message(path)
    assert told.startswith(f"cannot read {path / 'graph.duckdb'}: ")
    assert "not a valid DuckDB database file" in told
    assert "{" not in told
    assert told.endswith(f"; build it again with `featgraph ingest RECIPE -o {path}`")


@pytest.mark.parametrize("kept", [0, 100, 5000, 20000])
def test_a_database_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    database = path / "graph.duckdb"
    database.write_bytes(database.read_bytes()[:kept])
    assert message(path).startswith(f"cannot read {database}: ")


@pytest.mark.thorough
def test_a_database_with_flipped_bytes_is_refused(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    database = path / "graph.duckdb"
    content = bytearray(database.read_bytes())
    for place in range(3 * 4096, len(content), 64):
        content[place] ^= 0xFF
    database.write_bytes(content)
    assert message(path).startswith(f"cannot read {database}: ")


@pytest.mark.thorough
def test_a_database_without_the_tables_is_refused(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "graph.duckdb").unlink()
    duckdb.connect(str(path / "graph.duckdb")).close()
    assert message(path).startswith(f"cannot read {path / 'graph.duckdb'}: ")


@pytest.mark.thorough
@pytest.mark.parametrize("content", [b"", b"not an index at all", None])
def test_a_damaged_faiss_index_is_named_with_the_way_out(tmp_path: Path, content: bytes | None) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    sae = saes()[2]
    index = store.vectors_file(path, sae)
    index.write_bytes(index.read_bytes()[:60] if content is None else content)
    with pytest.raises(StoreError) as refusal:
        vectors.search(index, directions(sae), 1)
    assert str(refusal.value).startswith(f"cannot read {index}: it")
    assert str(refusal.value).endswith(f"; build it again with `featgraph ingest RECIPE -o {path}`")


@pytest.mark.parametrize("reading", [vectors.load, vectors.shape])
def test_an_absent_faiss_index_is_named(tmp_path: Path, reading: Callable[[Path], object]) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*res\.0\.faiss"):
        reading(tmp_path / "toy.featgraph" / "vectors" / "res.0.faiss")


# What can be read


def test_saes_and_vectors_come_back_as_they_were_written(toy: Path) -> None:
    with store.open_store(toy) as opened:
        assert opened.saes == saes()
        for sae in saes():
            assert vectors.directions(opened.vectors(sae)).tolist() == directions(sae).tolist()


def test_every_edge_goes_from_a_smaller_id_to_a_larger_one(toy: Path) -> None:
    with store.open_store(toy) as opened:
        assert opened.connection.execute("select count(*) from edge where src >= dst").fetchone() == (0,)


def test_features_have_dense_ids_in_topological_order(toy: Path) -> None:
    with store.open_store(toy) as opened:
        rows = opened.connection.execute("select key, id from feature order by id").fetchall()
    assert rows == list(ids().items())


@pytest.mark.parametrize(
    "statement",
    [
        "delete from edge",
        "create table mine (x integer)",
        "select * from read_csv('/etc/hostname')",
        "copy edge to 'edges.csv'",
        "attach 'other.duckdb'",
        "install httpfs",
        "set enable_external_access = true",
    ],
)
def test_a_statement_can_neither_write_nor_leave_the_graph(toy: Path, statement: str) -> None:
    with store.open_store(toy) as opened, pytest.raises(duckdb.Error):
        opened.connection.execute(statement)


def test_two_readers_share_a_graph(toy: Path) -> None:
    with store.open_store(toy) as one, store.open_store(toy) as other:
        assert one.saes == other.saes


def test_closing_twice_does_no_harm(toy: Path) -> None:
    opened = store.open_store(toy)
    assert opened.saes
    opened.close()
    opened.close()


@pytest.mark.thorough
def test_a_path_with_quotes_and_blanks_works(tmp_path: Path) -> None:
    path = build_toy(tmp_path / 'it\'s a "graph"' / "to y.featgraph")
    assert n_edges(path) > 0


# How a new graph takes its place
