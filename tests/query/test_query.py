"""Running statements: what is bound, what is refused, and how faults are shown."""

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph.core.keys import FeatureKey
from featgraph.errors import QueryError, StoreError, UsageError
from featgraph.query import literal, run
from featgraph.store import Store, open_store
from helpers.toy import build_toy

FOREVER = "select count(*) from range(10000000000) a, range(1000) b where a.range * b.range % 7 = 3"


def refusal(store: Store, statement: str, **parameters: object) -> str:
    with pytest.raises((QueryError, UsageError)) as caught:
        run(store, statement, parameters)
    return str(caught.value)


def test_a_result_has_columns_types_and_rows(store: Store) -> None:
    result = run(store, "select key, layer from feature where idx = 0 and site = 'res' order by id")
    assert result.columns == ["key", "layer"]
    assert result.types == ["VARCHAR", "INTEGER"]
    assert list(result) == [("0/res/0", 0), ("1/res/0", 1), ("2/res/0", 2)]
    assert result.dicts()[1] == {"key": "1/res/0", "layer": 1}


def test_columns_of_the_same_name_stay_apart(store: Store) -> None:
    assert run(store, "select 1 as id, 2 as id, 3 as id").dicts() == [{"id": 1, "id_1": 2, "id_2": 3}]


