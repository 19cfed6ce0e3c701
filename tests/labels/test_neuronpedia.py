"""Labels from Neuronpedia's bulk files: matching with features, sources, and errors."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from featgraph.errors import SourceError, UsageError
from featgraph.labels import bulk as bulk_files
from featgraph.labels import from_neuronpedia
from helpers.label_server import Asked, Reply, Stub, serving
from helpers.labelled import OAI, QUICK, bulk, labels, row, source_id, token_labels
from helpers.toy import LABELS

# ---- files


def test_explanations_are_joined_on_the_index_and_the_sae(graph: Path, tmp_path: Path) -> None:
    """Not on the line: the files are ordered by the index as text, and miss features."""
    folder = bulk(tmp_path, 1, "res", [row(1, "res", 3, "sun"), row(1, "res", 0, "cats, é")])
    bulk(tmp_path, 0, "mlp", [row(0, "mlp", 2, "rain")])
    done = from_neuronpedia(graph, folder)
    assert labels(graph) == [("0/mlp/2", OAI, "rain"), ("1/res/0", OAI, "cats, é"), ("1/res/3", OAI, "sun")]
    assert [(each.source, each.n, each.n_features) for each in done.added] == [(OAI, 3, 3)]
    assert done.left_out == []


def test_all_explanations_of_a_feature_are_kept_and_types_are_sources(graph: Path, tmp_path: Path) -> None:
    rows = [row(1, "res", 0, text, explanationModelName=text[-1]) for text in ("by a", "by b", "by b")]
    folder = bulk(tmp_path, 1, "res", rows, [row(1, "res", 0, "other", typeName="np_max-act")])
    folder = bulk(tmp_path, 0, "res", [row(0, "res", 1, "plain", typeName=None)])
    from_neuronpedia(graph, folder)
    assert labels(graph) == [
        ("0/res/1", "neuronpedia", "plain"),
        ("1/res/0", "neuronpedia:np_max-act", "other"),
        ("1/res/0", OAI, "by a"),
        ("1/res/0", OAI, "by b"),
    ]


def test_new_labels_take_the_place_of_the_same_source_and_feature_alone(graph: Path, tmp_path: Path) -> None:
    folder = bulk(tmp_path / "a", 1, "res", [row(1, "res", idx, "old") for idx in range(2)])
    from_neuronpedia(graph, folder)
    from_neuronpedia(graph, bulk(tmp_path / "b", 1, "res", [row(1, "res", 1, "new")]))
    assert labels(graph) == [("1/res/0", OAI, "old"), ("1/res/1", OAI, "new")]
    assert token_labels(graph) == LABELS


def test_rows_without_a_label_are_counted(graph: Path, tmp_path: Path) -> None:
    others = [row(1, "res", 0, "x", modelId="toy-9b"), row(2, "res", 0, "y"), row(2, "res", 900, "z")]
    folder = bulk(tmp_path, 1, "res", [*others, row(1, "res", 0, " "), row(1, "res", 1, "a")])
    assert from_neuronpedia(graph, folder).left_out == [
        "2 rows of toy-2b/2-toyscope-res-4, which is not an SAE of this graph",
        "1 row of toy-9b/1-toyscope-res-4, which is not an SAE of this graph",
        "1 row without a description",
    ]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["file", "source", "explanations", "glob", "plain"])
def test_a_place_is_a_file_a_folder_or_a_glob(graph: Path, tmp_path: Path, kind: str) -> None:
    batches = [[row(1, "res", number, f"batch {number}")] for number in range(3)]
    folder = bulk(tmp_path / "odd [1]", 1, "res", *batches) / source_id(1, "res")
    (tmp_path / "plain.jsonl").write_text(json.dumps(batches[0][0]))
    places = {
        "file": folder / "explanations" / "batch-0.jsonl.gz",
        "source": folder,
        "explanations": folder / "explanations",
        "glob": tmp_path / "odd*" / "**" / "explanations" / "batch-[0-1].jsonl.gz",
        "plain": tmp_path / "plain.jsonl",
    }
    from_neuronpedia(graph, places[kind])
    assert len(labels(graph)) == {"file": 1, "glob": 2, "plain": 1}.get(kind, 3)


@pytest.mark.thorough
def test_an_sae_without_an_id_is_named_by_hand(graph: Path, tmp_path: Path) -> None:
    folder = bulk(tmp_path, 2, "att", [row(2, "att", 1, "words")])
    with pytest.raises(SourceError, match="no SAE of"):
        from_neuronpedia(graph, folder)
    from_neuronpedia(graph, folder, layer=2, site="att")
    assert labels(graph) == [("2/att/1", OAI, "words")]


@pytest.mark.parametrize(
    ("layer", "site", "message"),
    [
        (7, "res", "--layer 7 --site res names no SAEs of this graph; choose one of 0/att, 0/mlp, 0/res"),
        (1, None, "--layer 1 names 3 SAEs of this graph; choose one of 1/att, 1/mlp, 1/res"),
        (None, "rse", "--site rse names no SAEs"),
    ],
)
def test_the_sae_that_is_named_is_one(
    graph: Path, tmp_path: Path, layer: int | None, site: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        from_neuronpedia(graph, bulk(tmp_path, 1, "res", [row(1, "res", 1, "a")]), layer=layer, site=site)


def test_rows_of_two_saes_are_not_put_on_one(graph: Path, tmp_path: Path) -> None:
    folder = bulk(tmp_path, 1, "res", [row(1, "res", 1, "a")])
    bulk(tmp_path, 1, "mlp", [row(1, "mlp", 1, "b")])
    with pytest.raises(SourceError, match=r"rows of several SAEs .*but --layer and --site name one"):
        from_neuronpedia(graph, folder, layer=2, site="res")


def damaged(content: bytes, kind: str) -> bytes:
    flipped = bytearray(content)
    flipped[-8] ^= 1
    return {
        "cut": content[: len(content) // 2],
        "sum": bytes(flipped),
        "zip": b"PK no gzip at all",
        "text": gzip.compress(b"hello\n"),
        "list": gzip.compress(b"[1, 2]\n"),
        "later": gzip.compress(zlib.decompress(content, 31) + b'{"index": }\n'),
        "none": b"",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"batch-0.jsonl.gz is damaged \(Compressed file ended"),
        ("sum", r"batch-0.jsonl.gz is damaged \(CRC check failed"),
        ("zip", r"batch-0.jsonl.gz is damaged \(Not a gzipped file"),
        ("text", r"batch-0.jsonl.gz is not a JSON Lines file: "),
        ("list", r"batch-0.jsonl.gz is not a file of explanations: it has no column 'modelId'; it has none"),
        ("later", r"cannot read .*batch-0.jsonl.gz: .*Malformed JSON"),
        ("none", r"batch-0.jsonl.gz is damaged \(it is empty\)"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_written(
    graph: Path, tmp_path: Path, kind: str, message: str
) -> None:
    folder = bulk(tmp_path, 1, "res", [row(1, "res", 1, "a")], [row(1, "res", 2, "b")])
    file = folder / source_id(1, "res") / "explanations" / "batch-0.jsonl.gz"
    file.write_bytes(damaged(file.read_bytes(), kind))
    with pytest.raises(SourceError, match=message):
        from_neuronpedia(graph, folder)
    assert labels(graph) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"index": "4"},
            r"index '4' of toy-2b/1-toyscope-res-4 is not a feature of 1/res, which has 4; these",
        ),
        ({"index": "-1"}, "index '-1' of"),
        ({"index": "abc"}, "index 'abc' of"),
        ({"index": None}, "index None of"),
        ({"modelId": "toy-2c"}, "are of toy-2c/1-toyscope-res-4, no SAE of .*; did you mean 'toy-2b/1-toys"),
    ],
)
def test_rows_that_cannot_be_of_this_graph_are_refused(
    graph: Path, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    folder = bulk(tmp_path, 1, "res", [{**row(1, "res", 1, "a"), **changed}])
    with pytest.raises(SourceError, match=message):
        from_neuronpedia(graph, folder)
    assert labels(graph) == []


def test_bulk_files_without_explanations_are_refused(graph: Path, tmp_path: Path) -> None:
    folder = bulk(tmp_path, 1, "res", [row(1, "res", 1, "a")]) / source_id(1, "res") / "features"
    with pytest.raises(
        SourceError, match="is not a file of explanations: it has no column 'layer'; it has modelId"
    ):
        from_neuronpedia(graph, folder)


def test_the_error_about_a_missing_file_lists_the_kinds_of_input(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"nowhere does not exist; give a bulk file, a folder of them, a glob"
    ):
        from_neuronpedia(graph, tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no \*.jsonl.gz files"):
        from_neuronpedia(graph, tmp_path / "toy.featgraph" / "vectors")


def test_a_graph_without_ids_says_how_to_name_the_sae(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no SAE of .* has a Neuronpedia id; choose the SAE .* --layer L --site res"
    ):
        from_neuronpedia(toy, tmp_path)


# ---- neuronpedia over HTTP


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Stub]:
    """A server of the files below `tmp_path`, which says 403 where there is none, as S3 does."""

    def rule(asked: Asked) -> Reply:
        file = tmp_path / asked.path.lstrip("/")
        return Reply(body=file.read_bytes()) if file.is_file() else Reply(403, b"<Code>AccessDenied</Code>")

    with serving(rule) as stub:
        yield stub


@pytest.mark.parametrize("place", ["disk", "server"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n" + b" " * (3 << 20), "unpacks to more than"),
        (b'{"a": "' + b"x" * (3 << 20), "has a line of more than"),
    ],
)
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    graph: Path,
    tmp_path: Path,
    bucket: Stub,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    message: str,
    place: str,
) -> None:
    monkeypatch.setattr(bulk_files, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(bulk_files, "_LONGEST_LINE", 1 << 20)
    path = tmp_path / "batch-0.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    assert path.stat().st_size < 10_000
    with pytest.raises(SourceError, match=message):
        from_neuronpedia(
            graph, f"{bucket.url}/{path.name}" if place == "server" else path, retry_policy=QUICK
        )
    assert labels(graph) == []


@pytest.mark.thorough
@pytest.mark.parametrize("ending", ["", "/explanations", "/explanations/batch-0.jsonl.gz", "/"])
def test_explanations_of_one_source_come_over_http(
    graph: Path, tmp_path: Path, bucket: Stub, ending: str
) -> None:
    bulk(tmp_path, 1, "res", [row(1, "res", 2, "sun")])
    from_neuronpedia(graph, f"{bucket.url}/v1/{source_id(1, 'res')}{ending}", retry_policy=QUICK)
    assert labels(graph) == [("1/res/2", OAI, "sun")]
    assert [asked.path for asked in bucket.asked] == [
        f"/v1/{source_id(1, 'res')}/explanations/batch-0.jsonl.gz"
    ]


@pytest.mark.thorough
def test_the_address_above_all_sources_gives_those_of_the_graph(
    graph: Path, tmp_path: Path, bucket: Stub
) -> None:
    bulk(tmp_path, 0, "res", [row(0, "res", 1, "a")])
    bulk(tmp_path, 1, "mlp", [row(1, "mlp", 1, "b")])
    done = from_neuronpedia(graph, f"{bucket.url}/v1", retry_policy=QUICK)
    assert [label[0] for label in labels(graph)] == ["0/res/1", "1/mlp/1"]
    assert done.left_out == ["4 files that the server has not"]
    assert not (graph / ".labelling").exists()


@pytest.mark.thorough
def test_a_server_that_is_busy_is_asked_again(graph: Path, tmp_path: Path, bucket: Stub) -> None:
    bulk(tmp_path, 1, "res", [row(1, "res", 2, "sun")])
    bucket.queued += [Reply(503), Reply(500)]
    from_neuronpedia(graph, f"{bucket.url}/v1/{source_id(1, 'res')}", retry_policy=QUICK)
    assert len(labels(graph)) == 1
    bucket.queued += [Reply(500)] * 3
    with pytest.raises(SourceError, match=r"cannot fetch http://.*: 500 .*; try again later"):
        from_neuronpedia(graph, f"{bucket.url}/v1/{source_id(1, 'res')}", retry_policy=QUICK)


def test_an_address_with_nothing_behind_it_is_an_error(graph: Path, bucket: Stub) -> None:
    with pytest.raises(SourceError, match="there are no explanations at http://"):
        from_neuronpedia(graph, f"{bucket.url}/v1/{source_id(1, 'res')}", retry_policy=QUICK)
    with pytest.raises(UsageError, match="'ftp://host/x' is not a web address; write http://HOST"):
        from_neuronpedia(graph, "ftp://host/x")
    with pytest.raises(UsageError, match=r"may hold no user, password or query; write https://host/v1$"):
        from_neuronpedia(graph, "https://me:secret@host/v1?signature=1")
