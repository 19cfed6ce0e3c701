"""The command line: what each command prints, on which stream, with which exit code, and at what cost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import featgraph
from featgraph.cli import app, options
from featgraph.query import VERBS, all_named
from helpers.toy import build_toy

PROGRAM = [sys.executable, "-c", "from featgraph.cli import main; main()"]
HEAVY = ("torch", "transformers", "sae_lens", "networkx", "pandas", "pydantic", "pyarrow", "faiss", "numpy")


def call(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def rows(*arguments: object) -> list[dict[str, object]]:
    """The rows that a command prints as JSON."""
    done = call(*arguments, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def process(*arguments: object, **named: object) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **named)  # type: ignore[call-overload,no-any-return]


# ---- what commands answer


def test_a_statement_is_answered_in_json(toy: Path) -> None:
    found = rows(
        "query", toy, "select key, s_res from feature where site = $site and idx = 1", "-p", "site=res"
    )
    assert found == [
        {"key": "0/res/1", "s_res": None},
        {"key": "1/res/1", "s_res": 0.8},
        {"key": "2/res/1", "s_res": 0.8},
    ]


def test_a_statement_can_come_from_a_file_or_stdin(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("select 1 as a")
    assert rows("query", toy, "-f", tmp_path / "one.sql") == [{"a": 1}]
    done = call("query", toy, "-f", "-", "--format", "csv", text="select 2 as a")
    assert done.stdout == "a\n2\n"


def test_verbs_stand_in_statements(toy: Path) -> None:
    assert rows(
        "query", toy, "select count(*) as n from lineage('1/res/0', min := $min)", "-p", "min=0.9"
    ) == [{"n": 6}]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "lineage"])
def test_every_verb_is_a_command_that_answers_the_same(toy: Path, verb: str) -> None:
    examples = {"f": "1/res/0", "a": "0/res/1", "b": "2/res/1", "words": "cat"}
    names = [name for name in examples if name in VERBS[verb].arguments]
    passed = [f"{name} => '{examples[name]}'" for name in names]
    given = [examples[name] for name in names]
    if "min" in VERBS[verb].arguments:
        given += ["--min", "0.3"]
        passed.append("min => 0.3")
    expected = rows("query", toy, f"from {verb}({', '.join(passed)})")
    assert len(expected) > 0
    assert rows(verb, toy, *given) == expected


@pytest.mark.thorough
def test_the_options_of_a_verb_reach_it(toy: Path) -> None:
    assert [row["key"] for row in rows("descendants", toy, "0/res/1", "--hops", "1")] == [
        "1/res/1",
        "1/res/2",
    ]
    assert [row["key"] for row in rows("deaths", toy, "--layer", "1")] == ["1/res/3"]
    assert len(rows("subgraph", toy, "1/res/0", "--no-writers")) == 3
    assert len(rows("subgraph", toy, "1/res/0", "--writer-min", "0.28")) == 5


@pytest.mark.thorough
def test_a_lineage_is_a_tree_unless_asked_otherwise(toy: Path) -> None:
    assert call("lineage", toy, "1/res/0").stdout.startswith(
        "lineage of 1/res/0: 4 features in layers 0 to 2"
    )
    assert len(rows("lineage", toy, "1/res/0", "--min", "0.9", "--no-writers")) == 3
    assert "key" in call("lineage", toy, "1/res/0", "--format", "table").stdout.splitlines()[0]


def test_similar_lists_the_nearest_of_every_sae(toy: Path) -> None:
    found = rows("similar", toy, "1/res/0", "-k", "1")
    assert len(found) == 9
    assert list(found[0]) == ["id", "key", "layer", "site", "cosine", "label"]


def test_queries_lists_all_and_prints_one(toy: Path) -> None:
    assert [row["name"] for row in rows("queries")] == [query.name for query in all_named()]
    assert call("queries", "splits").stdout.startswith("-- Features that split")
    assert rows("queries", "splits")[0]["parameters"] == ["min", "layer"]


@pytest.mark.parametrize("name", [query.name for query in all_named()])
def test_every_named_query_runs(toy: Path, name: str) -> None:
    needed = dict.fromkeys(("lineage", "writers"), "feature=1/res/0")
    needed |= {"best-path": "from=0/res/1 -p to=2/res/1", "doubtful-links": "pearson=0.9"}
    assert rows("run", toy, name, *f"-p {needed[name]}".split() if name in needed else [])


def test_parameters_reach_a_named_query(toy: Path) -> None:
    assert rows("run", toy, "births", "-p", "min=0.3", "-p", "layer=2")[0]["key"] == "2/res/2"


def test_info_tells_what_is_in_a_graph(toy: Path) -> None:
    text = call("info", toy).stdout
    assert re.search(r"features +36", text)
    assert re.search(r"res_res +10 ", text)
    assert re.search(r"recipe\.name +toy", text)
    assert "vectors    true   9 indexes" in text


@pytest.mark.thorough
def test_recipes_lists_what_ships() -> None:
    demo = next(row for row in rows("recipes") if row["name"] == "demo")
    assert demo["layers"] == 8
    assert demo["sites"] == ["att", "mlp", "res"]


@pytest.mark.thorough
@pytest.mark.parametrize("format", ["gguf", "safetensors", "json"])
def test_export_writes_a_file_by_its_name_or_by_the_flag(toy: Path, tmp_path: Path, format: str) -> None:
    by_name, by_flag = tmp_path / f"vector.{format}", tmp_path / "vector"
    one = call("export", toy, "1/res/0", "-o", by_name, "--scale", "2", "--unit", "unit")
    two = call("export", toy, "1/res/0", "1/res/1", "-o", by_flag, "--format", format)
    assert (one.exit_code, one.stdout) == (0, "")
    assert one.stderr.startswith(f"featgraph: wrote {by_name}")
    assert two.exit_code == 0
    assert by_name.stat().st_size > 100
    assert by_flag.stat().st_size > 100


def test_export_along_a_lineage_steers_more_layers(toy: Path, tmp_path: Path) -> None:
    call("export", toy, "1/res/0", "-o", tmp_path / "one.json")
    call("export", toy, "1/res/0", "-o", tmp_path / "all.json", "--where", "cumulative")
    assert (tmp_path / "all.json").stat().st_size > 2 * (tmp_path / "one.json").stat().st_size


@pytest.mark.thorough
def test_every_format_goes_to_a_file(toy: Path, tmp_path: Path) -> None:
    for format in ("table", "json", "jsonl", "csv", "parquet"):
        done = call("splits", toy, "--format", format, "-o", tmp_path / format)
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / format).stat().st_size > 20


def test_a_limit_is_told_on_stderr(toy: Path) -> None:
    done = call("query", toy, "select key from feature", "--limit", "2", "--format", "csv")
    assert done.stdout == "key\n0/att/0\n0/att/1\n"
    assert done.stderr == "featgraph: 2 of 36 rows shown; --limit 0 shows all\n"


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").stdout == f"featgraph {featgraph.__version__}\n"


# ---- help and completion


def test_recipes_and_queries_complete() -> None:
    assert options._recipe_names("de") == ["demo"]
    assert options._query_names("sp") == ["splits"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("line", "found"), [("queries spl", "splits"), ("ingest de", "demo"), ("lin", "lineage")]
)
def test_the_shell_completes_names(line: str, found: str) -> None:
    words = f"featgraph {line}"
    environment = {
        **os.environ,
        "_FEATGRAPH_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    assert found in process(env=environment).stdout.split()


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["query", "TOY", "selec 1"],
            1,
            'featgraph: syntax error at or near "selec"\n  LINE 1, COLUMN 1: selec 1\n                    ^',
        ),
        (["query", "TOY", "drop table label"], 1, "a DROP statement is refused"),
        (["query", "TOY", "select $min"], 2, "no value for $min; give one with -p min=VALUE"),
        (["query", "TOY", "select 1", "-p", "min"], 2, "'min' is not a parameter; write -p name=value"),
        (["query", "TOY", "select $a", "-p", "a=1", "-p", "a=2"], 2, "parameter 'a' is given twice"),
        (["query", "TOY"], 2, "give one statement, either as an argument or with -f FILE"),
        (["query", "TOY", "-f", "nowhere.sql"], 2, "cannot read nowhere.sql: no such file or directory"),
        (["lineage", "TOY", "1/res/99"], 2, "no feature '1/res/99'"),
        (
            ["lineage", "TOY", "fish"],
            2,
            "'fish' is not a feature key; write layer/site/index, such as 12/res/3456",
        ),
        (["lineage", "TOY", "1/res/0", "--min", "2"], 2, "min = 2.0 is out of range: -1 to 1"),
        (["lineage", "TOY", "1/res/0", "--format", "xml"], 2, "--format"),
        (["splits", "TOY", "--layer", "one"], 2, "--layer"),
        (
            ["run", "TOY", "spits"],
            2,
            "no query named 'spits'; did you mean 'splits'? `featgraph queries` lists all",
        ),
        (["run", "TOY", "splits", "-p", "mn=1"], 2, "did you mean 'min'?"),
        (["similar", "TOY", "1/res/0", "-k", "0"], 2, "k = 0"),
        (["export", "TOY", "1/res/0", "-o", "vector.xyz"], 2, "no export format 'xyz'"),
        (["export", "TOY", "1/res/0"], 2, "--output"),
        (["splits", "TOY", "-o", "/nowhere/at/all.csv"], 2, "cannot write /nowhere/at/all.csv"),
        (["ingest", "dmo"], 2, "no recipe named 'dmo'; did you mean 'demo'?"),
        (["bogus"], 2, "bogus"),
        (["splits", "--bogus"], 2, "--bogus"),
        (["info", "nowhere.featgraph"], 3, "there is no graph at nowhere.featgraph"),
    ],
)
def test_an_error_is_told_with_its_exit_code(
    toy: Path, arguments: list[str], code: int, message: str
) -> None:
    done = call(*[toy if argument == "TOY" else argument for argument in arguments])
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_broken_graph_exits_3(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    (path / "graph.duckdb").write_text("no database")
    done = call("info", path)
    assert done.exit_code == 3
    assert "cannot read" in done.stderr


@pytest.mark.thorough
def test_streams_and_exit_codes_hold_in_a_process(toy: Path) -> None:
    good = process("splits", toy, "--format", "csv")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("id,key,n,members,weights\n9,0/res/1,2,")
    bad = process("query", toy, "selec 1")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith('featgraph: syntax error at or near "selec"\n')
    assert process("info", "nowhere").returncode == 3
    assert process("lineage").returncode == 2


@pytest.mark.thorough
@pytest.mark.parametrize("format", ["csv", "jsonl", "json", "table"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(toy: Path, format: str) -> None:
    statement = "select repeat('x', 500) as text from range(2000)"
    command = [*PROGRAM, "query", str(toy), statement, "--format", format]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


def wait_until_open(pid: int, name: str) -> None:
    """Wait until a process has a file open, and a little longer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        if any(link.name == name for link in links):
            break
        time.sleep(0.05)
    time.sleep(0.5)


