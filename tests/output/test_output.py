"""Writing results: every format byte by byte, what is cut, and that files appear whole or not at all."""

import io
import json
import os
import re
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest

import featgraph
from featgraph import output
from featgraph.errors import UsageError
from featgraph.lineage.lineage import Lineage
from featgraph.query import Result, overview, run_verb

RESULT = Result(
    ["key", "n", "cosine", "members", "ok"],
    [
        ("0/res/1", 2, 0.800000011920929, ["1/res/1", "1/res/2"], True),
        ("1/res/3", None, None, None, False),
    ],
    ["VARCHAR", "INTEGER", "FLOAT", "VARCHAR[]", "BOOLEAN"],
)
ROW_FORMATS: tuple[output.Format, ...] = ("table", "json", "jsonl", "csv", "parquet")
MANY = Result(["n"], [(n,) for n in range(100)], ["INTEGER"])


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(result: Result, format: output.Format = "table", *, limit: int | None = None) -> list[str]:
    """The lines that a terminal of 60 columns shows."""
    screen = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "60")
        patch.setattr(sys, "stdout", screen)
        output.write(result, format, limit=limit)
    return screen.getvalue().splitlines()


def lineage(toy: Path, key: str, least: float | None = None) -> Lineage:
    with featgraph.open(toy) as graph:
        return graph.lineage(key, min=least)


def test_json_is_a_list_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(RESULT, "json")
    assert capsys.readouterr().out == (
        "[\n"
        '  {"key": "0/res/1", "n": 2, "cosine": 0.8, "members": ["1/res/1", "1/res/2"], "ok": true},\n'
        '  {"key": "1/res/3", "n": null, "cosine": null, "members": null, "ok": false}\n'
        "]\n"
    )


def test_a_struct_is_an_object_in_json_and_short_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    step = {"src": 8, "dst": 20, "cosine": 0.800000011920929}
    found = Result(["edges"], [([step],)], ["STRUCT(src INTEGER, dst INTEGER, cosine FLOAT)[]"])
    output.write(found, "jsonl")
    assert capsys.readouterr().out == '{"edges": [{"src": 8, "dst": 20, "cosine": 0.8}]}\n'
    output.write(found, "table")
    assert capsys.readouterr().out.splitlines()[2] == "{src: 8, dst: 20, cosine: 0.8}"


def test_json_without_rows_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(Result(["a"], []), "json")
    assert capsys.readouterr().out == "[]\n"


def test_jsonl_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(RESULT, "jsonl")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["0/res/1", "1/res/3"]


def test_csv_has_lists_as_json_and_null_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(RESULT, "csv")
    assert capsys.readouterr().out == (
        'key,n,cosine,members,ok\n0/res/1,2,0.8,"[""1/res/1"", ""1/res/2""]",true\n1/res/3,,,,false\n'
    )


def test_a_table_has_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(RESULT, "table")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "key       n   cosine   members            ok"
    assert lines[2] == "0/res/1   2      0.8   1/res/1, 1/res/2   true"
    assert lines[3] == "1/res/3                                   false"


def test_parquet_keeps_types(tmp_path: Path) -> None:
    output.write(RESULT, "parquet", out=tmp_path / "rows.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert [str(kind) for kind in table.schema.types] == [
        "string",
        "int32",
        "float",
        "list<element: string>",
        "bool",
    ]
    assert table.column("members").to_pylist() == [["1/res/1", "1/res/2"], None]


def test_parquet_does_not_go_to_a_terminal() -> None:
    with pytest.raises(UsageError, match="name a file with -o FILE"):
        on_terminal(RESULT, "parquet")


def test_parquet_names_the_column_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot hold column 'a'"):
        output.write(Result(["a"], [(1,), ("x",)], ["UNION"]), "parquet", out=tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "null"),
        (float("inf"), "null"),
        (Decimal("0.7"), "0.7"),
        (Decimal("12"), "12"),
        (date(2026, 8, 1), '"2026-08-01"'),
        ({"a": 1, "b": [None]}, '{"a": 1, "b": [null]}'),
        ("é\n", '"é\\n"'),
        (2**70, str(2**70)),
    ],
)
def test_json_can_say_every_value(capsys: pytest.CaptureFixture[str], value: object, text: str) -> None:
    output.write(Result(["a"], [(value,)]), "jsonl")
    assert capsys.readouterr().out == f'{{"a": {text}}}\n'


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-30, 3.4028234e38, -0.7, 16777217.0])
def test_a_32_bit_float_is_written_short_and_reads_back_the_same(value: float) -> None:
    import numpy as np

    single = float(np.float32(value))
    stream = io.StringIO()
    output._WRITERS["jsonl"](Result(["a"], [(single,)], ["FLOAT"]), stream)
    written = json.loads(stream.getvalue())["a"]
    assert np.float32(written) == np.float32(value)
    assert len(str(written)) <= len(str(single))


