"""Small multiples: the same axes in all, lines through their points."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featgraph.drawing import Panel, Series, draw_small_multiples
from featgraph.drawing.multiples import ticks
from helpers.pictures import SVG, numbers, parsed, quick, texts, with_class, words

values = st.floats(-1e6, 1e6)


@st.composite
def panels(draw: st.DrawFn) -> list[Panel]:
    """Draw up to six panels of up to three series, with hostile names."""
    names = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    points = st.lists(st.tuples(values, st.one_of(values, st.just(math.nan))), max_size=6)
    return [
        Panel(draw(words), [Series(name, sorted(draw(points))) for name in names])
        for _ in range(draw(st.integers(0, 6)))
    ]


@quick
@given(panels(), st.integers(1, 5))
def test_lines_stay_in_their_charts(drawn: list[Panel], n_across: int) -> None:
    svg = draw_small_multiples(drawn, n_across=n_across)
    assert svg == draw_small_multiples(drawn, n_across=n_across)
    root = parsed(svg)
    charts = with_class(root, "panel")
    assert len(charts) == len(drawn)
    for chart, panel in zip(charts, drawn, strict=True):
        lines = with_class(chart, "series")
        rules = [path for path in chart.findall(f"{SVG}path") if path not in lines]
        left = numbers(rules[0].get("d", ""))[0]
        for line, series in zip(lines, panel.series, strict=True):
            path = numbers(line.get("d", ""))
            finite = [point for point in series.points if all(map(math.isfinite, point))]
            assert len(path) == max(2, 2 * len(finite))
            assert all(left - 0.11 <= x <= left + 230.11 for x in path[::2])
            assert line.get("d", "").count("M") <= 1 + sum(math.isnan(y) for _, y in series.points)


def test_the_same_value_is_as_high_in_every_chart() -> None:
    drawn = [Panel("a", [Series("s", [(0, 0), (1, 50)])]), Panel("b", [Series("s", [(0, 50), (1, 100)])])]
    root = parsed(draw_small_multiples(drawn))
    first, second = (numbers(line.get("d", "")) for line in with_class(root, "series"))
    assert first[3] == second[1]
    assert second[3] < second[1] < first[1]


def test_series_with_one_name_look_the_same_and_others_have_other_dashes() -> None:
    drawn = [Panel("a", [Series("s", [(0, 1)]), Series("t", [(0, 1)])]), Panel("b", [Series("t", [(0, 1)])])]
    one, two, three = with_class(parsed(draw_small_multiples(drawn)), "series")
    look = [(line.get("stroke"), line.get("stroke-dasharray")) for line in (one, two, three)]
    assert look[1] == look[2]
    assert look[0][0] != look[1][0]
    assert look[0][1] != look[1][1]


def test_the_part_below_chance_is_shaded_and_in_the_legend() -> None:
    drawn = [Panel("a", [Series("s", [(0.2, 1), (0.6, 2)])], noise_below=0.4)]
    root = parsed(draw_small_multiples(drawn))
    (shade,) = [rect for rect in with_class(root, "panel")[0].iter(f"{SVG}rect")]
    assert float(shade.get("width", "0")) == 115
    assert "below chance" in [one.text for one in texts(root)]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_round_and_inside(low: float, wide: float, n: int) -> None:
    high = low + wide
    if not high > low or wide < abs(low) * 1e-6:
        return
    marks = ticks(low, high, n)
    assert len(marks) <= 2.6 * n
    assert all(low - wide * 1e-6 <= mark <= high + wide * 1e-6 for mark in marks)
    steps = {f"{after - before:.3g}" for before, after in itertools.pairwise(marks)}
    assert len(steps) <= 1 or wide < abs(low) * 1e-3
    assert all(step.lstrip("0.")[:1] in "125" for step in steps)


def test_charts_without_rows_have_a_message() -> None:
    assert [one.text for one in texts(parsed(draw_small_multiples([])))] == ["no rows"]


@pytest.mark.parametrize("points", [[], [(0.5, 3.0)], [(0.5, 0.0), (0.5, 0.0)], [(math.nan, 1.0)]])
def test_lines_of_no_length_can_be_drawn(points: list[tuple[float, float]]) -> None:
    parsed(draw_small_multiples([Panel("a", [Series("s", points)])]))
