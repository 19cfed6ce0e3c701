"""MATCH against brute force: random patterns in random spellings over random graphs. Brute force, by hand."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from featgraph.query import run
from featgraph.query.run import explain
from featgraph.store import Store
from helpers.examples import examples
from helpers.memory import Memory, store_of
from helpers.oracle import (
    EdgeSpec,
    Expression,
    NodeSpec,
    PathSpec,
    Query,
    Selector,
    answer,
    comparable,
    matches,
)
from helpers.random_expressions import EDGE_COLUMNS, NODE_COLUMNS, columns_of
from helpers.random_graphs import (
    CLOSE_PRODUCTS,
    CLOSE_SUMS,
    EXACT,
    ROUNDED,
    TALL,
    TIED,
    FeatureGraph,
    Shape,
    feature_graphs,
)
from helpers.random_patterns import edge_predicates, node_predicates, queries, selectors
from helpers.spelling import Statement, plain, spelt

WORDS = ("ALL", "ANY", "ANY SHORTEST", "ALL SHORTEST", "SHORTEST", "BEST")
SLOW = 2
"""How many times as many examples the slow tests look at."""

Rows = Counter[tuple[object, ...]]

DIAMOND = FeatureGraph(
    ((0, "res", 1), (1, "mlp", 1), (1, "res", 2), (2, "res", 1)),
    ((0, 2, 0.5), (0, 3, 0.5), (0, 4, 0.25), (1, 3, 0.75), (2, 4, 0.5), (3, 4, 0.5)),
)
"""0/res/0 reaches 2/res/0 over either feature of layer 1, 0.5 * 0.5, or at once, 0.25; 1/mlp/0 writes one."""

ENDS = (NodeSpec("a"), NodeSpec("b"))
NODES = Expression("nodes({p})", lambda binding: list(binding["p"].ids))


def check(memory: Memory, graph: FeatureGraph, query: Query, statement: Statement) -> None:
    """Fail if the language and brute force give different rows."""
    note(f"graph: SAEs {graph.saes}, links {graph.links}")
    note(f"plainly: {plain(query).text}")
    note(f"as written: {statement.text!r} with {statement.parameters}")
    got = rows(store_of(memory, graph), statement)
    expected = answer(graph.networkx, query)
    expected = Counter({row: statement.copies * number for row, number in expected.items()})
    assert (got - expected, expected - got) == (Counter(), Counter()), "rows too many, rows that are missing"


def rows(store: Store, statement: Statement) -> Rows:
    result = run(store, statement.text, statement.parameters)
    return Counter(tuple(comparable(value) for value in row) for row in result.rows)


def explore(full: int, check_one: Callable[[Memory, st.DataObject], None]) -> None:
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    limits = settings(
        max_examples=examples(full), deadline=None, suppress_health_check=unhurried, print_blob=True
    )
    with Memory() as memory:
        limits(given(st.data())(lambda data: check_one(memory, data)))()


def random_queries(
    examples: int, word: str | None = None, n_paths: int = 1, cosines: tuple[float, ...] = EXACT
) -> None:
    shape = {1: Shape(3, 5), 2: Shape(2, 4), 3: Shape(2, 3)}[n_paths]

    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs(shape, cosines))
        query = data.draw(queries(graph, word, n_paths))
        seed = data.draw(st.none() | st.integers(0, 2**32))
        check(memory, graph, query, plain(query) if seed is None else spelt(query, seed))

    explore(examples, check_one)


def selected_between_all_pairs(examples: int, word: str) -> None:
    quantifiers = st.sampled_from([(0, None), (1, None), (2, 3), (0, 2), None])
    directions = st.sampled_from(["right", "right", "left"])
    elements = st.lists(
        st.builds(EdgeSpec, st.none(), directions, quantifier=quantifiers), min_size=1, max_size=2
    )

    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs(Shape(4, 5), data.draw(st.sampled_from([EXACT, TIED]))))
        edges = data.draw(elements)
        middle = [NodeSpec("m", ("res",))] * (len(edges) - 1)
        path = PathSpec((ENDS[0], *middle, ENDS[1]), tuple(edges), data.draw(selectors(word)), "p")
        between = Expression("{m}.id", lambda binding: binding["m"]["id"])
        query = Query((path,), (NODES, *[between] * len(middle)))
        check(memory, graph, query, plain(query))

    explore(examples, check_one)


def long_ways(examples: int) -> None:
    """Between all pairs, from one feature, to one feature, or both."""
    quantifiers = st.sampled_from([(1, None), (0, None), (4, None), (3, 6), (2, 40), (5, 5)])
    directions: st.SearchStrategy[Literal["right", "left"]] = st.sampled_from(("right", "left"))

    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs(TALL).filter(lambda graph: len(graph.features) > 3))
        strong = st.none() | st.sampled_from(edge_predicates(0.25, 4))
        edge = EdgeSpec("e", data.draw(directions), (), (), data.draw(strong), data.draw(quantifiers))
        high = len(graph.features) // 3
        above = data.draw(st.none() | st.sampled_from(graph.features[:high]))
        below = data.draw(st.none() | st.sampled_from(graph.features[-high:]))
        ends = (above, below) if edge.direction == "right" else (below, above)
        first, last = (None if end is None else end["key"] for end in ends)
        nodes = (NodeSpec("a", key=first), NodeSpec("b", key=last))
        selector = data.draw(st.none() | st.sampled_from(WORDS).flatmap(selectors))
        columns = columns_of([PathSpec(nodes, (edge,), None, "p")], graph)
        chosen = data.draw(st.lists(st.sampled_from(columns), min_size=1, max_size=2))
        query = Query((PathSpec(nodes, (edge,), selector, "p"),), (NODES, *chosen))
        check(memory, graph, query, plain(query))

    explore(examples, check_one)


@pytest.mark.thorough
def test_walks_of_every_kind_of_pattern() -> None:
    random_queries(150)


@pytest.mark.thorough
def test_cosines_that_are_not_exact_in_32_bits_compare_as_they_are_written() -> None:
    random_queries(60, cosines=ROUNDED)


@pytest.mark.parametrize("word", WORDS)
def test_what_a_selector_keeps(word: str) -> None:
    random_queries(50, word)


@pytest.mark.thorough
@pytest.mark.parametrize("word", WORDS[1:])
def test_what_a_selector_keeps_between_all_pairs_of_nodes(word: str) -> None:
    selected_between_all_pairs(40, word)


@pytest.mark.thorough
def test_long_ways_from_and_to_one_feature() -> None:
    long_ways(100)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("selector", "cosines"),
    [
        (Selector("ANY"), CLOSE_PRODUCTS),
        (Selector("SHORTEST", 2), CLOSE_PRODUCTS),
        (Selector("BEST"), CLOSE_PRODUCTS),
        (Selector("BEST", None, ("sum", "cosine")), CLOSE_SUMS),
    ],
    ids=["ANY", "SHORTEST", "product", "sum"],
)
def test_scores_are_compared_in_double_precision(selector: Selector, cosines: tuple[float, ...]) -> None:
    edges = (EdgeSpec(quantifier=(1, 2)),)  # of more than two factors the product depends on their order

    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs(Shape(3, 4, (2, 3, 1), (None, 1), seldom=0), cosines))
        query = Query((PathSpec(ENDS, edges, selector, "p"),), (NODES,))
        check(memory, graph, query, plain(query))

    explore(50, check_one)


@pytest.mark.thorough
@pytest.mark.parametrize("n_paths", [2, 3])
def test_patterns_joined_on_shared_nodes(n_paths: int) -> None:
    random_queries(60, n_paths=n_paths)


@pytest.mark.thorough
@pytest.mark.parametrize("word", WORDS[1:])
def test_a_selected_pattern_joined_with_another(word: str) -> None:
    random_queries(15, word, n_paths=2)


@pytest.mark.thorough
def test_rows_come_in_the_order_asked_for_and_no_more_than_asked_for() -> None:
    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs())
        low, high = data.draw(st.sampled_from([(0, 2), (1, 2), (1, 9)]))
        path = PathSpec(ENDS, (EdgeSpec(quantifier=(low, high)),), None, "p")
        limit, offset = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 2))
        order = f"order by path_length(p) desc, b.id, nodes(p) limit {limit} offset {offset}"
        statement = f"match p = (a)->{{{low},{high}}}(b) return a.key, nodes(p) as way {order}"
        walks = sorted(
            matches(graph.networkx, path), key=lambda walk: (-len(walk.edges), walk.ids[-1], walk.ids)
        )
        expected = [(walk.nodes[0]["key"], list(walk.ids)) for walk in walks]
        assert run(store_of(memory, graph), statement).rows == expected[offset : offset + limit]

    explore(40, check_one)


@pytest.mark.thorough
def test_the_sql_that_explain_shows_has_the_same_answer() -> None:
    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs())
        statement = spelt(data.draw(queries(graph)), data.draw(st.integers(0, 2**32)))
        store = store_of(memory, graph)
        sql = explain(store, statement.text, statement.parameters)
        note(f"{statement} explained as {sql}")
        used = {name: value for name, value in statement.parameters.items() if f"${name}" in sql}
        assert rows(store, Statement(sql, used)) == rows(store, statement)

    explore(40, check_one)


@pytest.mark.thorough
def test_the_columns_of_an_answer_and_their_types_do_not_depend_on_the_graph() -> None:
    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs())
        statement = plain(data.draw(queries(graph)))
        note(statement.text)
        results = [
            run(store_of(memory, one), statement.text) for one in (graph, FeatureGraph(graph.saes, ()))
        ]
        assert results[0].columns == results[1].columns
        assert results[0].types == results[1].types

    explore(60, check_one)


@pytest.mark.slow
@pytest.mark.parametrize("word", [None, *WORDS])
@pytest.mark.parametrize("n_paths", [1, 2, 3])
def test_many_random_patterns(word: str | None, n_paths: int) -> None:
    random_queries(50 * SLOW, word, n_paths)


@pytest.mark.slow
@pytest.mark.parametrize("word", WORDS[1:])
def test_many_selections_between_all_pairs(word: str) -> None:
    selected_between_all_pairs(40 * SLOW, word)


@pytest.mark.slow
def test_many_long_ways() -> None:
    long_ways(100 * SLOW)


def paths(
    graph: FeatureGraph,
    word: str,
    k: int | None = None,
    by: tuple[str, str] | None = None,
    quantifier: tuple[int, int | None] = (1, None),
) -> list[object]:
    """Return what brute force keeps of the ways from any feature to any other."""
    selector = Selector(word, k, by)  # type: ignore[arg-type]
    edges = (EdgeSpec("e", quantifier=quantifier),)
    found = answer(graph.networkx, Query((PathSpec(ENDS, edges, selector, "p"),), (NODES,)))
    return sorted(row[0] for row in found.elements())  # type: ignore[type-var]


def test_by_hand_every_walk_counts_once() -> None:
    writes = [(1, 3), (1, 3, 4)]
    ways = [(0, 2), (0, 2, 4), (0, 3), (0, 3, 4), (0, 4), *writes, (2, 4), (3, 4)]
    assert paths(DIAMOND, "ALL") == ways
    assert paths(DIAMOND, "ALL", quantifier=(0, None)) == sorted([*ways, (0,), (1,), (2,), (3,), (4,)])
    assert paths(DIAMOND, "ALL", quantifier=(2, 7)) == [(0, 2, 4), (0, 3, 4), (1, 3, 4)]


@pytest.mark.parametrize(
    ("word", "k", "by", "kept"),
    [
        ("ALL SHORTEST", None, None, [(0, 4)]),
        ("ANY SHORTEST", None, None, [(0, 4)]),
        ("SHORTEST", 2, None, [(0, 2, 4), (0, 4)]),
        ("SHORTEST", 9, None, [(0, 2, 4), (0, 3, 4), (0, 4)]),
        ("ANY", None, None, [(0, 4)]),
        ("BEST", None, None, [(0, 4)]),
        ("BEST", 2, ("product", "cosine"), [(0, 2, 4), (0, 4)]),
        ("BEST", None, ("sum", "cosine"), [(0, 2, 4)]),
        ("BEST", None, ("min", "cosine"), [(0, 2, 4)]),
    ],
)
def test_by_hand_what_is_kept_from_top_to_bottom(
    word: str, k: int | None, by: tuple[str, str] | None, kept: list[tuple[int, ...]]
) -> None:
    found = paths(DIAMOND, word, k, by)
    assert [way for way in found if (way[0], way[-1]) == (0, 4)] == kept  # type: ignore[index]


def test_by_hand_a_tie_goes_to_the_prefix_that_is_better() -> None:
    # Two ways to 4 over 3, both of weight 0 for the last edge; the one over 2 is the better one up to 3.
    links = ((0, 1, 0.25), (0, 2, 0.5), (1, 3, 0.5), (2, 3, 0.5), (3, 4, 0.0))
    graph = FeatureGraph(((0, "res", 1), (1, "res", 2), (2, "res", 1), (3, "res", 1)), links)
    assert (0, 2, 3, 4) in paths(graph, "ANY")
    assert (0, 2, 3, 4) in paths(graph, "BEST", None, ("min", "cosine"))
    assert (0, 2, 3, 4) not in paths(graph, "BEST")
    assert (0, 2, 3) in paths(graph, "BEST")


def test_by_hand_a_path_with_a_missing_measure_does_not_qualify() -> None:
    graph = FeatureGraph(((0, "res", 1), (1, "res", 1), (2, "res", 1)), ((0, 1, 0.5), (1, 2, 0.5)))
    graph.edges[0]["pearson"] = None
    assert paths(graph, "BEST", None, ("sum", "pearson"), (0, None)) == [(0,), (1,), (1, 2), (2,)]


def test_by_hand_patterns_join_and_groups_aggregate() -> None:
    a, b, c = (NodeSpec(name) for name in "abc")
    up, down = EdgeSpec("e", "left", quantifier=(0, 1)), EdgeSpec("f", quantifier=None)
    columns = (
        Expression("{c}.id", lambda binding: binding["c"]["id"]),
        Expression("count({e})", lambda binding: len(binding["e"])),
        Expression("{f}.cosine", lambda binding: binding["f"]["cosine"]),
    )
    writer = NodeSpec("b", ("mlp",))
    query = Query((PathSpec((a, writer), (up,)), PathSpec((b, c), (down,))), columns)
    assert answer(DIAMOND.networkx, query) == Counter({(3, 0, 0.75): 1, (3, 1, 0.75): 1})


def test_by_hand_the_last_condition_comes_after_the_selection() -> None:
    long = Expression("path_length({p}) = 2", lambda binding: len(binding["p"].edges) == 2)
    path = PathSpec(ENDS, (EdgeSpec(quantifier=(1, None)),), Selector("ANY SHORTEST"), "p")
    assert answer(DIAMOND.networkx, Query((path,), (NODES,), (long,))) == Counter({((1, 3, 4),): 1})


@pytest.mark.thorough
def test_each_condition_says_the_same_in_sql_and_in_python() -> None:
    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs())
        store_of(memory, graph)
        of_nodes = node_predicates(graph, data.draw(st.integers(0, 6)), 4)
        of_edges = [*edge_predicates(0.5, 3), *edge_predicates(0.0, 5)]
        for table, rows, conditions in (
            ("feature", graph.features, of_nodes),
            ("edge", graph.edges, of_edges),
        ):
            for condition in conditions:
                statement = f"select count(*) from {table} v where {condition.text.format(v='v')}"
                number = sum(condition.holds(row) is True for row in rows)
                assert memory.connection.execute(statement).fetchall() == [(number,)], condition.text

    explore(10, check_one)


def test_each_column_says_the_same_in_sql_and_in_python() -> None:
    def check_one(memory: Memory, data: st.DataObject) -> None:
        graph = data.draw(feature_graphs(cosines=ROUNDED))
        store_of(memory, graph)
        for table, key, rows, columns in (
            ("feature", "id", graph.features, NODE_COLUMNS),
            ("edge", "src, dst", graph.edges, EDGE_COLUMNS),
        ):
            for text, value in columns:
                statement = f"select {text.format(v='v')} from {table} v order by {key}"
                found = [comparable(row) for row in memory.connection.execute(statement).fetchall()]
                assert found == [(comparable(value(row)),) for row in rows], text

    explore(5, check_one)


def test_a_query_has_many_spellings_with_the_same_parts() -> None:
    path = PathSpec(
        ENDS, (EdgeSpec("e", "left", ("res_res",), quantifier=(1, None)),), Selector("BEST", 2), "p"
    )
    query = Query((path,), (NODES,))
    assert plain(query).text == "match BEST 2 p = (a)<-[e: res_res]-+ (b) return nodes(p) as c0"
    assert len({spelt(query, seed).text for seed in range(50)}) > 40