def test_a_limit_cuts_every_format_and_says_how_to_lift_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("table", "json", "jsonl", "csv"):
        output.write(MANY, name, limit=3)
        assert capsys.readouterr().err == "featgraph: 3 of 100 rows shown; --limit 0 shows all\n"


def test_no_limit_applies_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(MANY, "table")
    assert len(capsys.readouterr().out.splitlines()) == 102


def test_a_terminal_shows_a_screenful_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert 10 < len(on_terminal(MANY)) < 60
    assert "of 100 rows shown; --limit 0 shows all" in capsys.readouterr().err
    assert len(on_terminal(MANY, limit=0)) == 102


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(Result(["a"], [], ["INTEGER"]), "table")
    assert capsys.readouterr().err == "featgraph: no rows\n"


def test_a_narrow_terminal_cuts_text_first_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("12/res/3456", "word " * 30, 123456, "x" * 40)
    types = ["VARCHAR", "VARCHAR", "INTEGER", "VARCHAR"]
    lines = on_terminal(Result(["key", "label", "n", "more"], [row], types))
    assert re.fullmatch(r"12/res/3456   word [word ]+…   123456   x+…", lines[-1])
    assert max(map(len, lines)) <= 60
    assert "columns are cut to fit 60 characters; --format json" in capsys.readouterr().err


def test_the_flags_that_a_note_names_show_all(capsys: pytest.CaptureFixture[str]) -> None:
    wide = Result(["text", "more"], [("word " * 30, "x" * 90)] * 60, ["VARCHAR", "VARCHAR"])
    on_terminal(wide)
    assert [line.rpartition("; ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "--format json shows them whole",
        "--limit 0 shows all",
    ]
    assert json.loads("".join(on_terminal(wide, "json"))) == wide.dicts()
    assert len(on_terminal(wide, limit=0)) == 62


def test_columns_that_do_not_fit_at_all_are_left_out_from_the_right() -> None:
    columns = [f"a_long_column_{n}" for n in range(9)]
    lines = on_terminal(Result(columns, [tuple(range(9))], ["INTEGER"] * 9))
    assert lines[0].split() == columns[:3]


def test_tokens_cannot_break_lines_or_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(Result(["token"], [("a\nb\x1b[31m\r",), ("[bold]x[/bold] :smile:",)], ["VARCHAR"]), "table")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()[2:]] == [
        "a\\nb\\x1b[31m\\r",
        "[bold]x[/bold] :smile:",
    ]


def test_the_name_of_the_file_chooses_the_format(tmp_path: Path) -> None:
    for name in ROW_FORMATS:
        output.write(RESULT, out=tmp_path / f"rows.{name}")
    assert json.loads((tmp_path / "rows.json").read_text())[0]["n"] == 2
    assert (tmp_path / "rows.csv").read_text().startswith("key,n")
    assert (tmp_path / "rows.parquet").read_bytes().startswith(b"PAR1")
    output.write(RESULT, "csv", out=tmp_path / "rows.json")
    assert (tmp_path / "rows.json").read_text().startswith("key,n")


@pytest.mark.parametrize(
    ("ending", "start"),
    [
        ("", "src   dst"),
        (".txt", "src   dst"),
        (".JSON", "["),
        (".graphml", "<?xml version='1.0' encoding='utf-8'?>\n<graphml"),
        (".gexf", "<?xml version='1.0' encoding='utf-8'?>\n<gexf"),
        (".dot", "digraph"),
        (".gv", "digraph"),
        (".mmd", "flowchart LR"),
        (".mermaid", "flowchart LR"),
    ],
)
def test_every_ending_has_its_format(tmp_path: Path, ending: str, start: str) -> None:
    path = tmp_path / f"rows{ending}"
    output.write(Result(["src", "dst"], [(1, 2)], ["INTEGER", "INTEGER"]), out=path)
    assert path.read_text().startswith(start)


