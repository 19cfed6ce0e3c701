"""A tree of text: its lines, the same as Rich draws them, on a terminal and elsewhere."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from featgraph.output.tree import Node, print_tree

WORDS = st.text(alphabet=st.sampled_from("abc é→漢字 0/res"), min_size=1, max_size=30).map(
    lambda word: word.strip() or "a"
)
NODES = st.recursive(
    WORDS.map(Node),
    lambda below: st.builds(Node, WORDS, st.just(""), st.lists(below, max_size=3)),
    max_leaves=12,
)


class Stream(io.StringIO):
    """Text in memory that says what encoding it has, and that it is a terminal if asked to."""

    def __init__(self, encoding: str = "utf-8", *, terminal: bool = False) -> None:
        super().__init__()
        self._encoding, self.terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self.terminal


def printed(root: Node, width: int | None = None, stream: Stream | None = None) -> str:
    stream = stream or Stream()
    print_tree(root, stream, width)
    return stream.getvalue()


def as_rich(node: Node) -> Tree:
    tree = Tree(Text(node.text, no_wrap=True, overflow="ellipsis"))
    tree.children = [as_rich(child) for child in node.below]
    return tree


@pytest.mark.thorough
@given(NODES, st.integers(30, 60))
def test_a_tree_is_drawn_as_rich_draws_it(root: Node, width: int) -> None:
    stream = Stream()
    Console(file=stream, width=width, markup=False, highlight=False, emoji=False).print(as_rich(root))
    expected = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert [line.rstrip() for line in printed(root, width).splitlines()] == expected


@given(NODES, st.integers(12, 40))
def test_no_line_is_wider_than_asked(root: Node, width: int) -> None:
    for line in printed(root, width).splitlines():
        guide = len(line) - len(line.lstrip("│├└─ "))
        assert cell_len(line) <= max(width, guide + 1)


def test_elsewhere_nothing_is_cut_or_styled() -> None:
    root = Node("a" * 300, "\x1b[1m", [Node("b", "\x1b[2m")])
    assert printed(root) == "a" * 300 + "\n└── b\n"


def test_a_terminal_gets_styles_and_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "10")
    root = Node("a" * 12, "\x1b[1m", [Node("b")])
    assert printed(root, stream=Stream(terminal=True)) == "\x1b[1maaaaaaaaa…\x1b[0m\n\x1b[2m└── \x1b[0mb\n"
    monkeypatch.setenv("TERM", "dumb")
    assert printed(root, stream=Stream(terminal=True)) == "aaaaaaaaa…\n└── b\n"


def test_a_stream_without_block_characters_gets_plain_guides() -> None:
    root = Node("a", below=[Node("b", below=[Node("c")]), Node("d")])
    assert printed(root, stream=Stream("ascii")) == "a\n+-- b\n|   `-- c\n`-- d\n"


@pytest.mark.thorough
def test_the_command_styles_a_terminal(toy: Path) -> None:
    """Through a pseudo-terminal, where codes in data are made visible and those of the tree are not."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "featgraph", "lineage", str(toy), "1/res/0"]
    subprocess.run(command, stdout=side, env={**os.environ, "TERM": "xterm"}, check=True)
    os.close(side)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert shown.startswith("\x1b[1mlineage of 1/res/0: 4 features in layers 0 to 2")
