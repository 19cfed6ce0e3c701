"""The verbs: on the toy against answers by hand, and what a call may not be."""

import math
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph.core.keys import FeatureKey
from featgraph.errors import UsageError
from featgraph.query import VERBS, run, run_named, run_verb
from featgraph.query.verbs import check
from featgraph.store import Store, open_store

Rows = list[tuple[object, ...]]


def answer(store: Store, verb: str, **arguments: object) -> Rows:
    """The rows of a verb, floats rounded."""
    rows = run_verb(store, verb, arguments).rows
    return [tuple(round(value, 4) if isinstance(value, float) else value for value in row) for row in rows]


def columns(store: Store, verb: str, **arguments: object) -> list[str]:
    return run_verb(store, verb, arguments).columns


# ---- the toy, by hand


def test_the_columns_are_those_of_the_contract(store: Store) -> None:
    reached = ["id", "key", "layer", "site", "idx", "distance", "weight"]
    for verb in ("lineage", "ancestors", "descendants"):
        assert columns(store, verb, f="1/res/0") == reached
    for verb in ("splits", "merges"):
        assert columns(store, verb) == ["id", "key", "n", "members", "weights"]
    assert columns(store, "births") == ["id", "key", "layer", "origin"]
    assert columns(store, "deaths") == ["id", "key", "layer"]
    assert columns(store, "subgraph", f="1/res/0") == ["src", "dst", "kind", "cosine", "value"]


def test_the_columns_of_the_other_verbs_are_those_of_the_language(store: Store) -> None:
    assert columns(store, "paths", a="0/res/1", b="2/res/1") == [
        *["rank", "length", "score", "weight", "bottleneck", "nodes", "keys"],
    ]
    assert columns(store, "neighbors", f="1/res/0") == [
        *["id", "key", "layer", "site", "idx", "direction", "kind", "cosine", "rank_out", "rank_in"],
        *["jaccard", "pearson", "virtual_weight", "necessity", "sufficiency", "attribution", "twera"],
        *["effect", "silenced", "ablation_change"],
    ]
    assert columns(store, "chains") == ["id", "key", "last", "n", "members", "weakest", "weight"]
    assert columns(store, "flow") == [
        *["layer_a", "layer_b", "n_a", "n_b", "n_edges", "n_persists", "n_splits", "n_merges"],
        *["n_births", "n_deaths", "cosine", "n_crowded", "value"],
    ]
    assert columns(store, "components") == ["id", "key", "layer", "component", "n"]
    assert columns(store, "similar", f="1/res/0") == ["id", "key", "layer", "site", "cosine", "label"]


def test_descendants_are_what_a_feature_becomes(store: Store) -> None:
    assert answer(store, "descendants", f="0/res/1") == [
        (21, "1/res/1", 1, "res", 1, 1, 0.8),
        (22, "1/res/2", 1, "res", 2, 1, 0.8),
        (33, "2/res/1", 2, "res", 1, 2, 0.64),
    ]


def test_ancestors_are_where_a_feature_comes_from(store: Store) -> None:
    assert answer(store, "ancestors", f="2/res/1", min=0.7) == [
        (9, "0/res/1", 0, "res", 1, 2, 0.64),
        (21, "1/res/1", 1, "res", 1, 1, 0.8),
        (22, "1/res/2", 1, "res", 2, 1, 0.8),
    ]


def test_hops_limit_how_far_a_lineage_goes(store: Store) -> None:
    assert [row[1] for row in answer(store, "descendants", f="0/res/1", hops=1)] == ["1/res/1", "1/res/2"]
    assert answer(store, "descendants", f="0/res/1", hops=0) == []


def test_a_lineage_holds_the_seed_both_ways_and_the_writers(store: Store) -> None:
    assert answer(store, "lineage", f="1/res/0") == [
        (5, "0/mlp/1", 0, "mlp", 1, 2, 0.7),
        (8, "0/res/0", 0, "res", 0, 1, 1.0),
        (17, "1/mlp/1", 1, "mlp", 1, 1, 0.3),
        (20, "1/res/0", 1, "res", 0, 0, 1.0),
        (27, "2/att/3", 2, "att", 3, 2, 0.26),
        (32, "2/res/0", 2, "res", 0, 1, 1.0),
        (33, "2/res/1", 2, "res", 1, 1, 0.6),
    ]


