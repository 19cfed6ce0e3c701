"""A picture as one file: well formed, asking nothing of the network, running only its own script."""

import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given

from featgraph.drawing import LineageGraph, Node, Options, draw_lineage, html_page
from featgraph.drawing.page import read
from helpers.pictures import HOSTILE, graphs, parsed, quick


class Elements(HTMLParser):
    """The elements of a page, and what scripts and styles hold."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.raw: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] in (["script"], ["style"]):
            self.raw.append(data)


def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


def hashed(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@pytest.mark.thorough
@quick
@given(graphs())
def test_the_page_contains_the_picture_unchanged(graph: LineageGraph) -> None:
    svg = draw_lineage(graph)
    page = html_page(svg, graph.title)
    assert svg.strip() in page
    assert page.encode()
    seen = elements(page)
    assert seen.tags.count("script") == 1
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "style")]


def test_the_security_policy_allows_only_our_script() -> None:
    page = html_page(draw_lineage(LineageGraph([Node("0/res/0", 0)], [])), "a")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == hashed(script)
    assert sorted(parts["style-src"].split()) == sorted(map(hashed, styles))
    assert len(styles) == 2


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
@pytest.mark.parametrize("label", HOSTILE)
def test_a_label_stays_text(label: str, theme: str) -> None:
    graph = LineageGraph([Node("0/res/0", 0, lines=(label,), note=label)], [], title=label)
    page = html_page(draw_lineage(graph, Options(theme=theme)), label)  # type: ignore[arg-type]
    seen = elements(page)
    assert seen.tags.count("script") == 1
    assert "alert" not in "".join(seen.raw)


def test_nothing_is_fetched() -> None:
    page = html_page(draw_lineage(LineageGraph([Node("0/res/0", 0)], [])), "a")
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {"http://www.w3.org/2000/svg"}
    script = read("picture.js") + read("file.js")
    for call in (
        "fetch(",
        "import(",
        "import ",
        "XMLHttpRequest",
        "WebSocket",
        "eval(",
        "innerHTML",
        ".style",
    ):
        assert call not in script


@pytest.mark.parametrize("name", ["picture.js", "file.js"])
def test_the_script_parses(name: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    file = tmp_path / f"{name}.mjs"
    file.write_text(read(name), encoding="utf-8")
    ended = subprocess.run([node, "--check", str(file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_page_holds_a_picture_that_parses() -> None:
    svg = draw_lineage(LineageGraph([Node("0/res/0", 0)], []))
    page = html_page(svg, "a")
    start, end = page.index("<svg"), page.index("</svg>") + len("</svg>")
    assert parsed(page[start:end]).get("class") == "lineage"
