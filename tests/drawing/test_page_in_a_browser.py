"""The page in a real browser, from disk: hover, keys, threshold, pick, table, export."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featgraph.drawing import LineageGraph, Link, Node, draw_lineage, html_page
from helpers.pictures import parsed, with_class

pytestmark = pytest.mark.slow


def missing(what: str) -> None:
    """Skip, or fail where a browser must be there: FEATGRAPH_BROWSER=required."""
    if os.environ.get("FEATGRAPH_BROWSER") == "required":
        pytest.fail(what)
    pytest.skip(what)


def browser_path() -> str | None:
    named = os.environ.get("FEATGRAPH_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    path = browser_path()
    if path is None:
        missing("no Chromium")
    nodes = [
        Node(f"{layer}/res/{n}", layer, lines=(("<b>", f"w{n}"),)) for layer in range(3) for n in range(2)
    ]
    links = [
        Link("0/res/0", "1/res/0", 0.9, 0.8),
        Link("0/res/0", "1/res/1", 0.5, 0.8),
        Link("1/res/0", "2/res/0", 0.8, 0.8),
        Link("1/res/1", "2/res/1", 0.6, 0.8),
        Link("0/res/1", "1/res/1", 0.7, 0.8),
    ]
    file = tmp_path / "lineage.html"
    file.write_text(
        html_page(draw_lineage(LineageGraph(nodes, links, "0/res/0")), "A lineage"), encoding="utf-8"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 900, "height": 600})
        opened.faults = []
        opened.on("console", lambda message: opened.faults.append(message.text))
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        opened.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "blob:")) else opened.faults.append(request.url)
            ),
        )
        opened.goto(file.as_uri())
        opened.locator("body[data-ready]").wait_for()
        yield opened
        assert opened.faults == []
        browser.close()


def lit(page: Any) -> set[str]:
    return set(page.locator(".node:not([opacity])").evaluate_all("all => all.map(one => one.dataset.key)"))


ALL = {f"{layer}/res/{n}" for layer in range(3) for n in range(2)}


def test_pointing_highlights_the_lineage(page: Any) -> None:
    assert lit(page) == ALL
    page.locator('[data-key="1/res/0"] .box').hover()
    assert lit(page) == {"0/res/0", "1/res/0", "2/res/0"}
    page.locator("h1").hover()
    assert lit(page) == ALL


def test_a_pick_stays_until_escape(page: Any) -> None:
    page.locator('[data-key="1/res/1"] .box').click()
    page.locator("h1").hover()
    assert lit(page) == {"0/res/0", "0/res/1", "1/res/1", "2/res/1"}
    assert page.locator("#told").text_content().startswith("<b>, w1\n1/res/1")
    page.locator('[data-key="1/res/1"]').focus()
    page.keyboard.press("Escape")
    assert lit(page) == ALL


def test_keys_walk(page: Any) -> None:
    page.keyboard.press("Tab")
    page.locator('[data-key="0/res/0"]').focus()
    for key, at in [("ArrowRight", "1/res/0"), ("ArrowRight", "2/res/0"), ("ArrowLeft", "1/res/0")]:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.key") == at
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.key") == "1/res/1"
    assert page.locator('.node[tabindex="0"]').count() == 1


def test_the_threshold_keeps_the_lineage_of_the_seed(page: Any) -> None:
    page.locator("#least").fill("0.6")
    assert lit(page) == {"0/res/0", "1/res/0", "2/res/0"}
    page.locator("#least").fill("0.9")
    assert lit(page) == {"0/res/0", "1/res/0"}


def test_table_and_export(page: Any, tmp_path: Path) -> None:
    page.locator("#table").click()
    assert page.locator("#rows tr").count() == 6
    with page.expect_download() as download:
        page.locator("#svg").click()
    assert download.value.suggested_filename == "A-lineage.svg"
    download.value.save_as(tmp_path / "a.svg")
    root = parsed((tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert {node.get("data-key") for node in with_class(root, "node")} == ALL
    assert not any(node.get("opacity") or node.get("role") == "button" for node in root.iter())
    with page.expect_download() as download:
        page.locator("#png").click()
    download.value.save_as(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").stat().st_size > 10_000