def test_a_lineage_without_writers_is_residual_only(store: Store) -> None:
    rows = answer(store, "lineage", f="1/res/0", writers=False)
    assert [row[1] for row in rows] == ["0/res/0", "1/res/0", "2/res/0", "2/res/1"]


def test_writers_pass_a_threshold_of_their_own(store: Store) -> None:
    rows = answer(store, "lineage", f="1/res/0", writer_min=0.1, hops=0)
    assert [row[1] for row in rows] == ["1/mlp/1", "1/mlp/2", "1/res/0"]
    assert len(answer(store, "lineage", f="1/res/0", writer_min=0.3, hops=0)) == 2


def test_a_dead_or_lonely_feature_is_its_own_lineage(store: Store) -> None:
    assert answer(store, "lineage", f="0/res/3") == [(11, "0/res/3", 0, "res", 3, 0, 1.0)]


def test_a_subgraph_holds_the_edges_of_a_lineage(store: Store) -> None:
    assert answer(store, "subgraph", f="1/res/0") == [
        (5, 8, "mlp_res", 0.7, 0.7),
        (8, 20, "res_res", 1.0, 1.0),
        (17, 20, "mlp_res", 0.3, 0.3),
        (20, 32, "res_res", 1.0, 1.0),
        (20, 33, "res_res", 0.6, 0.6),
        (27, 32, "att_res", 0.26, 0.26),
    ]


def test_a_split_has_two_children_whose_best_parent_it_is(store: Store) -> None:
    assert answer(store, "splits", min=0.7) == [
        (9, "0/res/1", 2, ["1/res/1", "1/res/2"], pytest.approx([0.8, 0.8]))
    ]
    assert answer(store, "splits", layer=1) == []


def test_a_merge_has_two_parents_whose_best_child_it_is(store: Store) -> None:
    assert answer(store, "merges") == [(33, "2/res/1", 2, ["1/res/1", "1/res/2"], pytest.approx([0.8, 0.8]))]
    assert answer(store, "merges", layer=1) == []


def test_the_layer_of_an_event_may_be_a_decimal(store: Store) -> None:
    both = "select (select list(key) from splits(min => 0.7, layer => 0.0)), "
    statement = (
        both + "(select list(key) from merges(layer => 2.0)), (select count(*) from splits(layer => 1.0))"
    )
    assert run(store, statement).rows == [(["0/res/1"], ["2/res/1"], 0)]


def test_a_birth_has_no_parent_and_tells_its_writer(store: Store) -> None:
    assert answer(store, "births") == [
        (23, "1/res/3", 1, "mlp"),
        (34, "2/res/2", 2, "unexplained"),
        (35, "2/res/3", 2, "unexplained"),
    ]
    assert answer(store, "births", min=0.3) == [(34, "2/res/2", 2, "unexplained")]


def test_a_birth_where_a_module_has_no_sae_is_not_said_to_be_unexplained(toy_copy: Path) -> None:
    with duckdb.connect(str(toy_copy / "graph.duckdb")) as connection:
        connection.execute("update sae set site = 'none' where layer = 2 and site = 'att'")
    with open_store(toy_copy) as store:
        assert answer(store, "births") == [
            (23, "1/res/3", 1, "mlp"),
            (34, "2/res/2", 2, "not measured"),
            (35, "2/res/3", 2, "not measured"),
        ]
        rows = run_named(store, "origins").rows
        assert [(row[0], row[1], row[3]) for row in rows if row[0] == 2] == [
            (2, "A", 2),
            (2, "B", 0),
            (2, "C", 0),
            (2, "D", 0),
            (2, "-", 2),
        ]


def test_a_death_has_no_child(store: Store) -> None:
    assert answer(store, "deaths") == [(10, "0/res/2", 0), (11, "0/res/3", 0), (23, "1/res/3", 1)]
    assert answer(store, "deaths", layer=0, min=0.3) == [(11, "0/res/3", 0)]


