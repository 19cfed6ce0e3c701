"""Named queries: the file format, the parameters, and what each shipped query answers on the toy."""

import re
from pathlib import Path

import pytest

from featgraph.core.shipped import shipped
from featgraph.errors import QueryError, UsageError
from featgraph.query import Result, all_named, listing, named, run_named
from featgraph.store import Store
from helpers.repository import ROOT

SHIPPED = [query.name for query in all_named()]


def write(folder: Path, text: str) -> str:
    path = folder / "mine.sql"
    path.write_text(text)
    return str(path)


def only(result: Result, *columns: str) -> list[tuple[object, ...]]:
    """The rows, cut down to some columns."""
    return [tuple(row[column] for column in columns) for row in result.dicts()]


def needed(name: str) -> dict[str, object]:
    """A value for each parameter without a default, and for those whose default finds nothing here."""
    fitting: dict[str, dict[str, object]] = {
        "best-path": {"from": "0/res/1", "to": "2/res/1"},
        "doubtful-links": {"pearson": 0.9},
    }
    required = {parameter.name: "1/res/0" for parameter in named(name).parameters if parameter.required}
    return {**required, **fitting.get(name, {})}


def test_the_shipped_queries_are_those_promised() -> None:
    wanted = {"lineage", "splits", "merges", "births", "deaths", "persistence", "origins", "hubs"}
    wanted |= {"dead-features", "stable-features", "layer-profile", "best-path", "writers", "doubtful-links"}
    assert wanted == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_query_says_its_purpose_in_one_sentence(name: str) -> None:
    assert re.fullmatch(r"[A-Z][^.]*\.", named(name).purpose)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_query_is_written_in_lower_case_and_short_lines(name: str) -> None:
    code = re.sub(r"--.*|'[^']*'", "", named(name).statement)
    assert code == code.lower()
    assert max(map(len, named(name).statement.splitlines())) <= 125


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_query_answers_the_same_rows_every_time(store: Store, name: str) -> None:
    first = run_named(store, name, needed(name))
    assert len(first) > 0
    assert run_named(store, name, needed(name)) == first


@pytest.mark.parametrize("name", SHIPPED)
def test_every_default_of_a_shipped_query_can_be_given_as_text(store: Store, name: str) -> None:
    query = named(name)
    given = {
        p.name: "null" if p.default is None else str(p.default) for p in query.parameters if not p.required
    }
    assert run_named(store, name, {**given, **needed(name)}) == run_named(store, name, needed(name))


def test_the_readme_lists_every_query_with_its_purpose() -> None:
    text = (shipped("queries") / "README.md").read_text()
    listed = re.findall(r"\| \[`(.*)`\]\((.*)\) \| (.*) \|", text)
    assert listed == [(query.name, query.path.name, query.purpose) for query in all_named()]


