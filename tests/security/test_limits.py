"""What asks a graph ends: by its time, by its memory, by Ctrl-C, and with a message, not a traceback."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph import Graph, QueryError, StoreError
from featgraph.core.limits import default_memory, in_limits
from featgraph.store.layout import DATABASE
from helpers.repository import ROOT
from helpers.toy import build_toy

SMALL = 200 * 10**6


def refusal(graph: Path, ask: Callable[[Graph], object], *, timeout: float = 30, memory: int = SMALL) -> str:
    with (
        featgraph.open(graph, timeout=timeout, memory=memory) as opened,
        pytest.raises(QueryError) as refused,
    ):
        ask(opened)
    return str(refused.value)


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    """A graph with an edge from a feature to itself."""
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / DATABASE)) as connection:
        connection.execute("insert into edge by name select * replace (src as dst) from edge where src = 8")
        connection.execute("update edge set kind = 'res_res', cosine = 1 where src = dst")
    return path


@pytest.mark.thorough
@pytest.mark.parametrize(
    "ask",
    [
        lambda graph: graph.lineage("0/res/0"),
        lambda graph: graph.ancestors("0/res/0"),
        lambda graph: graph.sql("from descendants('0/res/0')", timeout=0.5),
    ],
)
def test_a_lineage_that_goes_round_in_a_circle_ends_by_its_time(
    looped: Path, ask: Callable[[Graph], object]
) -> None:
    assert "was stopped" in refusal(looped, ask, timeout=0.5)


def test_edges_in_memory_that_go_round_are_refused(looped: Path) -> None:
    with featgraph.open(looped) as graph, pytest.raises(StoreError, match="do not go downstream"):
        graph.adjacency  # noqa: B018


@pytest.mark.thorough
def test_a_graph_with_a_view_is_not_read(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / DATABASE)) as connection:
        connection.execute("alter table edge rename to stored")
        connection.execute("create view edge as select s.* from stored s, range(1000000000000)")
    with featgraph.open(path) as graph, pytest.raises(StoreError, match=r"has a view 'edge'"):
        graph.lineage("0/res/0")


@pytest.mark.parametrize(
    "statement",
    [
        "select list(i) from range(1000000000000) t(i)",
        "select string_agg(repeat('x', 1000000), '') from range(4000)",
        "select repeat('x', 1000000) from range(100000)",
        "select i, i::text as t, [i, i] as l from range(3000000) t(i)",
    ],
)
def test_an_answer_is_bounded_in_bytes(toy: Path, statement: str) -> None:
    said = refusal(toy, lambda graph: graph.sql(statement, max_rows=None))
    assert said == (
        "this takes more than 0.2 GB of memory; narrow it (one layer, fewer columns, a limit) or allow more "
        "with --memory"
    )


def test_the_default_is_a_share_of_the_machine() -> None:
    assert 0 < default_memory() <= 4 * 2**30


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("from search('!!')", "has no letter or digit"),
        (
            "from similar('1/res/0', k => 1000000000)",
            "k = 1000000000 is too large; give a whole number up to",
        ),
        ("from paths('0/res/0', '2/res/0', k => 12345678901234567890)", "is too large"),
        ("from lineage('0/res/0', hops => 3000000000)", "hops = 3000000000 is too large"),
    ],
)
def test_a_mistake_of_the_user_is_named_as_one(toy: Path, statement: str, message: str) -> None:
    assert message in refusal(toy, lambda graph: graph.sql(statement))


def test_a_mistake_that_reaches_the_store_is_a_query_error(toy: Path) -> None:
    with featgraph.open(toy) as graph, pytest.raises(QueryError, match="search needs a word"):
        graph.store.rows("from search($words)", {"words": "!!"})


def test_what_does_not_heed_an_interrupt_is_left_behind() -> None:
    class Deaf:
        def interrupt(self) -> None:
            """Go on."""

    release = threading.Event()
    with pytest.raises(TimeoutError):
        in_limits(Deaf(), release.wait, 0.01)
    release.set()


def command(*arguments: object, **more: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "featgraph", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, **more)  # type: ignore[call-overload, no-any-return]


@pytest.mark.thorough
def test_a_command_ends_itself_where_duckdb_heeds_no_interrupt(toy: Path) -> None:
    unions = " union ".join(["select 1"] * 20_000)
    ended = command("query", toy, "-f", "-", "--timeout", "1", input=unions)
    assert ended.returncode == 1
    assert ended.stderr.startswith("featgraph: the statement ran longer than 1 s and was stopped")
    assert "Traceback" not in ended.stderr


@pytest.mark.thorough
def test_ctrl_c_ends_a_question_to_the_store(looped: Path) -> None:
    line = [sys.executable, "-m", "featgraph", "lineage", str(looped), "0/res/0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as asked:
        stopped = False
        while asked.poll() is None:
            try:
                asked.wait(1)
            except subprocess.TimeoutExpired:
                is_up = cpu(asked.pid) > 3
                if is_up and not stopped:
                    asked.send_signal(signal.SIGINT)
                    stopped = True
        assert asked.returncode in (130, 1)  # 1: it ended by its own limit first
        assert asked.stderr is not None
        assert b"Traceback" not in asked.stderr.read()


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.thorough
def test_a_statement_is_read_from_files_only(tmp_path: Path, toy: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text(".read /dev/zero\nselect 1 as one;\n")
    with script.open() as stdin:
        ended = command("shell", toy, "--format", "csv", stdin=stdin)
    assert ended.stderr == "featgraph: stdin:1: cannot read '/dev/zero': it is not a regular file\n"
    assert ended.stdout == "one\n1\n"


def test_edges_to_features_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / DATABASE)) as connection:
        connection.execute("delete from feature where key = '1/res/0'")
    with featgraph.open(path) as graph, pytest.raises(StoreError, match="features that are not there"):
        graph.lineage("0/res/0")