def test_by_evidence_a_link_needs_less_cosine_and_more_company(store: Store) -> None:
    assert answer(store, "splits", by="coactive") == answer(store, "splits")
    assert [row[1] for row in answer(store, "births", by="coactive")] == []
    assert [row[1] for row in answer(store, "deaths", by="coactive")] == []
    assert [row[1] for row in answer(store, "births", by="coactive", min=0.5)] == ["1/res/3", "2/res/3"]


def test_paths_lead_from_one_feature_down_to_another(store: Store) -> None:
    assert answer(store, "paths", a="0/res/1", b="2/res/1", k=3) == [
        (1, 2, 0.64, 0.64, 0.8, [9, 21, 33], ["0/res/1", "1/res/1", "2/res/1"]),
        (2, 2, 0.64, 0.64, 0.8, [9, 22, 33], ["0/res/1", "1/res/2", "2/res/1"]),
    ]
    assert answer(store, "paths", a="2/res/1", b="0/res/1") == []


def test_paths_go_by_the_sum_or_the_least_of_their_cosines_too(store: Store) -> None:
    assert answer(store, "paths", a="0/res/0", b="2/res/1", score="sum")[0][:5] == (1, 2, 1.6, 0.6, 0.6)
    assert answer(store, "paths", a="0/res/0", b="2/res/1", score="min")[0][:5] == (1, 2, 0.6, 0.6, 0.6)


def test_a_path_out_of_a_module_feature_begins_where_it_writes(store: Store) -> None:
    written = answer(store, "paths", a="0/mlp/1", b="2/res/0")
    assert written == [(1, 3, 0.7, 0.7, 0.7, [5, 8, 20, 32], ["0/mlp/1", "0/res/0", "1/res/0", "2/res/0"])]
    assert answer(store, "paths", a="0/mlp/1", b="2/res/0", writer_min=0.8) == []


@pytest.mark.parametrize(("by", "score"), [("product", 1.0), ("sum", 0.0), ("min", math.inf)])
def test_a_feature_is_a_path_to_itself(store: Store, by: str, score: float) -> None:
    assert answer(store, "paths", a="1/res/0", b="1/res/0", score=by) == [
        (1, 0, score, 1.0, None, [20], ["1/res/0"])
    ]


def test_neighbors_are_at_the_other_end_of_every_edge_that_passes(store: Store) -> None:
    evidence = (0.25, 0.6, 1.25, 0.5, 0.4, 0.5, 0.75, None, None, None)
    assert answer(store, "neighbors", f="1/res/0") == [
        (8, "0/res/0", 0, "res", 0, "up", "res_res", 1.0, 1, 1, *evidence),
        (17, "1/mlp/1", 1, "mlp", 1, "up", "mlp_res", 0.3, 1, 1, *evidence),
        (32, "2/res/0", 2, "res", 0, "down", "res_res", 1.0, 1, 1, *evidence),
        (33, "2/res/1", 2, "res", 1, "down", "res_res", 0.6, 2, 3, *evidence),
    ]
    keys = [row[1] for row in answer(store, "neighbors", f="1/res/0", min=0.7, writer_min=0.1)]
    assert keys == ["0/res/0", "1/mlp/1", "1/mlp/2", "2/res/0"]


def test_chains_are_the_longest_runs_that_persist(store: Store) -> None:
    assert answer(store, "chains") == [
        (8, "0/res/0", "2/res/0", 3, ["0/res/0", "1/res/0", "2/res/0"], 1.0, 1.0),
        (9, "0/res/1", "2/res/1", 3, ["0/res/1", "1/res/1", "2/res/1"], 0.8, 0.64),
    ]
    assert [row[2:4] for row in answer(store, "chains", min=0.3)][-1] == ("2/res/3", 3)


def test_flow_counts_what_happens_between_two_layers(store: Store) -> None:
    assert answer(store, "flow") == [
        (0, 1, 4, 4, 3, 2, 1, 0, 1, 2, 0.8667, None, 0.8667),
        (1, 2, 4, 4, 4, 2, 0, 1, 2, 1, 0.8, None, 0.8),
    ]
    assert answer(store, "flow", min=0.3, layer_a=1) == [(1, 2, 4, 4, 5, 3, 0, 1, 1, 0, 0.7, None, 0.7)]
    assert [row[:2] for row in answer(store, "flow", layer_b=1)] == [(0, 1)]
    assert answer(store, "flow", min=1)[1][4:] == (1, 1, 0, 0, 3, 3, 1.0, None, 1.0)


