"""The shell at a terminal: keys, history, completion, and Ctrl-C while a statement runs."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.capture import CaptureResult
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from featgraph.shell import Session
from featgraph.shell.prompt import History, ask, history_file
from query.test_query import FOREVER
from shell.test_shell import PROGRAM

Told = Callable[[str], CaptureResult[str]]


@pytest.fixture
def typed(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """Types keys at the prompt and then leaves; returns what came on stdout and stderr."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def type_keys(keys: str) -> CaptureResult[str]:
        with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
            keyboard.send_text(f"{keys}\x03\x04")
            ask(session)
        return capsys.readouterr()

    return type_keys


def test_enter_runs_a_whole_statement_and_goes_on_with_a_part(typed: Told) -> None:
    assert typed("select 1 as a,\r2 as b\r;\rselect 3 as c;\r").out == "a,b\n1,2\nc\n3\n"


def test_alt_enter_runs_what_is_there(typed: Told) -> None:
    assert typed("select 1 as a\x1b\r").out == "a\n1\n"


def test_control_c_clears_the_line(typed: Told) -> None:
    told = typed("select nonsense\x03select 1 as a;\r")
    assert told.out == "a\n1\n"
    assert "interrupted" not in told.err


def test_a_word_leaves_the_shell(typed: Told) -> None:
    assert typed("exit\rselect 1;\r").out == ""


def test_a_fault_is_told_and_the_shell_lives_on(typed: Told) -> None:
    told = typed("selec 1;\rselect 1 as a;\r")
    assert told.out == "a\n1\n"
    assert '\nfeatgraph: syntax error at or near "selec"\n  LINE 1' in told.err


def test_what_was_typed_is_remembered_for_the_user_alone(typed: Told) -> None:
    typed("select 1 as a,\r2 as b;\r")
    typed("select 3 as c;\r")
    remembered = History(history_file()).load_history_strings()
    assert list(remembered) == ["select 3 as c;", "select 1 as a,\n2 as b;"]
    assert history_file().stat().st_mode & 0o077 == 0


def test_a_history_that_cannot_be_written_is_told_of_once(typed: Told, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    told = typed("select 1 as a;\rselect 2 as a;\r")
    assert told.out == "a\n1\na\n2\n"
    assert told.err.count("statements are not remembered: cannot write") == 1


def test_a_history_that_can_be_written_no_more_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = History(tmp_path / "history")
    (tmp_path / "history").unlink()
    (tmp_path / "history").mkdir()
    history.append_string("select 1;")
    history.append_string("select 2;")
    assert history.get_strings() == ["select 1;", "select 2;"]
    assert capsys.readouterr().err.count(f"cannot write {tmp_path}/history: is a directory") == 1


@pytest.mark.parametrize("given", ["", "relative/folder"])
def test_the_history_lies_in_the_home_folder_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", given)
    assert history_file() == tmp_path / ".local" / "state" / "featgraph" / "history"


# ---- a real terminal


PROMPT = "toy>"
LEFT = "\x1b[?2004l"
"""What the prompt writes when it has taken a line."""


class Terminal:
    """The shell in a terminal of its own."""

    def __init__(self, graph: Path, state: Path) -> None:
        self.unread = ""
        self.ours, theirs = pty.openpty()
        own_terminal = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        settings = {"TERM": "xterm", "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", own_terminal + PROGRAM, "shell", str(graph)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, **settings},
            start_new_session=True,
        )
        os.close(theirs)

    def press(self, keys: str, until: str, seconds: float = 30) -> None:
        """Type keys and wait for some text to come after what was waited for before."""
        os.write(self.ours, keys.encode())
        deadline = time.monotonic() + seconds
        while until not in self.unread:
            left = max(0, deadline - time.monotonic())
            assert select.select([self.ours], [], [], left)[0], self.unread
            self.unread += os.read(self.ours, 10_000).decode(errors="replace")
        self.unread = self.unread.partition(until)[2]

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.mark.thorough
def test_control_c_stops_a_statement_and_the_shell_lives_on(toy: Path, tmp_path: Path) -> None:
    with Terminal(toy, tmp_path) as terminal:
        terminal.press("", PROMPT)
        terminal.press(f"{FOREVER};\r", LEFT)
        time.sleep(1)
        terminal.press("\x03", "featgraph: interrupted")
        terminal.press("", PROMPT)
        terminal.press("select 6 * 7 as answer;\r", "    42")
        terminal.press("", PROMPT)
        terminal.press("\x04", LEFT)
        assert terminal.process.wait(20) == 0


@pytest.mark.thorough
def test_tab_completes_and_enter_takes_what_is_chosen(toy: Path, tmp_path: Path) -> None:
    with Terminal(toy, tmp_path) as terminal:
        terminal.press("", PROMPT)
        terminal.press("select 6 + count(*) as answer from fea\t", "ture")
        terminal.press(";\r", "    42")
        terminal.press("", PROMPT)
        terminal.press(".q\t", "uit")
        terminal.press("\t\r splits\r", "-- Features that split")
