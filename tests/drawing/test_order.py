"""Few crossings: counted by brute force, never more than at the start, none where none is needed."""

from itertools import combinations, permutations, product

from hypothesis import given
from hypothesis import strategies as st

from featgraph.drawing.order import Columns, Order, best_order, crossings
from helpers.pictures import quick


@st.composite
def layered(draw: st.DrawFn, columns: int = 5, most: int = 6, links: int = 30) -> Columns:
    sizes = draw(st.lists(st.integers(1, most), min_size=2, max_size=columns))
    column = [number for number, n in enumerate(sizes) for _ in range(n)]
    pairs = [
        (one, two) for one, two in product(range(len(column)), repeat=2) if column[two] == column[one] + 1
    ]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=links, unique=True))
    return Columns.of(column, [(src, dst, draw(st.floats(0.1, 1))) for src, dst in chosen])


def as_read(graph: Columns) -> Order:
    return [
        [item for item, column in enumerate(graph.column) if column == place]
        for place in range(graph.n_columns)
    ]


def counted(graph: Columns, order: Order) -> int:
    """Every pair of links, compared."""
    place = {item: number for items in order for number, item in enumerate(items)}
    links = [(src, dst) for src, ends in enumerate(graph.down) for dst, _ in ends]
    return sum(
        (place[a] - place[c]) * (place[b] - place[d]) < 0
        for (a, b), (c, d) in combinations(links, 2)
        if graph.column[a] == graph.column[c]
    )


@quick
@given(layered(), st.randoms(use_true_random=False))
def test_crossings_are_those_of_brute_force(graph: Columns, chance: object) -> None:
    order = as_read(graph)
    for items in order:
        chance.shuffle(items)  # type: ignore[attr-defined]
    assert crossings(graph, order) == counted(graph, order)


@quick
@given(layered())
def test_an_order_is_a_permutation_and_no_worse_than_its_start(graph: Columns) -> None:
    start = as_read(graph)
    order, n_crossings = best_order(graph)
    kept, n_kept = best_order(graph, start)
    for result, n in ((order, n_crossings), (kept, n_kept)):
        assert [sorted(items) for items in result] == start
        assert n == counted(graph, result)
    assert n_kept <= counted(graph, start)


@quick
@given(layered(columns=3, most=3, links=9))
def test_small_pictures_have_the_minimal_number_of_crossings(graph: Columns) -> None:
    orders = product(*(permutations(items) for items in as_read(graph)))
    fewest = min(counted(graph, [list(items) for items in order]) for order in orders)
    assert best_order(graph)[1] == fewest


@quick
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=120), st.booleans())
def test_trees_do_not_cross(choices: list[int], upwards: bool) -> None:
    """Each item hangs on one of the last few: a tree of any shape, up or down the picture."""
    column, links = [0], []
    for number, choice in enumerate(choices, 1):
        parent = max(0, number - 1 - choice % 7)
        column.append(column[parent] + 1)
        links.append((parent, number, 1.0))
    if upwards:
        last = max(column)
        column = [last - place for place in column]
        links = [(dst, src, weight) for src, dst, weight in links]
    assert best_order(Columns.of(column, links))[1] == 0


@quick
@given(layered())
def test_an_order_that_is_nearly_as_good_is_kept(graph: Columns) -> None:
    order, n_crossings = best_order(graph)
    again, n_again = best_order(graph, order)
    assert n_again <= n_crossings
    if n_again == n_crossings == 0:
        assert again == order