def test_components_and_similar_are_computed(store: Store) -> None:
    assert answer(store, "components", min=0.9) == [
        (8, "0/res/0", 0, 8, 3),
        (20, "1/res/0", 1, 8, 3),
        (32, "2/res/0", 2, 8, 3),
    ]
    assert [row[1] for row in answer(store, "similar", vector=[0, 0, 1, 0, 0, 0], k=1)] == [
        row[1] for row in answer(store, "similar", vector=[0, 0, 3, 0, 0, 0], k=1)
    ]


def test_to_persist_is_to_be_the_best_of_both_ends(store: Store) -> None:
    rows = run(store, "select src, dst from persists() order by src").rows
    assert rows == [(8, 20), (9, 21), (20, 32), (21, 33)]


def test_a_threshold_holds_at_equality_however_it_is_given(store: Store) -> None:
    for value in (0.8, "0.8"):
        assert run(store, "select count(*) from splits(min := $min)", {"min": value}).rows == [(1,)]
    assert run(store, "select count(*) from splits(min := 0.8)").rows == [(1,)]


def test_verbs_stand_wherever_a_table_may(store: Store) -> None:
    statement = """
        with born as (from births(min := 0.5))
        select l.layer, count(*) as n, count(b.id) as n_born
        from lineage('1/res/3', min := 0.3) l
        left join born b using (id)
        where l.site = 'res'
        group by l.layer
        order by l.layer
    """
    assert run(store, statement).rows == [(0, 1, 0), (1, 1, 1), (2, 1, 1)]


@pytest.mark.parametrize("verb", [name for name, verb in VERBS.items() if not verb.computed])
def test_another_client_answers_the_same_rows_from_the_file(store: Store, verb: str) -> None:
    examples = {"f": "'1/res/0'", "a": "'0/res/1'", "b": "'2/res/1'", "min": "0.3", "k": "2", "hops": "2"}
    examples["words"] = "'cat'"
    given = [f"{name} => {value}" for name, value in examples.items() if name in VERBS[verb].arguments]
    call = f"from {verb}({', '.join(given)})"
    with duckdb.connect(str(store.database), read_only=True) as client:
        expected = client.execute(call).fetchall()
    assert len(expected) > 0
    assert run(store, call).rows == expected
    assert run(store, f"select v.* from {verb}({', '.join(given)}) v").rows == expected


def test_the_python_door_and_the_verb_agree(toy: Path, store: Store) -> None:
    with featgraph.open(toy) as graph:
        members = graph.lineage("1/res/0").members
    assert [member.key for member in members] == [row[1] for row in answer(store, "lineage", f="1/res/0")]


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("ancestors", {"f": "2/res/1", "min": 0.7}),
        ("descendants", {"f": "0/res/1", "hops": 1}),
        ("subgraph", {"f": "1/res/0", "writers": False}),
        ("paths", {"a": "0/res/1", "b": "2/res/1", "k": 2, "score": "min"}),
        ("neighbors", {"f": "1/res/0", "writer_min": 0.1}),
        ("splits", {"min": 0.7}),
        ("merges", {"layer": 2}),
        ("births", {"layer": 2}),
        ("deaths", {"layer": 1, "by": "coactive"}),
        ("chains", {"min": 0.9}),
        ("components", {"min": 0.9}),
        ("flow", {"layer_a": 1, "layer_b": 2}),
        ("search", {"words": "cat", "source": "tokens"}),
    ],
)
def test_every_verb_is_a_method_that_answers_the_same(
    toy: Path, store: Store, verb: str, arguments: dict[str, object]
) -> None:
    positional = [arguments[name] for name in VERBS[verb].required]
    named = {name: value for name, value in arguments.items() if name not in VERBS[verb].required}
    with featgraph.open(toy) as graph:
        assert getattr(graph, verb)(*positional, **named) == run_verb(store, verb, arguments)


