"""The features active on a prompt: every token, the strongest of each cell, words that fit."""

import functools
import operator
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featgraph.drawing import Activation, PromptLens, draw_prompt_lens
from featgraph.drawing.lens import PER_CELL, strongest
from featgraph.drawing.text import text_width, visible
from helpers.pictures import SVG, parsed, quick, texts, with_class, words


@st.composite
def lenses(draw: st.DrawFn) -> PromptLens:
    """Draw a prompt of up to 30 tokens, with hostile words, and what is active on it."""
    tokens = draw(st.lists(words, max_size=30))
    lineages = draw(st.lists(st.tuples(words, words), max_size=10))
    activations = []
    for number in range(draw(st.integers(0, 20)) if tokens else 0):
        token, layer = draw(st.integers(0, len(tokens) - 1)), draw(st.integers(0, 2))
        lineage = draw(st.one_of(st.none(), st.integers(0, len(lineages) - 1))) if lineages else None
        share = draw(st.floats(0, 1.5))
        activations.append(Activation(token, layer, f"{layer}/res/{number}", draw(words), share, lineage))
    return PromptLens(tokens, range(3), activations, lineages)


@pytest.mark.thorough
@quick
@given(lenses(), st.sampled_from([300.0, 700.0, 1200.0]))
def test_each_cell_shows_its_strongest(lens: PromptLens, width: float) -> None:
    svg = draw_prompt_lens(lens, width=width)
    assert svg == draw_prompt_lens(lens, width=width)
    root = parsed(svg)
    cells: dict[tuple[int, int], list[Activation]] = {}
    for one in lens.activations:
        cells.setdefault((one.token, one.layer), []).append(one)
    kept = [one for cell in cells.values() for one in sorted(cell, key=lambda one: -one.share)[:PER_CELL]]
    assert sorted(mark.get("data-key", "") for mark in with_class(root, "active")) == sorted(
        one.key for one in kept
    )
    assert float(root.get("width", "0")) <= max(width, 600)


@pytest.mark.thorough
@quick
@given(lenses())
def test_bars_and_words_stay_in_their_cell(lens: PromptLens) -> None:
    for mark in with_class(parsed(draw_prompt_lens(lens)), "active"):
        bar = mark.find(f"{SVG}rect")
        assert bar is not None
        left = float(bar.get("x", "nan"))
        assert 0 <= float(bar.get("width", "nan")) <= 80
        ends = [left]
        for one in sorted(texts(mark), key=lambda one: one.anchor == "end"):
            wide = text_width(one.text, one.size, bold=one.bold)
            start = one.x - wide if one.anchor == "end" else one.x
            assert start >= ends[-1]
            ends.append(start + wide)
        assert ends[-1] <= left + 80.1


def test_a_long_prompt_breaks_evenly() -> None:
    lens = PromptLens([f"w{number}" for number in range(14)], [0], [])
    rows: dict[float, list[str]] = {}
    for one in texts(parsed(draw_prompt_lens(lens, width=1200))):
        if one.text.startswith("w"):
            rows.setdefault(one.y, []).append(one.text)
    assert [len(row) for row in rows.values()] == [7, 7]
    assert functools.reduce(operator.iadd, rows.values(), []) == list(lens.tokens)
    assert ceil(14 / 12) == 2


def test_lineages_keep_their_order_in_every_cell() -> None:
    activations = [
        Activation(0, 0, "a", "a", 0.5, 1),
        Activation(0, 0, "b", "b", 0.4, 0),
        Activation(0, 0, "c", "c", 0.9),
        Activation(0, 0, "d", "d", 0.1, 0),
    ]
    assert [one.key for one in strongest(activations)] == ["b", "a", "c"]


def test_only_the_first_eight_lineages_have_a_colour() -> None:
    lineages = [(chr(ord("A") + number), f"lineage {number}") for number in range(10)]
    activations = [Activation(number, 0, f"0/res/{number}", "w", 0.5, number) for number in range(10)]
    root = parsed(draw_prompt_lens(PromptLens([" a"] * 10, [0], activations, lineages)))
    assert len(with_class(root, "lineage-name")) == 8
    coloured = [
        mark for mark in with_class(root, "active") if any("fill-s" in one.get("class", "") for one in mark)
    ]
    assert len(coloured) == 8


def test_blank_tokens_are_shown_in_quotes() -> None:
    told = [one.text for one in texts(parsed(draw_prompt_lens(PromptLens(["  ", " a", "\n"], [0], []))))]
    assert told[-3:] == ["'  '", "a", r"\n"]
    assert visible("\n") == r"\n"


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (Activation(1, 0, "k", "w", 0.5), "'k' is active on token 1, layer 0, not in the picture"),
        (Activation(0, 3, "k", "w", 0.5), "'k' is active on token 0, layer 3, not in the picture"),
        (Activation(0, 0, "k", "w", 0.5, 0), "'k' is of lineage 0, not in the picture"),
    ],
)
def test_activations_outside_the_picture_are_refused(activation: Activation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptLens(["a"], [0], [activation])
