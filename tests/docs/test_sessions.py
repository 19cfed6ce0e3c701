"""The pages run as they stand: console sessions, Python, and the questions of the language page.

`helpers.shown_output` says what may differ between what a page shows and what is printed. Of `featgraph
ingest` the lines shown must appear, because its bars carry times.
"""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from featgraph.cli import app
from helpers.pages import PAGES, blocks, name_of, session
from helpers.repository import ROOT
from helpers.shown_output import matches, missing

QUESTIONS = ROOT / "queries" / "README.md"
ASKED = [block for block in blocks(QUESTIONS) if block.language == "sql" and block.output is not None]
SESSIONS = [page for page in PAGES if session(page)]
PROGRAMS = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
TYPED = [
    (name_of(page), line)
    for page in PAGES
    for block in blocks(page)
    if block.language in ("sh", "console")
    for line in re.findall(r"(?:^|&& )(?:\$ )?(?:\S*/)?(featgraph [^&\n]*)", block.text, re.MULTILINE)
]
"""Every command of featgraph that a page shows."""


PROGRESS = re.compile(r"[a-z ]+: .*\b\d+ s( left)?$")
"""A line of progress, which a command that takes over two seconds prints where stderr is no terminal."""


def run(words: list[str], folder: Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run featgraph as a user does, in a terminal of 100 columns."""
    return subprocess.run(
        [sys.executable, "-m", "featgraph", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS, ids=name_of)
def test_a_session_prints_what_it_shows(demo: tuple[Path, str], page: Path) -> None:
    folder, made = demo
    for command, shown in session(page):
        if command == "featgraph ingest demo":
            assert missing(shown, made.splitlines()) == []
            continue
        program, *words = shlex.split(command)
        assert program == "featgraph", command
        ran = run(words, folder)
        assert ran.returncode == 0, ran.stdout
        printed = [line for line in ran.stdout.splitlines() if not PROGRESS.match(line)]
        assert matches(shown, printed), f"$ {command}\n{ran.stdout}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PROGRAMS, ids=name_of)
def test_the_python_of_a_page_prints_what_it_shows(
    demo: tuple[Path, str],
    page: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(demo[0])
    model = repr(str(ROOT / "ingest" / "demo" / "model"))
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text.replace('"demo/model"', model), name_of(page), "exec"), names)
            printed = capsys.readouterr().out
            assert matches((block.output or "").splitlines(), printed.splitlines()), printed


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ASKED)), ids=lambda number: f"question-{number + 1}")
def test_a_question_of_the_language_page_has_the_answer_it_shows(demo: tuple[Path, str], number: int) -> None:
    ran = run(["query", "demo.featgraph", "-f", "-"], demo[0], ASKED[number].text)
    assert matches((ASKED[number].output or "").splitlines(), ran.stdout.splitlines()), ran.stdout


def test_the_language_page_asks_fifteen_questions() -> None:
    headings = re.findall(r"^### (\d+)\. .*\?$", QUESTIONS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [int(number) for number in headings] == list(range(1, 16))
    assert len(ASKED) == 15


@cache
def _commands() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize(
    ("page", "line"), TYPED, ids=[f"{page}-{number}" for number, (page, _) in enumerate(TYPED)]
)
def test_a_command_that_a_page_shows_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    group = _commands()
    command = group.commands.get(words[0]) if words and not words[0].startswith("-") else group
    assert command is not None, f"{page}: {line}"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used - known - {"--help", "--version"} == set(), f"{page}: {line}"


def test_the_pages_have_sessions_and_programs() -> None:
    assert {"README.md", "docs/tour.md", "docs/edges.md", "docs/steering.md"} <= set(map(name_of, SESSIONS))
    assert {"README.md", "docs/python.md"} <= set(map(name_of, PROGRAMS))
    assert len(TYPED) > 40


def test_try_it_and_test_it_are_one_command_line_each() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for heading in ("Try it", "Test it"):
        section = readme.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
        [block] = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)[:1]
        assert block.count("\n") == 1
        assert "constraints.txt" in block
        assert "venv" in block
