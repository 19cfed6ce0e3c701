"""The page on pictures: its code prints what it shows, and its pictures are there and parse."""

import re

import pytest

from helpers.pages import blocks
from helpers.pictures import parsed
from helpers.repository import ROOT

PAGE = ROOT / "docs" / "pictures.md"


def test_the_code_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for block in blocks(PAGE) if block.language == "python"]
    exec(code.text, {})
    assert capsys.readouterr().out == code.output


def test_the_pictures_parse() -> None:
    names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(names) == 4
    for name in names:
        parsed((PAGE.parent / name).read_text(encoding="utf-8"))
