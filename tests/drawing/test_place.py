"""Heights: exact least squares in each column, and room between neighbours."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from featgraph.drawing.place import Extent, Pull, heights, rising
from helpers.pictures import quick

values = st.floats(-100, 100)


@quick
@given(st.lists(st.tuples(values, st.floats(0.01, 10)), min_size=1, max_size=20))
def test_rising_is_isotonic_regression(wanted: list[tuple[float, float]]) -> None:
    ours = rising(wanted)
    theirs = isotonic_regression([value for value, _ in wanted], weights=[weight for _, weight in wanted]).x
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


@quick
@given(
    st.lists(
        st.lists(st.tuples(st.floats(1, 30), st.floats(1, 30)), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_neighbours_keep_apart_and_the_highest_is_at_the_top(
    columns: list[list[tuple[float, float]]], data: st.DataObject
) -> None:
    extents = [Extent(above, below) for column in columns for above, below in column]
    ends = [0, *np.cumsum([len(column) for column in columns]).tolist()]
    order = [list(range(start, end)) for start, end in itertools.pairwise(ends)]
    up: list[list[Pull]] = [[] for _ in extents]
    down: list[list[Pull]] = [[] for _ in extents]
    for before, after in itertools.pairwise(order):
        for _ in range(data.draw(st.integers(0, 6))):
            src, dst = data.draw(st.sampled_from(before)), data.draw(st.sampled_from(after))
            down[src].append(Pull(dst, 3.0, 1.0))
            up[dst].append(Pull(src, -3.0, 1.0))
    height = heights(order, extents, up, down, 5.0)
    for items in order:
        for above, below in itertools.pairwise(items):
            assert height[below] - height[above] >= extents[above].below + 5 + extents[below].above - 1e-6
    assert abs(min(at - extent.above for at, extent in zip(height, extents, strict=True))) < 1e-9


def test_a_line_of_links_is_level() -> None:
    """Three columns; the middle one has a second item, which must not bend the line."""
    up, down = (
        [[], [Pull(0, 2.0, 1.0)], [], [Pull(1, -1.0, 1.0)]],
        [[Pull(1, -2.0, 1.0)], [Pull(3, 1.0, 1.0)], [], []],
    )
    height = heights([[0], [1, 2], [3]], [Extent(10, 10)] * 4, up, down, 5.0)
    assert abs(height[1] - height[0] - 2) < 0.05
    assert abs(height[3] - height[1] + 1) < 0.05
