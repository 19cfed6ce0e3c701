"""Labels from tables and tokens, and the command: which feature gets which, and what is refused."""

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from featgraph.cli import app
from featgraph.errors import FeatgraphError, SourceError, UsageError
from featgraph.labels import from_table, from_tokens
from helpers.labelled import OAI, bulk, labels, row, token_labels

# ---- tables


def table(folder: Path, kind: str) -> Path:
    """Two labels in a file of each kind."""
    rows = [{"key": "1/res/0", "text": 'cats, "big" ones'}, {"key": "0/att/3", "text": "é"}]
    file = folder / f"labels{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == ".jsonl":
        file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    elif kind == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == ".tsv":
        file.write_text('key\ttext\n1/res/0\tcats, "big" ones\n0/att/3\té\n', encoding="utf-8")
    else:
        text = 'key,text\n1/res/0,"cats, ""big"" ones"\n0/att/3,é\n'.encode()
        file.write_bytes(gzip.compress(text) if kind.endswith(".gz") else text)
    return file


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", "[1].csv"])
def test_a_table_has_a_key_and_a_text_per_row(graph: Path, tmp_path: Path, kind: str) -> None:
    done = from_table(graph, table(tmp_path, kind))
    assert labels(graph) == [("0/att/3", "csv", "é"), ("1/res/0", "csv", 'cats, "big" ones')]
    assert done.left_out == []


def written(folder: Path, text: str) -> Path:
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_key_may_be_three_columns_and_a_row_may_name_its_source(graph: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "Layer,SITE,idx,Text,source\n1,res,0,a,ann\n2,mlp,03,b,\n")
    from_table(graph, file, source="bob")
    assert labels(graph) == [("1/res/0", "ann", "a"), ("2/mlp/3", "bob", "b")]


def test_rows_without_a_text_are_counted(graph: Path, tmp_path: Path) -> None:
    done = from_table(graph, written(tmp_path, "key,text\n1/res/0,\n 1/res/1 , a \n"))
    assert labels(graph) == [("1/res/1", "csv", "a")]
    assert done.left_out == [f"1 row of {tmp_path / 'labels.csv'} without a text"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,text\n1/res/0,a\n1/res/9,b\n7/res/0,c\n", "row 2: no feature '1/res/9': 1/res has 4 features"),
        ("key,text\n1/rse/0,a\n", "row 1: no site 'rse' in feature key '1/rse/0'; did you mean 'res'"),
        (
            "key,text\n1/res/9,a\n1/res/8,a\nx,c\n",
            r"row 1: .* the last is '1/res/3' \(2 more rows like that\)",
        ),
        ("key,text\n,a\n", "row 1: '' is not a feature key; write layer/site/index"),
        ("kye,text\n1/res/0,a\n", "no column 'key', nor layer, site and idx; did you mean 'kye'"),
        ("key,txt\n1/res/0,a\n", "has no column 'text'; did you mean 'txt'"),
        ("layer,site,text\n1,res,a\n", "has no column 'idx'; it has layer, site, text"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_whole(
    graph: Path, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        from_table(graph, written(tmp_path, text))
    assert labels(graph) == []


def test_a_file_that_is_not_a_table_is_refused(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"cannot read .*broken.parquet: "):
        from_table(graph, tmp_path / "broken.parquet")
    with pytest.raises(
        UsageError, match=r"labels.xlsx is not a table of labels; its name must end in .csv, .tsv"
    ):
        from_table(graph, tmp_path / "labels.xlsx")
    with pytest.raises(UsageError, match=r"there is no file .*none.csv"):
        from_table(graph, tmp_path / "none.csv")


# ---- tokens


@pytest.mark.thorough
def test_labels_of_tokens_are_made_anew(graph: Path, tmp_path: Path) -> None:
    from_table(graph, written(tmp_path, "key,text,source\n1/res/0,kept,me\n0/res/3,dead,tokens\n"))
    done = from_tokens(graph)
    made = token_labels(graph)
    assert len(made) == 34
    assert made["1/res/0"] == "token0, other0 → next0, then0"
    assert "0/res/3" not in made
    assert labels(graph) == [("1/res/0", "me", "kept")]
    assert done.left_out == ["2 features without tokens"]


def test_labels_of_tokens_are_those_of_ingest(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "small.featgraph"
    shutil.copytree(small, copy)
    before = token_labels(copy)
    from_tokens(copy)
    assert token_labels(copy) == before != {}


# ---- the command


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["label", *map(str, arguments)])
    return done.exit_code, done.stderr


@pytest.mark.thorough
def test_the_command_reports_the_labels(graph: Path, tmp_path: Path) -> None:
    folder = bulk(tmp_path, 1, "res", [row(1, "res", 0, "a"), row(2, "res", 0, "b")])
    code, said = call(graph, "--from", "neuronpedia", folder, "-q")
    assert (code, said) == (
        0,
        f"featgraph: 1 label of 1 feature from {OAI}\n"
        "featgraph: left out: 1 row of toy-2b/2-toyscope-res-4, which is not an SAE of this graph\n",
    )
    assert call(graph, "--from", "csv", written(tmp_path, "key,text\n1/res/0,x\n"), "--source", "me")[0] == 0
    assert ("1/res/0", "me", "x") in labels(graph)
    assert call(graph, "--from", "tokens", "-q") == (
        0,
        "featgraph: 34 labels of 34 features from tokens\nfeatgraph: left out: 2 features without tokens\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "say where the labels come from: --from neuronpedia, csv, tokens, llm"),
        (["--from", "csv"], 2, "--from csv needs PATH"),
        (["--from", "neuronpedia"], 2, "--from neuronpedia needs PATH"),
        (["--from", "tokens", "x.csv"], 2, "--from tokens takes no PATH"),
        (["--from", "llm", "--model", "m"], 2, "--from llm needs --base-url"),
        (["--from", "csv", "x.csv", "--api-key-env", "K"], 2, "--from csv takes no --api-key-env"),
        (["--from", "neuronpedia", "/none"], 2, "/none does not exist"),
        (["--from", "csv", "/none.csv"], 2, "there is no file /none.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_says_why(graph: Path, arguments: list[str], code: int, message: str) -> None:
    assert call(graph, *arguments)[0] == code
    assert message in call(graph, *arguments)[1]


def test_a_graph_that_is_none_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FeatgraphError, match="there is no graph at"):
        from_tokens(tmp_path / "none.featgraph")
    assert list(tmp_path.iterdir()) == []