def test_an_ending_of_no_format_is_refused_unless_the_format_is_given(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsn"
    refused = (
        r"no format has the ending '\.jsn'; did you mean '\.json'\? endings are \.txt .* --format FORMAT"
    )
    with pytest.raises(UsageError, match=refused):
        output.write(RESULT, out=path)
    with pytest.raises(UsageError, match=refused):
        output.write_lineage(lineage(toy, "1/res/0"), out=path)
    assert list(tmp_path.iterdir()) == []
    output.write(RESULT, "csv", out=path)
    assert path.read_text().startswith("key,n")


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("old")
    with pytest.raises(UsageError):
        output.write(Result(["a"], [(1,), ("x",)], ["UNION"]), out=path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*nowhere/x\.csv: no such file or directory"):
        output.write(RESULT, out=tmp_path / "nowhere" / "x.csv")


def test_a_device_is_written_to_and_not_replaced() -> None:
    output.write(RESULT, "csv", out=Path(os.devnull))
    assert Path(os.devnull).is_char_device()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    output.write(RESULT, out=tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "rows.csv").read_text().startswith("key,n")


TREE = """\
lineage of 1/res/0: 4 features in layers 0 to 2, 3 writers
├── layer 0
│   └── 0/res/0  1.00 to 1/res/0  cat
│       └── 0/mlp/1  writes 0.70
├── layer 1
│   └── 1/res/0  <- seed  cat, cats
│       └── 1/mlp/1  writes 0.30
└── layer 2
    ├── 2/res/0  1.00 from 1/res/0  cats promotes purr
    │   └── 2/att/3  writes 0.26
    └── 2/res/1  0.60 from 1/res/0
"""


def test_a_lineage_is_a_tree_that_reads_from_first_layer_to_last(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.write_lineage(lineage(toy, "1/res/0"))
    assert capsys.readouterr().out == TREE


def test_a_tree_counts_the_other_ways_to_a_feature(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output.write_lineage(lineage(toy, "0/res/1"))
    assert "2/res/1  0.80 from 1/res/1 +1\n" in capsys.readouterr().out


def test_a_lonely_feature_is_a_tree_of_one(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output.write_lineage(lineage(toy, "0/res/3"))
    assert capsys.readouterr().out == (
        "lineage of 0/res/3: 1 feature in layer 0, 0 writers\n└── layer 0\n    └── 0/res/3  <- seed\n"
    )


@pytest.mark.parametrize("key", ["1/mlp/0", "2/att/3"])
def test_a_module_feature_has_a_tree_too(toy: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    output.write_lineage(lineage(toy, key))
    assert f"{key}  <- seed" in capsys.readouterr().out


def test_a_tree_fits_60_columns_and_loses_only_the_ends_of_lines(toy: Path, tmp_path: Path) -> None:
    output.write_tree(lineage(toy, "1/res/0"), out=tmp_path / "tree.txt", width=40)
    lines = (tmp_path / "tree.txt").read_text().splitlines()
    assert max(map(len, lines)) <= 40
    assert len(lines) == len(TREE.splitlines())
    output.write_tree(lineage(toy, "1/res/0"), out=tmp_path / "tree.txt", width=60)
    assert (tmp_path / "tree.txt").read_text() == TREE


def test_a_lineage_can_be_rows(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output.write_lineage(lineage(toy, "1/res/0"), "json")
    rows = json.loads(capsys.readouterr().out)
    with featgraph.open(toy) as graph:
        verb = run_verb(graph.store, "lineage", {"f": "1/res/0"})
    assert [list(row)[:7] for row in rows] == [verb.columns] * 7
    assert [row["key"] for row in rows] == [row["key"] for row in verb.dicts()]
    assert rows[3]["label"] == "cat, cats"


def test_the_name_of_the_file_chooses_between_tree_and_rows(toy: Path, tmp_path: Path) -> None:
    found = lineage(toy, "1/res/0")
    output.write_lineage(found, out=tmp_path / "a.txt")
    output.write_lineage(found, out=tmp_path / "a.csv")
    assert (tmp_path / "a.txt").read_text() == TREE
    assert (
        (tmp_path / "a.csv").read_text().startswith("id,key,layer,site,idx,distance,weight,density,label\n")
    )


def test_an_overview_is_titled_tables_or_one_list(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with featgraph.open(toy) as graph:
        sections = overview(graph.store)
    output.write_sections(sections)
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line in ("graph", "made", "saes", "edges", "health")] == [
        "graph",
        "made",
        "saes",
        "edges",
        "health",
    ]
    output.write_sections(sections, "json")
    rows = json.loads(capsys.readouterr().out)
    assert {row["section"] for row in rows} == {"graph", "made", "saes", "edges", "health"}
    assert [row["n"] for row in rows if row["section"] == "edges"] == [2, 4, 10]
    assert all(row["ok"] for row in rows if row["section"] == "health")


@pytest.mark.thorough
def test_an_overview_tells_what_is_broken(tmp_path: Path) -> None:
    from helpers.toy import build_toy

    path = build_toy(tmp_path / "toy.featgraph")
    (path / "vectors" / "res.1.faiss").unlink()
    with featgraph.open(path) as graph:
        health = next(section.result for section in overview(graph.store) if section.title == "health")
    assert [row for row in health.rows if not row[1]] == [("vectors", False, "absent or damaged: 1.res")]


@pytest.mark.thorough
def test_no_colour_codes_leave_for_a_file_or_a_pipe(toy: Path, tmp_path: Path) -> None:
    program = "import featgraph.cli; featgraph.cli.main()"
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    run = subprocess.run(
        [sys.executable, "-c", program, "lineage", str(toy), "1/res/0"],
        env={**environment, "TERM": "xterm-256color"},
        capture_output=True,
        check=True,
    )
    assert run.stdout.decode() == TREE
