"""What a page may show of an output, and what it may not."""

import pytest

from helpers.pages import blocks, session
from helpers.repository import ROOT
from helpers.shown_output import matches, missing

SHOWN = ["featgraph: 372,383 edges", "...", "key   cosine", "────────────", "3/res/1   0.734"]


@pytest.mark.parametrize(
    "printed",
    [
        ["featgraph: 372,383 edges", "key   cosine", "────────────", "3/res/1   0.734"],
        ["featgraph: 372,382 edges", "a", "b", "key     cosine", "───────────────", "3/res/1     0.7341"],
    ],
)
def test_what_differs_between_processors_is_the_same(printed: list[str]) -> None:
    assert matches(SHOWN, printed)


@pytest.mark.parametrize(
    "printed",
    [
        ["featgraph: 371,000 edges", "key   cosine", "────────────", "3/res/1   0.734"],
        ["featgraph: 372,383 edges", "key   cosine", "────────────", "3/res/2   0.734"],
        ["featgraph: 372,383 edges", "key   cosine", "────────────", "3/res/1   0.736"],
        ["featgraph: 372,383 edges", "key   cosine", "────────────"],
        ["featgraph: 372,383 edges", "key   cosine", "────────────", "3/res/1   0.734", "3/res/4   0.7"],
        ["featgraph: 372,383 edges", "key   pearson", "────────────", "3/res/1   0.734"],
    ],
)
def test_everything_else_is_not(printed: list[str]) -> None:
    assert not matches(SHOWN, printed)


def test_a_page_that_shows_nothing_must_print_nothing() -> None:
    assert matches([], [])
    assert not matches([], ["a line"])


def test_lines_that_are_not_printed_are_named() -> None:
    assert missing(["a 1,000", "...", "b"], ["c", "a 1,001"]) == ["b"]


def test_a_block_has_the_output_that_stands_right_below_it() -> None:
    [first, *_] = [block for block in blocks(ROOT / "docs" / "python.md") if block.language == "python"]
    assert "featgraph.open" in first.text
    assert first.output is not None
    assert first.output.startswith("demo.featgraph")


def test_a_session_is_its_commands_with_the_lines_below_them() -> None:
    commands = session(ROOT / "docs" / "tour.md")
    assert commands[0][0] == "featgraph ingest demo"
    assert commands[0][1][-1] == "demo.featgraph"
    assert all(command.startswith("featgraph ") for command, _ in commands)
