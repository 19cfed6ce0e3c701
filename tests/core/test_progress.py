"""Progress in a file: lines now and then, none for what is done at once."""

import pytest

from featgraph.core import progress
from featgraph.core.progress import Lines, Silent, shown


def test_a_long_step_says_lines_and_a_short_one_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 4.0, 11.0, 12.0, 25.0, 40.0, 40.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with Lines().step("read activations", 1000, "tokens") as advance:
        for _ in range(4):
            advance(200)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "read activations: 400 of 1,000 tokens, 16 s left",
        "read activations: 800 of 1,000 tokens, 6 s left",
        "read activations: 1,000 tokens in 40 s",
    ]
    clock = iter([0.0, 1.0, 2.0])
    with Lines().step("write", 2, "files") as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_what_is_no_terminal_gets_lines_and_quiet_gets_nothing() -> None:
    with shown(quiet=False) as reporter:
        assert isinstance(reporter, Lines)
    with shown(quiet=True) as reporter:
        assert isinstance(reporter, Silent)