def test_a_feature_is_given_as_a_key_or_as_text(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        assert graph.ancestors(FeatureKey(2, "res", 1)) == graph.ancestors("2/res/1")


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("linage", {}, "no verb 'linage'; did you mean 'lineage'?"),
        ("splits", {"mn": 0.5}, "splits takes no 'mn'; did you mean 'min'?"),
        ("lineage", {"f": "1/res/9"}, "no feature '1/res/9'"),
        ("lineage", {}, "lineage needs f; write layer/site/index"),
        ("paths", {"a": "1/res/0"}, "paths needs b"),
        ("lineage", {"f": None}, "f is null; write a feature as layer/site/index"),
        ("paths", {"a": "1/res/0", "b": "2/res/9"}, "no feature '2/res/9'"),
        ("paths", {"a": "1/res/0", "b": "2/res/0", "k": 0}, "k = 0 is too small; give a whole number from 1"),
        ("paths", {"a": "1/res/0", "b": "2/res/0", "k": None}, "k = null is not a whole number"),
        (
            "paths",
            {"a": "1/res/0", "b": "2/res/0", "score": "summ"},
            "'summ' is not a score of paths; did you mean",
        ),
        ("paths", {"a": "1/res/0", "b": "2/res/0", "score": "x"}, "; scores are product, sum, min"),
        ("paths", {"a": "1/res/0", "b": "2/res/0", "score": 1}, "score = 1 is not text; write it in quotes"),
        ("ancestors", {"f": "1/res/0", "hops": -1}, "hops = -1 is too small; give a whole number from 0 up"),
        ("ancestors", {"f": "1/res/0", "hops": 1.5}, "hops = 1.5 is not a whole number"),
        ("splits", {"layer": True}, "layer = True is not a whole number"),
        ("splits", {"min": 1.5}, "min = 1.5 is out of range: -1 to 1"),
        ("splits", {"min": math.nan}, "min = nan is out of range"),
        ("splits", {"min": "high"}, "min = 'high' is not a number"),
        ("lineage", {"f": "1/res/0", "writers": 1}, "writers = 1 is not true or false"),
        ("splits", {"by": None}, "by = null is not text; write it in quotes"),
        ("lineage", {"f": "1/res/0", "writer_min": None}, "writer_min = null is not a number"),
        ("similar", {}, "give exactly one of a feature key, a vector and a text, got 0"),
    ],
)
def test_a_wrong_call_is_refused(store: Store, verb: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run_verb(store, verb, arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "name", "value", "bound"),
    [
        ("lineage", "f", " 1/res/0 ", "1/res/0"),
        ("lineage", "f", FeatureKey(1, "res", 0), "1/res/0"),
        ("splits", "min", Decimal("0.7"), 0.7),
        ("splits", "min", "0.7", 0.7),
        ("splits", "min", None, None),
        ("ancestors", "hops", "2", 2),
        ("subgraph", "writers", False, False),
        ("paths", "score", "min", "min"),
    ],
)
def test_a_value_is_bound_as_the_macro_takes_it(
    store: Store, verb: str, name: str, value: object, bound: object
) -> None:
    assert check(VERBS[verb], name, value, store) == bound


def test_a_macro_refuses_a_score_that_it_does_not_know(store: Store) -> None:
    with duckdb.connect(str(store.database), read_only=True) as client, pytest.raises(duckdb.Error) as caught:
        client.execute("from paths('0/res/1', '2/res/1', score := 'best')").fetchall()
    assert "score is product, sum or min" in str(caught.value)


def test_every_verb_is_a_macro_with_those_arguments_or_computed(store: Store) -> None:
    rows = run(
        store, "select function_name, parameters from duckdb_functions() where function_type = 'table_macro'"
    ).rows
    macros = {str(name): list(parameters) for name, parameters in rows}  # type: ignore[call-overload]
    computed = {verb for verb in VERBS if VERBS[verb].computed}
    assert computed == {"components", "similar"}
    assert computed & set(macros) == set()
    assert {verb: macros.get(verb) for verb in VERBS if verb not in computed} == {
        verb: list(VERBS[verb].arguments) for verb in VERBS if verb not in computed
    }
