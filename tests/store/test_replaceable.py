"""Nothing that an ingest did not write is replaced by one."""

from pathlib import Path

import pytest

from featgraph import StoreError, store
from helpers.new_graph import replacing
from helpers.toy import build_toy


@pytest.mark.parametrize(
    "files",
    [
        {"": "mine"},
        {"chapter.txt": "mine"},
        {"manifest.json": '{"name": "a web app", "icons": []}', "app.js": "mine"},  # a web app, a dbt project
        {"manifest.json": '{"name": "a web app"}'},
        {"manifest.json": "not JSON", "graph.duckdb": "mine"},
        {"manifest.json": '{"format_version": 4}', "notes.md": "mine"},
        {"manifest.json": '{"format_version": "4"}', "graph.duckdb": "mine"},
        {"graph.duckdb": "mine"},
    ],
)
def test_something_else_is_never_overwritten(tmp_path: Path, files: dict[str, str]) -> None:
    path = tmp_path / "thesis"
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(content)
    with pytest.raises(StoreError) as refusal:
        build_toy(path)
    what = "a folder" if "" in files else "a feature graph"
    assert str(refusal.value) == f"{path} exists and is not {what}; choose another name with -o"
    assert {name: (path / name).read_text() for name in files} == files


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["notes.md", "vectors/mine.npy", "vectors/old/res.0.faiss", "results/1.csv"])
def test_a_graph_that_holds_files_of_the_user_is_not_replaced(tmp_path: Path, name: str) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("mine")
    with pytest.raises(StoreError, match=r"holds files that are no part of a graph"):
        build_toy(path)
    assert (path / name).read_text() == "mine"


def test_a_file_that_is_put_into_the_graph_during_a_build_stays(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with pytest.raises(StoreError, match=r"no part of a graph \(notes\.md\)"), replacing(path):
        (path / "notes.md").write_text("mine")
    assert (path / "notes.md").read_text() == "mine"
    with store.open_store(path) as opened:
        assert opened.rows("select count(*) from edge") != [(0,)]