def test_the_example_of_the_readme_runs(store: Store, tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().split("### A named query")[1].split("### ")[0]
    example = "\n".join(re.findall(r"^    (.*)$", text, re.MULTILINE))
    assert len(run_named(store, write(tmp_path, example), {"layer": "1", "top": "3"})) == 3


def test_no_python_lies_among_the_queries() -> None:
    assert not list(shipped("queries").rglob("*.py"))


def test_the_listing_shows_name_purpose_and_parameters() -> None:
    assert listing([named("splits")]).rows == [("splits", named("splits").purpose, ["min", "layer"])]


def test_a_lineage_comes_with_its_words_first_layer_first(store: Store) -> None:
    result = run_named(store, "lineage", {"feature": "1/res/0"})
    assert only(result, "key", "distance", "label") == [
        ("0/mlp/1", 2, None),
        ("0/res/0", 1, "cat"),
        ("1/mlp/1", 1, None),
        ("1/res/0", 0, "cat, cats"),
        ("2/att/3", 2, None),
        ("2/res/0", 1, "cats promotes purr"),
        ("2/res/1", 1, None),
    ]


def test_a_lineage_can_do_without_writers(store: Store) -> None:
    result = run_named(store, "lineage", {"feature": "1/res/0", "writers": "no", "hops": "0"})
    assert only(result, "key") == [("1/res/0",)]


def test_splits_and_merges_name_their_members(store: Store) -> None:
    assert only(run_named(store, "splits"), "key", "members") == [("0/res/1", ["1/res/1", "1/res/2"])]
    assert only(run_named(store, "merges"), "key", "members") == [("2/res/1", ["1/res/1", "1/res/2"])]


def test_member_labels_stand_beside_their_members(store: Store) -> None:
    low = run_named(store, "splits", {"min": "0.05"})
    assert only(low, "key", "member_labels") == [("0/res/1", [None, None])]
    merged = run_named(store, "merges", {"min": "0.1", "layer": "1"})
    assert only(merged, "key", "members", "member_labels") == []


def test_a_threshold_holds_at_equality(store: Store) -> None:
    assert len(run_named(store, "splits", {"min": "0.8"})) == 1
    assert len(run_named(store, "splits", {"min": "0.81"})) == 0


def test_births_tell_their_origin_and_deaths_their_best_cosine(store: Store) -> None:
    assert only(run_named(store, "births"), "key", "origin", "label") == [
        ("1/res/3", "mlp", "sun"),
        ("2/res/2", "unexplained", None),
        ("2/res/3", "unexplained", None),
    ]
    best = {row["key"]: row["best"] for row in run_named(store, "deaths").dicts()}
    assert best == {"0/res/2": pytest.approx(0.4), "0/res/3": None, "1/res/3": pytest.approx(0.3)}


def test_persistence_is_a_curve_over_the_threshold(store: Store) -> None:
    curve = run_named(store, "persistence", {"low": "0.3", "high": "0.9", "step": "0.2"})
    counts = ("layer", "n_persists", "n_births", "n_deaths", "n_splits", "n_merges")
    assert [round(float(str(row["tau"])), 3) for row in curve.dicts()[:4]] == [0.3, 0.5, 0.7, 0.9]
    assert only(curve, *counts) == [
        (0, 0, 0, 1, 1, 0),
        (0, 0, 0, 2, 1, 0),
        (0, 0, 0, 2, 1, 0),
        (0, 0, 0, 3, 0, 0),
        (1, 3, 0, 0, 0, 0),
        (1, 2, 1, 1, 0, 0),
        (1, 2, 1, 1, 0, 0),
        (1, 1, 3, 3, 0, 0),
        (2, 3, 1, 0, 0, 1),
        (2, 2, 2, 0, 0, 1),
        (2, 2, 2, 0, 0, 1),
        (2, 1, 3, 0, 0, 0),
    ]


def test_the_curve_and_the_profile_count_the_same(store: Store) -> None:
    counts = ("layer", "n", "n_persists", "n_births", "n_deaths", "n_splits", "n_merges")
    for tau in ("0.3", "0.5", "0.7", "0.8"):
        curve = run_named(store, "persistence", {"low": tau, "high": tau})
        assert only(curve, *counts) == only(run_named(store, "layer-profile", {"min": tau}), *counts)


def test_origins_sort_every_feature_above_the_first_layer_into_one_class(store: Store) -> None:
    result = run_named(store, "origins")
    assert only(result, "layer", "class", "n", "n_dead") == [
        (1, "A", 3, 0),
        (1, "B", 0, 0),
        (1, "C", 1, 0),
        (1, "D", 0, 0),
        (2, "A", 2, 0),
        (2, "B", 0, 0),
        (2, "C", 0, 0),
        (2, "D", 2, 1),
    ]


def test_origins_take_a_threshold_of_their_own_for_modules(store: Store) -> None:
    result = run_named(store, "origins", {"module_min": "0.25"})
    assert [n for (n,) in only(result, "n")] == [1, 2, 1, 0, 1, 1, 0, 2]


def test_hubs_come_with_the_most_linked_first(store: Store) -> None:
    result = run_named(store, "hubs", {"top": "2"})
    assert only(result, "key", "n", "n_children", "n_parents") == [("1/res/0", 3, 2, 1), ("2/res/1", 3, 0, 3)]


def test_dead_features_can_be_asked_by_layer_and_site(store: Store) -> None:
    assert only(run_named(store, "dead-features"), "key") == [("0/res/3",), ("2/res/2",)]
    assert only(run_named(store, "dead-features", {"layer": "2"}), "key") == [("2/res/2",)]
    assert only(run_named(store, "dead-features", {"site": "mlp"}), "key") == []


def test_stable_features_are_the_longest_chains(store: Store) -> None:
    result = run_named(store, "stable-features")
    assert only(result, "key", "last", "n") == [("0/res/0", "2/res/0", 2), ("0/res/1", "2/res/1", 2)]
    assert only(run_named(store, "stable-features", {"min": "0.9"}), "key") == [("0/res/0",)]


def test_best_paths_come_strongest_first_with_their_weakest_link(store: Store) -> None:
    result = run_named(store, "best-path", {"from": "0/res/0", "to": "2/res/1", "top": 1})
    assert only(result, "keys") == [(["0/res/0", "1/res/0", "2/res/1"],)]
    assert only(result, "weight", "bottleneck") == [pytest.approx((0.6, 0.6))]


def test_writers_are_the_mlp_and_att_features_of_the_layer(store: Store) -> None:
    assert only(run_named(store, "writers", {"feature": "1/res/0"}), "key") == [("1/mlp/1",)]
    found = only(run_named(store, "writers", {"feature": "1/res/0", "min": "0.1"}), "key")
    assert found == [("1/mlp/1",), ("1/mlp/2",)]


def test_doubtful_links_have_a_high_cosine_and_a_low_correlation(store: Store) -> None:
    assert only(run_named(store, "doubtful-links"), "src") == []
    found = only(run_named(store, "doubtful-links", {"pearson": "0.6", "min": "0.9"}), "src", "dst")
    assert found == [("0/res/0", "1/res/0"), ("1/res/0", "2/res/0")]


def test_a_query_of_ones_own_runs_by_its_path(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, "-- One key.\n-- :feature key  which\nselect $feature as key")
    assert run_named(store, path, {"feature": " 1/res/0 "}).rows == [("1/res/0",)]


def test_dollars_in_text_and_comments_are_no_parameters(tmp_path: Path) -> None:
    text = "-- One.\n-- costs $much\nselect '$text', \"$name\" /* $remark */, $$ $quoted $$ from label"
    assert named(write(tmp_path, text)).parameters == ()


def test_a_fault_in_a_query_file_is_shown_at_its_line_there(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, "-- One.\n\nselect nothing\nfrom feature")
    with pytest.raises(QueryError, match="LINE 3, COLUMN 8: select nothing"):
        run_named(store, path)


def test_null_is_no_value_and_quoted_it_is_a_word(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, "-- One.\n-- :x text = 'a b'  what\nselect $x::varchar as x")
    answers = [
        run_named(store, path, given).rows for given in ({}, {"x": "null"}, {"x": "'null'"}, {"x": "it"})
    ]
    assert answers == [[("a b",)], [(None,)], [("null",)], [("it",)]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select 1", ":1: the first line must be a comment that says what the query returns"),
        ("-- :x int  what\nselect $x", ":1: the first line must be a comment"),
        (
            "-- One.\nselect\n$x",
            ":3: parameter $x is not declared; add a line `-- :x type = default  description`",
        ),
        (
            "-- One.\n-- :min int  a\nselect $mn, $min",
            ":3: parameter $mn is not declared; did you mean 'min'?",
        ),
        ("-- One.\n-- :x int  what\nselect 1", ":2: parameter 'x' is declared but not used"),
        ("-- One.\n-- :x int  a\n-- :x int  b\nselect $x", ":3: parameter 'x' is declared twice"),
        (
            "-- One.\n-- :x flaot = 1  a\nselect $x",
            ":2: unknown type 'flaot' of parameter 'x'; did you mean 'float'?",
        ),
        ("-- One.\n-- :x colour = 1  a\nselect $x", "; types are float, int, text, bool, key"),
        ("-- One.\n-- :x int = 1\nselect $x", ":2: cannot read the declaration '-- :x int = 1'"),
        ("-- One.\n-- :x int = one  a\nselect $x", ":2: parameter $x wants a whole number, not 'one'"),
    ],
)
def test_a_malformed_query_file_is_refused_with_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(QueryError) as caught:
        named(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_an_unknown_query_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="no query named 'spits'; did you mean 'splits'") as caught:
        named("spits")
    assert f"lists all {len(SHIPPED)}" in str(caught.value)


def test_an_absent_query_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"cannot read query nowhere\.sql: no such file"):
        named("nowhere.sql")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("splits", {"mn": 1}, "query 'splits' has no parameter 'mn'; did you mean 'min'?"),
        ("splits", {"colour": 1}, "query 'splits' has no parameter 'colour'; it takes min, layer"),
        ("lineage", {}, "query 'lineage' needs 'feature' (the feature to start from, such as 3/res/346)"),
        (
            "lineage",
            {"feature": "1/res/0", "writers": "maybe"},
            "parameter $writers wants true or false, not 'maybe'",
        ),
        ("splits", {"min": "high"}, "parameter $min wants a number, not 'high'"),
        ("splits", {"layer": "1.5"}, "parameter $layer wants a whole number, not '1.5'"),
        ("lineage", {"feature": "9/res/0"}, "no feature '9/res/0'"),
        ("lineage", {"feature": "fish"}, "'fish' is not a feature key"),
    ],
)
def test_a_wrong_parameter_is_refused(
    store: Store, name: str, values: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run_named(store, name, values)
    assert message in str(caught.value)
