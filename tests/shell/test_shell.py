"""The shell: what is read as one input, what is answered through a pipe, what dot commands do."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from featgraph.cli import app, shell
from featgraph.shell import Session
from featgraph.shell.commands import COMMANDS, run_all
from featgraph.shell.reading import inputs, is_complete
from helpers.toy import build_toy
from query.test_query import FOREVER

PROGRAM = "from featgraph.cli import main; main()"
COUNT = "select count(*) as n from feature"


def piped(graph: Path, text: str, *options: str) -> Result:
    return CliRunner().invoke(app, [shell.shell.__name__, str(graph), "--format", "csv", *options], text)


# ---- what is one input


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("select 1;", ["select 1"]),
        ("select 1", ["select 1"]),
        ("select\n1\n;\n", ["select\n1\n"]),
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("select ';';", ["select ';'"]),
        ("select ';\n;' as a;", ["select ';\n;' as a"]),
        ('select 1 as ";";', ['select 1 as ";"']),
        ("select 1 -- one; two\n;", ["select 1 -- one; two"]),
        ("select /* ;\n */ 1;", ["select /* ;\n */ 1"]),
        ("select $$a;\nb$$;", ["select $$a;\nb$$"]),
        ("select $x$a;\nb$x$;", ["select $x$a;\nb$x$"]),
        (";;\n;", []),
        ("-- only a remark\n", []),
        (".limit 5\nselect 1;\n.quit", [".limit 5", "select 1", ".quit"]),
        ("-- why\n.limit 5\n", [".limit 5"]),
        ("select\n.5;\n", ["select\n.5"]),
        ("exit", [".exit"]),
        ("Quit;\n", [".quit"]),
        ("\\d feature", ["\\d feature"]),
        ("select 'it", ["select 'it"]),
    ],
)
def test_lines_are_read_as_statements_and_commands(text: str, found: list[str]) -> None:
    assert [given.text.strip() for given in inputs(StringIO(text))] == [text.strip() for text in found]


def test_an_input_knows_where_its_source_has_it() -> None:
    first, second, third = inputs(StringIO("\n-- one\nselect 1; select 2;\n.help\n"))
    assert [first.line, second.line, third.line] == [3, 3, 4]
    assert second.text == "\n\n          select 2"


def test_a_statement_is_given_before_its_source_ends() -> None:
    def endless() -> Iterator[str]:
        yield "select 1;\n"
        raise AssertionError("one line too many was read")

    assert next(inputs(endless())).text == "select 1"


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select 1", False),
        ("select 1;\nselect", False),
        ("select ';", False),
        ("-- a remark", False),
        ("/* a remark", False),
        (".help", True),
        ("exit", True),
        (".format csv\nselect 1", False),
    ],
)
def test_enter_runs_what_is_complete(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


# ---- statements from a pipe


def test_statements_from_a_pipe_are_answered_one_by_one(toy: Path) -> None:
    done = piped(toy, f"{COUNT};\nselect key\nfrom feature\nlimit 1;\n")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "n\n36\nkey\n0/att/0\n", "")


def test_a_fault_is_told_with_its_line_and_the_rest_runs(toy: Path) -> None:
    done = piped(toy, "select 1 as a;\n\nselect\n  densty from feature;\nselect 2 as b;\n")
    assert (done.exit_code, done.stdout) == (1, "a\n1\nb\n2\n")
    message, line, caret = done.stderr.splitlines()
    assert message == "featgraph: stdin:3: no column 'densty' here; did you mean 'density'?"
    assert line.startswith("  LINE 4")
    assert line[caret.index("^") :].startswith("densty")


def test_a_graph_that_is_not_there_ends_it_with_3(tmp_path: Path) -> None:
    assert piped(tmp_path / "nowhere", "select 1;").exit_code == 3


def test_nothing_runs_after_quit(toy: Path) -> None:
    done = piped(toy, ".quit\nselect 1;")
    assert (done.exit_code, done.stdout) == (0, "")


@pytest.mark.thorough
def test_streams_and_the_exit_code_hold_in_a_process(toy: Path) -> None:
    program = f"import atexit\n{PROGRAM.replace('main()', '')}\natexit.register(lambda: print(*sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nmain()", "shell", str(toy), "--format", "jsonl"],
        input=f"{COUNT};\nselec 1;\n",
        capture_output=True,
        text=True,
        check=False,
    )
    answer, modules = ran.stdout.splitlines()
    assert ran.returncode == 1
    assert json.loads(answer) == {"n": 36}
    assert ran.stderr.startswith('featgraph: stdin:2: syntax error at or near "selec"')
    assert "featgraph.shell.session" in modules.split()
    assert "prompt_toolkit" not in modules.split()


def test_the_prompt_is_loaded_by_nothing_else(toy: Path) -> None:
    program = "import sys, featgraph\nfrom featgraph.cli import app, shell\n"
    checked = program + "print([name for name in sys.modules if 'prompt' in name or 'shell.' in name])"
    ran = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape"])
def test_a_statement_that_is_no_text_is_refused(toy: Path, encoding: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "shell", str(toy), "--format", "csv"],
        input=b"select '\xff';select 1 as a;",
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, b"a\n1\n")
    assert ran.stderr.startswith(b"featgraph: stdin:1: this is not text in UTF-8\n")


# ---- dot commands


@pytest.mark.parametrize(
    ("text", "out", "talk"),
    [
        (".schema", "feature,36,", ""),
        (".schema edge", "necessity,FLOAT,P(u active | d active); 0 to 1; arXiv 2410.08869", ""),
        (".schema edge", "stream; d / u; arXiv 2406.11944 s4", ""),
        (".schema Edge", "src,INTEGER,upstream feature id", ""),
        (".schema fature", "", "no table 'fature'; did you mean 'feature'? `.schema` lists all"),
        (".queries", "splits,", ""),
        (".queries splits", "-- :min float", ""),
        (".run splits min=0.7", "0/res/1,2,", ""),
        (".run lineage feature='1/res/0' writers=false", "32,2/res/0", ""),
        (".run spits", "", "did you mean 'splits'? `.queries` lists all"),
        (".run splits 0.7", "", "'0.7' is not a parameter; write .run splits name=value"),
        (".run lineage", "", "give feature=VALUE"),
        (".run", "", "nothing to run; write .run NAME"),
        (".run splits 'min", "", "cannot be read: no closing quotation"),
        (".explain select 1 as a;", "select 1 as a", ""),
        (".explain match (a:res) return a.key", "select", ""),
        ("match (a)-[e:att_res]->(b) return a.key, b.key", "2/att/3,2/res/0", ""),
        ("match (a:ers) return a.key", "", "did you mean 'res'?"),
        (".format dot\nfrom subgraph('1/res/0')", '"1/res/0" -> "2/res/0"', ""),
        (".explain", "", "nothing to explain; write .explain STATEMENT"),
        (".format json\nselect 1 as a", '{"a": 1}', ""),
        (".format jsn", "", "no format 'jsn'; did you mean 'json'?"),
        (".format table\n.format", "", "rows are written as table"),
        (".limit 0\nfrom label", "\n23,tokens,sun", ""),
        (".limit 1\nfrom feature", "", "1 of 36 rows shown; .limit 0 shows all"),
        (".limit\t7 ;\n.limit", "", "at most 7 rows are shown"),
        (".limit 0\n.limit", "", "all rows are shown"),
        (".limit", "", "as many rows as the screen holds are shown"),
        (".limit few", "", "'few' is not a number of rows; write .limit 100, or .limit 0 for all"),
        (f".timeout 0.2\n{FOREVER}", "", "was stopped; narrow it"),
        (f".timeout 0.2\n{FOREVER}", "", "or allow more with .timeout"),
        (".timeout", "", "a statement is stopped after 60 s"),
        (".timeout 0\n.timeout", "", "a statement may run for ever"),
        (".timeout soon", "", "'soon' is not a number of seconds"),
        (".timeout -1", "", "'-1' is not a number of seconds"),
        (".timeout nan", "", "'nan' is not a number of seconds"),
        (
            ".max-rows 5\nfrom feature",
            "",
            "more than 5 rows; narrow it, add a LIMIT, or allow more with .max-rows",
        ),
        (".max-rows 5\nmatch (a)->(b) return a.id", "", "or allow more with .max-rows"),
        (".max-rows", "", "an answer may have at most 1,000,000 rows"),
        (".max-rows 0\n.max-rows", "", "an answer may have any number of rows"),
        (".max-rows few", "", "'few' is not a number of rows; write .max-rows 100, or .max-rows 0 for all"),
        (".set a=0.5\n.set", "a,0.5", ""),
        (".set a=0.5\n.set b=2\nselect $a as a", "a\n0.5", ""),
        (".set a", "", "'a' sets nothing; write .set name=value"),
        ("select 1,\n$a", "", "no value for $a; give one with .set a=VALUE\n  LINE 2"),
        (".read nowhere.sql", "", "cannot read 'nowhere.sql': no such file or directory"),
        (".read", "", "nothing to read; write .read FILE"),
        (".open nowhere\nselect 1 as a", "a\n1", "there is no graph at nowhere"),
        (".fromat", "", "no command '.fromat'; did you mean '.format'? `.help` lists all"),
        ("\\d", "", r"no command '\\d'; `.help` lists all"),
    ],
)
def test_a_dot_command_does_what_it_says(
    session: Session, capsys: pytest.CaptureFixture[str], text: str, out: str, talk: str
) -> None:
    run_all(session, StringIO(text))
    told = capsys.readouterr()
    assert out in told.out
    assert talk in told.err
    assert (told.out == "") == (out == "" and "rows shown" not in talk)
    assert (told.err == "") == (talk == "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_command(session: Session, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run_all(session, [".help"])
    assert name in capsys.readouterr().out


def test_an_answer_goes_to_a_file_once(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session.format = None
    run_all(session, StringIO(f".output '{tmp_path}/a.json'\n{COUNT};\n.format csv\n{COUNT};"))
    told = capsys.readouterr()
    assert json.loads((tmp_path / "a.json").read_text()) == [{"n": 36}]
    assert told.err.endswith(f"featgraph: wrote 1 row to {tmp_path}/a.json\n")
    assert told.out == "n\n36\n"


def test_a_file_whose_ending_says_no_format_is_refused_at_once(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Session(toy) as session:
        run_all(session, [".output answer.cvs"])
        assert session.out is None
    assert "no format has the ending '.cvs'; did you mean '.csv'?" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_not_tried_again(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_all(session, StringIO(f".output /nowhere/at/all.csv\n{COUNT};\n{COUNT};")) == (3, 1)
    assert capsys.readouterr().out == "n\n36\n"


def test_a_file_of_statements_runs_and_counts_its_faults(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.sql"
    path.write_text(f"{COUNT};\n\nselec 2;\n")
    assert run_all(session, [f".read {path}"]) == (1, 1)
    told = capsys.readouterr()
    assert told.out == "n\n36\n"
    assert f"featgraph: {path}:3: syntax error" in told.err
    assert told.err.endswith(f"featgraph: 1 of 2 statements in {path} failed\n")


def test_a_file_that_reads_itself_is_refused(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "self.sql"
    path.write_text(f".read {path}")
    run_all(session, [f".read {path}"])
    assert f"{path}:1: {path} reads itself" in capsys.readouterr().err


@pytest.mark.thorough
def test_open_reads_the_newest_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with Session(path, format="csv") as session:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, "built": "again"}))
        run_all(session, StringIO(f".open\n{COUNT};"))
        assert session.store.manifest["built"] == "again"
    assert capsys.readouterr().out == "n\n36\n"


@pytest.mark.thorough
def test_a_graph_that_was_replaced_is_told_of_with_what_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with Session(path) as session:
        (path / "manifest.json").write_text((path / "manifest.json").read_text().replace("toy", "new"))
        session.store.close()
        run_all(session, [f"{COUNT};"])
    assert "while it was open; open it again with `.open`" in capsys.readouterr().err
