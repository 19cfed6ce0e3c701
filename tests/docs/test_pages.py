"""What the pages promise of themselves: lengths, entries of the changelog, the picture of imports."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.pages import PAGES, blocks, name_of
from helpers.repository import ROOT

DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PACKAGE = ROOT / "featgraph"


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 200


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_is_one_page_with_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("\n") <= 60
    assert text.startswith(f"# {page.name[:3]} ")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings == ["Problem", "Decision", "Reasons", "What follows"]


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"\]\((\d{3}-[\w-]+\.md)\)", (DOCS / "decisions" / "README.md").read_text())
    assert listed == [page.name for page in DECISIONS]


def test_an_entry_of_the_changelog_is_one_sentence_of_at_most_25_words() -> None:
    entries = re.findall(r"^- (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert entries
    assert [entry for entry in entries if len(entry.split()) > 25 or not entry.endswith(".")] == []
    assert [entry for entry in entries if ". " in entry] == []


def test_every_word_of_the_glossary_leads_to_where_it_is_defined() -> None:
    rows = re.findall(r"^\| (.+) \|$", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE)
    words = [row for row in rows if not row.startswith(("word |", "---"))]
    assert len(words) > 80
    assert [row for row in words if not re.search(r"\[.+\]\(.+\)$", row) or row.count(" | ") != 3] == []


def test_the_classes_that_the_glossary_names_are_where_it_says() -> None:
    text = (DOCS / "glossary.md").read_text()
    named = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|.*\(\.\./(featgraph/[\w/]+\.py)\)", text, re.MULTILINE)
    assert named
    absent = [
        f"{name} in {file}"
        for names, file in named
        for name in re.findall(r"`(\w+)`", names)
        if not re.search(rf"^(?:class|def) {name}\b", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert absent == []


def test_the_layers_of_the_architecture_page_are_those_that_are_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    [layers] = [block for block in blocks(DOCS / "architecture.md") if block.language == "text"]
    assert layers.text.splitlines() == contract["layers"]


def test_every_arrow_of_the_import_picture_is_an_import() -> None:
    [picture] = [block for block in blocks(DOCS / "architecture.md") if block.language == "mermaid"]
    arrows = set()
    for line in picture.text.splitlines()[1:]:
        names = [re.sub(r"\[.*\]", "", name).strip() for name in line.split("-->")]
        arrows |= set(pairwise(names))
    assert len(arrows) > 10
    assert sorted(arrow for arrow in arrows if not _imports(*arrow)) == []


def _imports(room: str, other: str) -> bool:
    """Whether a module of one room imports one of the other, at whatever place in the file."""
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").is_file() else (PACKAGE / room).rglob("*.py")
    pattern = rf"(?:from|import) featgraph(?:\.{other}\b| import (?:\w+, )*{other}\b)"
    return any(re.search(pattern, file.read_text(encoding="utf-8")) for file in files)


def test_every_task_that_a_page_names_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = {
        task
        for page in PAGES
        for task in re.findall(r"\bpoe (?:-q )?([a-z][\w-]*)", page.read_text(encoding="utf-8"))
    }
    assert "check" in named
    assert named - set(project["tool"]["poe"]["tasks"]) == set()


def test_the_architecture_page_has_every_room() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rooms = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    rooms |= {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert {room for room in rooms if f"| `{room}` |" not in text} == set()
