"""Alluvial pictures: the width of bands is the number of features."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featgraph.drawing import Passage, draw_alluvial
from helpers.pictures import numbers, parsed, quick, texts, with_class


@st.composite
def passages(draw: st.DrawFn) -> list[Passage]:
    """Draw up to five layers, and how many features pass between them."""
    sizes = draw(st.lists(st.integers(0, 2000), max_size=5))
    drawn = []
    for layer, (n, after) in enumerate(itertools.pairwise(sizes)):
        persists = draw(st.integers(0, min(n, after)))
        births, deaths = draw(st.integers(0, after - persists)), draw(st.integers(0, n - persists))
        of_mlp = draw(st.integers(0, births))
        drawn.append(Passage(layer, layer + 1, n, after, persists, births, deaths, origins={"mlp": of_mlp}))
    return drawn


@pytest.mark.thorough
@quick
@given(passages(), st.sampled_from([None, 400.0, 1200.0]))
def test_bands_are_as_wide_as_their_numbers(drawn: list[Passage], width: float | None) -> None:
    root = parsed(draw_alluvial(drawn, width=width))
    most = max([1, *(passage.n_a for passage in drawn), *(passage.n_b for passage in drawn)])
    bands = with_class(root, "persists")
    assert len(bands) == len(drawn)
    for passage, band, other in zip(drawn, bands, with_class(root, "passes"), strict=True):
        path = numbers(band.get("d", ""))
        assert path[9] - path[1] == pytest.approx(passage.n_persists * 250 / most, abs=0.11)
        path = numbers(other.get("d", ""))
        leave = passage.n_a - passage.n_persists - passage.n_deaths
        arrive = passage.n_b - passage.n_persists - passage.n_births
        assert path[-1] - path[1] == pytest.approx(leave * 250 / most, abs=0.11)
        assert path[9] - path[7] == pytest.approx(arrive * 250 / most, abs=0.11)
    born = sum(
        (passage.origins["mlp"] > 0) + (passage.origins["mlp"] < passage.n_births) for passage in drawn
    )
    assert len(with_class(root, "born")) == born
    assert len(with_class(root, "dies")) == sum(passage.n_deaths > 0 for passage in drawn)
    assert draw_alluvial(drawn, width=width) == draw_alluvial(drawn, width=width)


def test_the_bands_show_their_numbers() -> None:
    first = Passage(0, 1, 1000, 900, 300, 500, 600, n_splits=1, n_merges=20, origins={"att": 90})
    second = Passage(1, 2, 900, 800, 400, 100, 200, n_splits=7, n_merges=1, is_noise=True)
    told = [words.text for words in texts(parsed(draw_alluvial([first, second])))]
    for text in ("300", "600 die", "500 born", "1 split", "20 merges", "7 splits", "1 merge", "born: att"):
        assert text in told
    assert "threshold below chance" in told
    assert "born: mlp" not in told


def test_a_picture_without_layers_has_a_message() -> None:
    assert "no layers" in [words.text for words in texts(parsed(draw_alluvial([])))]


@pytest.mark.parametrize(
    ("passage", "message"),
    [
        (lambda: Passage(0, 1, 5, 5, 6, 0, 0), "more features persist, die or are born than there are"),
        (lambda: Passage(0, 1, 5, 5, 3, 3, 0), "more features persist, die or are born than there are"),
        (lambda: Passage(0, 1, 5, 5, 3, 0, 3), "more features persist, die or are born than there are"),
        (lambda: Passage(0, 1, 5, 5, 1, 1, 1, origins={"mlp": 2}), "more births have an origin"),
        (lambda: Passage(0, 1, 5, 5, 1, 1, -1), "a number is below 0"),
    ],
)
def test_numbers_that_do_not_add_up_are_refused(passage: "type[Passage]", message: str) -> None:
    with pytest.raises(ValueError, match=message):
        passage()  # type: ignore[call-arg]


def test_layers_that_do_not_follow_are_refused() -> None:
    with pytest.raises(ValueError, match="after layers 0 to 1 comes layer 2"):
        draw_alluvial([Passage(0, 1, 5, 5, 1, 1, 1), Passage(2, 3, 5, 5, 1, 1, 1)])
