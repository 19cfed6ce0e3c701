"""Every relative link of the documentation leads to a file and, where it names one, to a heading."""

from pathlib import Path

import pytest

from helpers.pages import PAGES, anchors, files_named, links, name_of
from helpers.repository import ROOT


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = [
        f"{path}#{anchor}" if anchor else path
        for path, anchor in links(page)
        if not _leads_somewhere(page, path, anchor)
    ]
    assert broken == []


def _leads_somewhere(page: Path, path: str, anchor: str) -> bool:
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))


NOT_IN_A_CHECKOUT = {"featgraph/_shipped/", "vectors/", "DIR/report.md"}
"""In the wheel, in a graph directory, and in a folder that the reader chooses."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    roots = (ROOT, ROOT / "featgraph", page.parent)
    absent = {name for name in files_named(page) if not any((root / name).exists() for root in roots)}
    assert absent - NOT_IN_A_CHECKOUT == set()


def test_there_are_links_to_check() -> None:
    counted = {name_of(page): len(list(links(page))) for page in PAGES}
    assert counted["README.md"] > 5
    assert counted["docs/glossary.md"] > 50
    assert sum(len(files_named(page)) for page in PAGES) > 50
    assert sum(anchor != "" for page in PAGES for _, anchor in links(page)) > 10


def test_an_anchor_is_made_as_github_makes_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# How `to` add ...\n\n## Two\n\n## Two\n\n```sh\n# no heading\n```\n")
    assert anchors(page) == {"how-to-add-", "two", "two-1"}


def test_a_link_in_code_is_no_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](b.md#c) `[d](e.md)` [`f`](g.md) [h](https://x.org)\n\n```\n[i](j.md)\n```\n")
    assert list(links(page)) == [("b.md", "c"), ("g.md", "")]