@pytest.mark.thorough
def test_control_c_exits_130_without_a_traceback(toy: Path) -> None:
    forever = "select count(*) from range(10000000000) a, range(1000) b where a.range * b.range % 7 = 3"
    with subprocess.Popen([*PROGRAM, "query", str(toy), forever], stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        wait_until_open(running.pid, "graph.duckdb")
        running.send_signal(signal.SIGINT)
        told = running.stderr.read().decode()
    assert running.returncode == 130
    assert told == "featgraph: interrupted\n"


def test_a_statement_is_stopped_after_its_time(toy: Path) -> None:
    forever = "select count(*) from range(10000000000) a, range(1000) b where a.range * b.range % 7 = 3"
    done = call("query", toy, forever, "--timeout", "0.3")
    assert done.exit_code == 1
    assert "ran longer than 0.3 s and was stopped" in done.stderr


@pytest.mark.slow
def test_ingest_tells_on_stderr_and_prints_the_path(tmp_path: Path) -> None:
    from helpers.small_suite import build_small_suite

    recipe = build_small_suite(tmp_path)
    done = call("ingest", recipe, "-o", tmp_path / "small.featgraph", "--quiet")
    assert done.exit_code == 0
    assert "featgraph:" not in done.stderr
    assert done.stdout == f"{tmp_path / 'small.featgraph'}\n"
    assert call("info", tmp_path / "small.featgraph").exit_code == 0


# ---- what is loaded


@pytest.mark.thorough
def test_rows_in_json_need_no_rich(toy: Path) -> None:
    program = (
        "import sys\n"
        "from featgraph.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: print('rich' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "splits", str(toy), "--format", "json"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == "False\n"


@pytest.mark.thorough
def test_info_says_which_vectors_are_damaged(tmp_path: Path) -> None:
    graph = build_toy(tmp_path / "toy.featgraph")
    index = graph / "vectors" / "res.1.faiss"
    index.write_bytes(index.read_bytes()[:20])
    shown = CliRunner().invoke(app, ["info", str(graph)]).stdout
    assert "absent or damaged: 1.res" in shown


@pytest.mark.thorough
def test_a_full_disk_behind_stdout_is_one_line(toy: Path) -> None:
    program = "from featgraph.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", program, "splits", str(toy)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 1
    assert ran.stderr.strip() == "featgraph: cannot write the answer: no space left on device"


def test_a_range_of_layers_must_go_up(toy: Path, tmp_path: Path) -> None:
    command = ["export", str(toy), "1/res/0", "--layers", "2-1", "-o", str(tmp_path / "v.json")]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 2
    assert "'2-1' ends before it begins; write --layers 1-2" in ran.stderr
