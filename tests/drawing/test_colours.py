"""Contrast on light and dark backgrounds, and colour names that exist."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from featgraph import drawing
from featgraph.drawing.colours import COLOURS, SERIES, STEPS, dark_rules, evidence_colour

FILES = sorted(Path(drawing.__file__).parent.glob("*.py"))
GROUNDS = ("paper", "band")


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize(
    ("names", "grounds", "least"),
    [
        (["ink", "quiet"], [*GROUNDS, "card", "seed-card"], 4.5),
        (["promotes"], ["card", "seed-card"], 4.5),
        (["ink"], ["bar"], 4.5),
        (["paper"], ["persists"], 4.5),
        (["seed"], ["paper"], 4.5),
        ([f"s{number}" for number in range(SERIES)], GROUNDS, 4.5),
        ([f"e{number}" for number in range(STEPS)], GROUNDS, 3.0),
        (["mlp", "att", "unexplained", "death", "warning", "first", "second", "both"], GROUNDS, 3.0),
    ],
)
def test_contrast(names: list[str], grounds: list[str], least: float, theme: int) -> None:
    low = {
        (name, ground): round(contrast(COLOURS[name][theme], COLOURS[ground][theme]), 2)
        for name in names
        for ground in grounds
        if contrast(COLOURS[name][theme], COLOURS[ground][theme]) < least
    }
    assert low == {}


@pytest.mark.parametrize("theme", [0, 1])
def test_more_evidence_stands_out_more(theme: int) -> None:
    paper = COLOURS["paper"][theme]
    steps = [contrast(COLOURS[f"e{number}"][theme], paper) for number in range(STEPS)]
    assert all(after > before * 1.05 for before, after in pairwise(steps))


def test_evidence_has_ten_steps() -> None:
    assert [evidence_colour(value / 10 + 0.05) for value in range(10)] == [f"e{step}" for step in range(10)]
    assert [evidence_colour(value) for value in (-0.5, 0.0, float("nan"), 2.0)] == ["e0", "e0", "e0", "e9"]


def test_dark_rules_cover_every_colour() -> None:
    rules = dark_rules()
    for name, colour in COLOURS.items():
        assert f".fill-{name}{{fill:{colour.dark}}}" in rules
        assert f".stroke-{name}{{stroke:{colour.dark}}}" in rules


def test_drawing_imports_the_standard_library_alone() -> None:
    """`png` loads resvg when it is called."""
    import sys

    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                first = name.split(".")[0]
                allowed = first in sys.stdlib_module_names or name.startswith("featgraph.drawing")
                assert allowed or (file.name, name) == ("png.py", "resvg_py"), (file.name, name)
