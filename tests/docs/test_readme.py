"""The README's session, that of steering, and the language page's questions, run as they stand.

In a session that is every `console` block, in the language page every `sql` block with the block after it.

A line `...` in an output stands for any number of lines. Of `featgraph ingest` only the lines shown must
appear, because its bars carry times.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.repository import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
STEERING = (ROOT / "featgraph" / "steering" / "README.md").read_text(encoding="utf-8")
QUESTIONS = (ROOT / "queries" / "README.md").read_text(encoding="utf-8")
ASKED = re.findall(
    r"^### \d+\. .*?^```sql\n(.*?)^```\n\n^```\n(.*?)^```", QUESTIONS, flags=re.MULTILINE | re.DOTALL
)


def session(page: str) -> list[tuple[str, list[str]]]:
    """Return (command, expected lines) of every console block, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line.rstrip())
    return found


def matches(expected: list[str], lines: list[str]) -> bool:
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in lines)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, STEERING], ids=["README", "steering"])
def test_a_session_prints_what_it_says(demo: tuple[Path, str], page: str) -> None:
    folder, made = demo
    commands = session(page)
    assert len(commands) >= 5
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    for command, expected in commands:
        if command == "featgraph ingest demo":
            assert [line for line in expected if line != "..." and line not in made] == []
            continue
        program, *words = shlex.split(command)
        assert program == "featgraph", command
        ran = subprocess.run(
            [sys.executable, "-m", "featgraph", *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        assert matches(expected, ran.stdout.splitlines()), f"$ {command}\n{ran.stdout}"


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "answer"), ASKED, ids=range(1, len(ASKED) + 1))
def test_a_question_of_the_language_page_has_the_answer_it_shows(
    demo: tuple[Path, str], statement: str, answer: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "featgraph", "query", "demo.featgraph", "-f", "-"],
        cwd=demo[0],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=statement,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert [line.rstrip() for line in ran.stdout.splitlines()] == answer.splitlines()


def test_the_language_page_asks_twelve_questions() -> None:
    headings = re.findall(r"^### (\d+)\. .*\?$", QUESTIONS, flags=re.MULTILINE)
    assert [int(number) for number in headings] == list(range(1, 13))
    assert len(ASKED) == 12


@pytest.mark.slow
def test_the_python_in_the_readme_says_what_its_comments_say(
    demo: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo[0])
    [block] = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    model = repr(str(ROOT / "ingest" / "demo" / "model"))
    exec(compile(block.replace('"demo/model"', model), "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    promised = re.findall(r"# \.\.\. (.*) \.\.\.$", block, flags=re.MULTILINE)
    assert len(promised) == 2
    assert [text for text in promised if text not in printed] == []


def test_try_it_and_test_it_are_one_command_line_each() -> None:
    for heading in ("Try it", "Test it"):
        section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
        [block] = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)[:1]
        assert block.count("\n") == 1
        assert "constraints.txt" in block
        assert "venv" in block
