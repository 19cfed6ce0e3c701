"""`verify` finds what is broken in a graph, each thing by itself, and nothing in one that is whole."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import faiss
import numpy as np
import pytest

import featgraph
from featgraph import StoreError
from featgraph.core.arrays import Matrix
from featgraph.store import vectors
from featgraph.store.layout import DATABASE
from featgraph.store.verify import is_whole, verify
from helpers.repository import ROOT


def broken(path: Path) -> dict[str, str]:
    """The checks that do not pass, with what they say."""
    return {str(check): str(detail) for check, result, detail in verify(path) if result != "ok"}


@pytest.fixture
def graph(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "small.featgraph"))


def test_a_graph_as_ingested_is_whole(small: Path) -> None:
    with featgraph.open(small) as opened:
        result = opened.verify()
    assert is_whole(result), broken(small)
    assert result.columns == ["check", "result", "detail"]
    assert len({row[0] for row in result.rows}) == len(result.rows) > 20


CHANGES = {
    "saes": "update sae set first_id = first_id + 1 where number = 1",
    "thresholds": "update sae set threshold_low = 0.9, threshold_high = 0.1 where number = 2",
    "features": "delete from feature where id = 5",
    "keys": "update feature set key = '9/res/9' where id = 3",
    "measures": "update feature set density = 'nan' where id = 2",
    "nulls": "update feature set density = null where id = 2",
    "order": "update edge set dst = 100000 where rowid = 3",
    "sorted": "insert into edge select * from edge limit 1",
    "kinds": "update edge set kind = 'att_res' where kind = 'mlp_res'",
    "cosines": "update edge set cosine = 7.6e36 where rowid = 3",
    "ranks": "update edge set rank_out = rank_out + 1 where rowid = 3",
    "evidence": "update edge set jaccard = 2 where rowid = 3",
    "ablations": "update edge set ablation_change = 0.5 where rowid = 3",
    "pairs": "update pair set n_edges = n_edges + 1 where src_sae = 0",
    "examples": "update example set token_index = 99 where rank = 1",
    "labels": "update label set feature = -4 where rowid = 0",
    "meta": "insert into meta select * from meta limit 1",
    "catalogue": "create macro folded_too(x) as x",
    "directions": "update edge set cosine = cosine - 0.01",
}


@pytest.mark.thorough
@pytest.mark.parametrize("check", CHANGES)
def test_a_change_of_one_thing_is_found(graph: Path, check: str) -> None:
    with duckdb.connect(str(graph / DATABASE)) as connection:
        connection.execute(CHANGES[check])
    assert check in broken(graph)


def flip(file: Path, offset: int, bit: int = 6) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1 << bit
    file.write_bytes(content)


def index_of(kind: Callable[[int], faiss.Index], rows: Matrix, file: Path) -> None:
    index = kind(rows.shape[1])
    index.add(rows)
    faiss.write_index(index, str(file))


def sign_again(graph: Path, file: Path) -> None:
    """Put the hash of a changed file into the manifest, as somebody who means harm would."""
    from featgraph.core.files import file_sha256

    manifest = json.loads((graph / "manifest.json").read_text())
    manifest["vectors"][file.name] = file_sha256(file)
    (graph / "manifest.json").write_text(json.dumps(manifest))


def _other_metric(file: Path) -> None:
    index_of(faiss.IndexFlatL2, vectors.directions(file), file)


def _not_a_number(file: Path) -> None:
    rows = vectors.directions(file)
    rows[3, 2] = np.nan
    vectors.save(file, rows)


def _longer(file: Path) -> None:
    vectors.save(file, vectors.directions(file) * np.float32(1.01))


def _fewer(file: Path) -> None:
    vectors.save(file, vectors.directions(file)[:-1])


def _narrower(file: Path) -> None:
    rows = vectors.directions(file)[:, :-1]
    vectors.save(file, rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _another_type(file: Path) -> None:
    index_of(lambda d: faiss.IndexHNSWFlat(d, 8), vectors.directions(file), file)


def _a_count_that_is_too_large(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8:16] = (2**60).to_bytes(8, "little")
    file.write_bytes(content)


HARMS: dict[str, Callable[[Path], object]] = {
    "a flipped bit of an exponent": lambda file: flip(file, 45 + 3),
    "a flipped bit of a sign": lambda file: flip(file, 45 + 3, 7),
    "another metric": _other_metric,
    "a NaN": _not_a_number,
    "longer vectors": _longer,
    "fewer vectors": _fewer,
    "narrower vectors": _narrower,
    "another type": _another_type,
    "a count that is too large": _a_count_that_is_too_large,
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-4]),
    "something behind it": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.thorough
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("signed", [False, True])
def test_a_file_of_vectors_that_is_not_as_written_is_not_used(graph: Path, harm: str, signed: bool) -> None:
    file = graph / "vectors" / "res.1.faiss"
    HARMS[harm](file)
    if signed:
        sign_again(graph, file)
        if harm == "a flipped bit of a sign":
            return  # a unit vector as good as any: only the hash can tell
    with featgraph.open(graph) as opened:
        for key in ("1/res/3", "0/res/3"):
            with pytest.raises(StoreError, match=r"res\.1\.faiss"):
                opened.similar(key)
        with pytest.raises(StoreError, match=r"res\.1\.faiss"):
            opened.steering_vector("1/res/3")
    assert "vectors" in broken(graph)


def test_the_header_is_read_as_faiss_writes_it(tmp_path: Path) -> None:
    rows = np.eye(3, 5, dtype=np.float32)
    index_of(faiss.IndexFlatIP, rows, tmp_path / "one.faiss")
    assert vectors.shape(tmp_path / "one.faiss") == (3, 5)
    vectors.check(tmp_path / "one.faiss", 3, 5)


def test_a_manifest_that_lacks_a_part_and_a_strange_file_are_found(graph: Path) -> None:
    manifest = json.loads((graph / "manifest.json").read_text())
    del manifest["versions"]
    (graph / "manifest.json").write_text(json.dumps(manifest))
    (graph / "notes.md").write_text("mine")
    (graph / "vectors" / "evil.so").write_text("x")
    found = broken(graph)
    assert found["manifest"] == "no versions"
    assert found["files"] == "notes.md, vectors/evil.so"


def test_a_damaged_block_of_the_database_is_found(graph: Path) -> None:
    database = graph / DATABASE
    size = database.stat().st_size
    for offset in range(12288 + 100, size, 262144):
        flip(database, offset)
    assert broken(graph)


@pytest.mark.thorough
def test_the_command_ends_with_3_if_something_is_broken(graph: Path, small: Path) -> None:
    def run(path: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "featgraph", "verify", str(path), "--format", "json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    (graph / "notes.md").write_text("mine")
    whole, ended = run(small), run(graph)
    assert (whole.returncode, ended.returncode) == (0, 3)
    rows = json.loads(ended.stdout)
    assert [row["check"] for row in rows if row["result"] == "broken"] == ["files"]