def test_the_python_door_runs_statements_too(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        assert graph.sql("select count(*) from feature where site = $site", {"site": "res"}).rows == [(12,)]


@pytest.mark.parametrize(
    "statement",
    [
        "from label",
        "with one as (select 1 as a) from one",
        "values (1), (2)",
        "describe feature",
        "summarize label",
        "show tables",
        "explain select 1",
        "/* why */ explain analyze -- slow\n select 1",
        "from (pivot label on source in ('tokens') using count(*))",
        "select 1;",
        "-- a remark\nselect 1",
    ],
)
def test_what_only_reads_is_run(store: Store, statement: str) -> None:
    assert run(store, statement).columns


@pytest.mark.parametrize(
    "statement",
    [
        "copy label to '{out}'",
        "with x as (copy label to '{out}') select 1",
        "explain analyze copy label to '{out}'",
        "from query('copy label to ''{out}''')",
        "export database '{out}'",
        "from read_csv('{file}')",
        "from read_text('{file}')",
        "from read_blob('{file}')",
        "from read_json('{file}')",
        "from read_parquet('{file}')",
        "from sniff_csv('{file}')",
        "from glob('{file}')",
        "from '{file}'",
        "from read_duckdb('{file}', table_name = 'x')",
        "attach '{file}' as other",
        "detach graph",
        "use memory",
        "install httpfs",
        "load httpfs",
        "set threads = 1",
        "set variable x = 1",
        "reset threads",
        "pragma version",
        "pragma database_list",
        "call pragma_version()",
        "call enable_logging(storage = 'file')",
        "checkpoint",
        "vacuum",
        "begin transaction",
        "prepare p as select 1",
        "create table x as select 1",
        "create temp table x as select 1",
        "create macro x() as 1",
        "create secret (type s3)",
        "explain analyze create temp table x as select 1",
        "explain analyze set threads = 1",
        "insert into label values (1, 'me', 'x')",
        "update label set text = 'x'",
        "delete from label",
        "with gone as (delete from label returning *) select * from gone",
        "drop table label",
        "alter table label add column x integer",
        "truncate label",
        "connect '{file}'",
        "pivot label on source using count(*)",
        "select 1; select 2",
        "select 1; drop table label",
        "select getenv('HOME')",
        "",
        "  -- nothing\n",
    ],
)
def test_what_does_more_than_read_is_refused(store: Store, tmp_path: Path, statement: str) -> None:
    file, out = tmp_path / "secret.csv", tmp_path / "out.csv"
    file.write_text("a,b\n1,2\n")
    refusal(store, statement.format(file=file, out=out))
    assert not out.exists()
    assert run(store, "select count(*) from label").rows == [(5,)]


def test_variables_of_the_python_program_are_no_tables(store: Store) -> None:
    secrets = [(1,), (2,)]
    assert secrets
    assert "no table 'secrets'" in refusal(store, "from secrets")


def test_no_setting_can_be_changed_from_outside_the_gate_either(store: Store) -> None:
    with pytest.raises(duckdb.Error, match="locked"):
        store.connection.execute("set enable_external_access = true")


def test_sorts_that_do_not_fit_spill_outside_the_graph(store: Store) -> None:
    rows = run(store, "select value from duckdb_settings() where name = 'temp_directory'").rows
    assert not Path(str(rows[0][0])).is_relative_to(store.path)


def test_a_refusal_names_the_statement_and_points_at_it(store: Store) -> None:
    assert refusal(store, "\n drop table label").splitlines() == [
        "a DROP statement is refused; a query only reads: "
        "write one SELECT (or MATCH, FROM, WITH, VALUES, DESCRIBE, EXPLAIN)",
        "  LINE 2, COLUMN 2:  drop table label",
        "                     ^^^^",
    ]


def test_a_second_statement_is_pointed_at(store: Store) -> None:
    message, line, caret = refusal(store, "select 1; select 2").splitlines()
    assert message == "2 statements where one is expected; run them one by one"
    assert line[caret.index("^") :] == "select 2"


def test_a_misspelt_column_is_pointed_at_with_candidates(store: Store) -> None:
    message, line, caret = refusal(store, "select key,\n  densty from feature").splitlines()
    assert message == "no column 'densty' here; did you mean 'density'?"
    assert line == "  LINE 2, COLUMN 3:   densty from feature"
    assert line[caret.index("^") :].startswith("densty")


def test_the_caret_counts_characters_not_bytes(store: Store) -> None:
    _, line, caret = refusal(store, "select 'é→', foo from label").splitlines()
    assert line[caret.index("^") :].startswith("foo")


def test_a_misspelt_verb_gets_the_nearest_one(store: Store) -> None:
    assert "no verb 'linage'; did you mean 'lineage'?" in refusal(store, "from linage('1/res/0')")


def test_an_unknown_argument_of_a_verb_gets_the_nearest_one(store: Store) -> None:
    assert "splits takes no 'mn'; did you mean 'min'?" in refusal(store, "from splits(mn := 0.5)")


def test_a_fault_inside_a_verb_is_not_pointed_at_in_the_users_text(store: Store) -> None:
    assert "^" not in refusal(store, "from ancestors((select id from feature limit 1))")


def test_a_float_parameter_holds_at_equality_as_the_literal_does(store: Store) -> None:
    query = "select count(*) from edge where cosine = {} and kind = 'mlp_res'"
    assert run(store, query.format("0.7")).rows == [(1,)]
    assert run(store, query.format("$tau"), {"tau": 0.7}).rows == [(1,)]


@pytest.mark.parametrize("value", [0.0, -0.25, 1e-300, 1e300, float("inf"), 3, True, None, "x", [1, 2]])
def test_a_parameter_comes_back_as_it_was_given(store: Store, value: object) -> None:
    assert run(store, "select $value as value", {"value": value}).rows[0][0] == pytest.approx(value)


def test_a_feature_key_is_bound_as_its_text(store: Store) -> None:
    assert run(store, "select $key", {"key": FeatureKey(1, "res", 0)}).rows == [("1/res/0",)]


def test_a_value_is_never_read_as_sql(store: Store) -> None:
    value = "'; drop table label; --"
    assert run(store, "select $value", {"value": value}).rows == [(value,)]


def test_an_unknown_parameter_gets_the_nearest_one(store: Store) -> None:
    assert refusal(store, "select $min", mn=1) == "the statement has no parameter $mn; did you mean 'min'?"
    assert refusal(store, "select 1", mn=1) == "the statement has no parameter $mn; it has none"


def test_a_missing_parameter_is_named_with_the_way_to_give_it(store: Store) -> None:
    message, line, caret = refusal(store, "select $min, $max", max=1).splitlines()
    assert message == "no value for $min; give one with -p min=VALUE"
    assert line[caret.index("^") : caret.rindex("^") + 1] == "$min"


@pytest.mark.parametrize("statement", ["select ?", "select $1"])
def test_a_parameter_without_a_name_is_refused(store: Store, statement: str) -> None:
    assert refusal(store, statement).startswith("a parameter needs a name; write $name, not ? or $1\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("TRUE", True),
        ("null", None),
        ("'12'", "12"),
        ("a=b", "a=b"),
    ],
)
def test_text_from_a_shell_becomes_the_value_it_looks_like(text: str, value: object) -> None:
    assert literal(text) == value
    assert type(literal(text)) is type(value)


def test_a_statement_that_takes_too_long_is_stopped_and_the_graph_stays_usable(store: Store) -> None:
    with pytest.raises(QueryError, match=r"longer than 0\.2 s and was stopped; narrow it"):
        run(store, FOREVER, timeout=0.2)
    assert run(store, "select 1").rows == [(1,)]


def test_control_c_stops_a_statement_and_the_graph_stays_usable(store: Store) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(store, FOREVER)
    timer.join()
    assert run(store, "select 1").rows == [(1,)]


def test_a_damaged_database_is_a_fault_of_the_graph_not_of_the_query(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    content = bytearray((path / "graph.duckdb").read_bytes())
    content[20_000:] = bytes(len(content) - 20_000)
    (path / "graph.duckdb").write_bytes(content)
    with open_store(path) as damaged, pytest.raises(StoreError):
        run(damaged, "select sum(cosine) from edge")
