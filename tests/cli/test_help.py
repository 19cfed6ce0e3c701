"""Every `--help`, pinned as a file in `help/`, and what all of them have in common."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featgraph.cli import app
from featgraph.cli.app import PANELS
from featgraph.core.verbs import VERBS
from helpers.pinned import check_pinned

HELP = Path(__file__).parent / "help"
COMMANDS = sorted(
    str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback
)
SCREEN = 50
"""Lines of a screen."""
LONG = {"export", "steer", "evaluate"}
"""Commands with an option for each steering setting, which take two screens."""


def help_of(*command: str) -> str:
    return CliRunner().invoke(app, [*command, "--help"]).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_is_as_pinned(command: str, update_texts: bool) -> None:
    check_pinned(HELP / f"{command}.txt", help_of(command), update=update_texts)


def test_the_list_of_commands_is_as_pinned(update_texts: bool) -> None:
    check_pinned(HELP / "featgraph.txt", help_of(), update=update_texts)


def test_no_help_is_pinned_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in HELP.iterdir()} == {*COMMANDS, "featgraph"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_with_an_example_and_fits_a_screen(command: str) -> None:
    text = help_of(command)
    example = re.search(r"Example:\n +featgraph (\S+)", text)
    assert example is not None
    assert example[1] == command
    assert len(text.splitlines()) <= (2 if command in LONG else 1) * SCREEN


def test_every_command_is_in_a_panel_whole() -> None:
    text = help_of()
    listed = [line for line in text.partition("Build:")[2].splitlines() if line.startswith("  ")]
    assert sorted(line.split()[0] for line in listed) == COMMANDS
    assert "More:" not in text
    assert not [line for line in listed if line.endswith("...")]
    assert [line[:-1] for line in text.splitlines() if line[:-1] in PANELS] == list(PANELS)


@pytest.mark.thorough
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_introduced_by_the_registry(verb: str) -> None:
    assert VERBS[verb].summary in help_of(verb)
    assert f"featgraph {verb} demo.featgraph {VERBS[verb].example}" in help_of(verb)
