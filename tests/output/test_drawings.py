"""Drawings: DOT and Mermaid text that says what the graph says, whatever the labels hold."""

import re
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

import featgraph
from featgraph import output
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.output.graphs.dot import dot
from featgraph.output.graphs.mermaid import mermaid

TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|(->|[{}\[\]=])|([A-Za-z_]\w*|-?\d+(?:\.\d+)?))')
SIGNS = "!\"#$%&'()*+-.:;<=>?@[\\]^_`{|}~"


def tokens(text: str) -> Iterator[str]:
    """DOT's tokens; quoted text comes back as it was, and begins with a quote."""
    place = 0
    while text[place:].strip():
        found = TOKEN.match(text, place)
        assert found is not None, text[place : place + 40]
        quoted = found[1]
        yield '"' + re.sub(r'\\(["\\])', r"\1", quoted[1:-1]) if quoted else found[2] or found[3]
        place = found.end()


def statements(text: str) -> tuple[list[list[str]], dict[tuple[str, ...], dict[str, str]]]:
    """The names of each rank, and the attributes of every node (name,) and edge (src, dst)."""
    words = list(tokens(text))
    assert words[:3] == ["digraph", "featgraph", "{"]
    ranks: list[list[str]] = []
    found: dict[tuple[str, ...], dict[str, str]] = {}
    place, inside = 3, False
    while place < len(words):
        if words[place] == "{":
            ranks.append([])
            inside = True
        elif words[place] == "}":
            inside = False
        elif words[place].startswith('"'):
            subject = [words[place][1:]]
            if inside:
                ranks[-1].append(subject[0])
            if words[place + 1] == "->":
                subject.append(words[place + 2][1:])
                place += 2
            found[tuple(subject)] = {}
            if words[place + 1] == "[":
                end = words.index("]", place)
                listed = words[place + 2 : end]
                assert listed[1::3] == ["="] * (len(listed) // 3)
                found[tuple(subject)] = dict(zip(listed[::3], listed[2::3], strict=True))
                place = end
        place += 1
    return ranks, found


def labelled(*labels: str) -> networkx.DiGraph:
    """A chain of features, one layer after the other, with these labels."""
    graph = networkx.DiGraph()
    for layer, label in enumerate(labels):
        graph.add_node(f"{layer}/res/0", feature=layer, layer=layer, site="res", idx=0, label=label)
        if layer:
            graph.add_edge(f"{layer - 1}/res/0", f"{layer}/res/0")
    return graph


def star(n: int, label: str = "") -> networkx.DiGraph:
    graph = networkx.DiGraph()
    graph.add_edges_from(("a", f"{label}{number}") for number in range(n))
    return graph


def toy_text(toy: Path, format: output.Format, capsys: pytest.CaptureFixture[str]) -> str:
    rows: list[tuple[object, ...]] = [
        ("0/res/1", "1/res/1", 0.8),
        ("1/res/1", "2/res/1", 0.75),
        ("1/att/0", "1/res/1", None),
        ("0/res/1", "elsewhere", None),
    ]
    with featgraph.open(toy) as graph:
        output.write(Result(["src", "dst", "cosine"], rows), format, store=graph.store)
    return capsys.readouterr().out


def test_dot_has_one_rank_per_layer(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranks, found = statements(toy_text(toy, "dot", capsys))
    assert ranks == [["0/res/1"], ["1/att/0", "1/res/1"], ["2/res/1"]]
    assert found["1/att/0",] == {
        "label": '"1/att/0',
        "feature": "12",
        "layer": "1",
        "site": "att",
        "idx": "0",
    }
    assert found["elsewhere",] == {"label": '"elsewhere'}
    assert found["0/res/1", "1/res/1"] == {"label": '"0.80', "cosine": "0.8"}
    assert found["0/res/1", "elsewhere"] == {}
    assert [subject for subject in found if len(subject) == 2] == [
        ("0/res/1", "1/res/1"),
        ("0/res/1", "elsewhere"),
        ("1/att/0", "1/res/1"),
        ("1/res/1", "2/res/1"),
    ]


def test_dot_is_laid_out_from_left_to_right(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = toy_text(toy, "dot", capsys)
    assert "  rankdir=LR\n" in text
    assert text.count("    rank=same\n") == 3


def test_dot_quotes_what_it_must() -> None:
    graph = networkx.DiGraph()
    graph.add_node('a"b\\', feature=1, layer=0, label='say "hi"\n\\N <b> & {x|y}\x00')
    values = {"edge": "Node", "a b": "-1.5", "small": 1e-07, "ok": True, "list": ["x", 1], "word": "mlp_res"}
    graph.add_edges_from([('a"b\\', "c", values)])
    _, found = statements(dot(graph))
    assert found['a"b\\',]["label"] == '"a"b\\' + "\\n" + 'say "hi"\\n\\N <b> &amp; {x|y}\\x00'
    assert found['a"b\\', "c"] == {
        '"edge': '"Node',
        '"a b': "-1.5",
        "small": '"1e-07',
        "ok": "true",
        "list": '"["x", 1]',
        "word": "mlp_res",
    }


@pytest.mark.thorough
def test_dot_says_when_a_drawing_is_too_large_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    dot(star(2_000))
    assert capsys.readouterr().err == ""
    assert dot(star(2_001)).count(" -> ") == 2_001
    assert "2,001 edges are slow to draw and hard to read" in capsys.readouterr().err


MERMAID = """\
flowchart LR
  subgraph layer0["layer 0"]
    f9["0/res/1"]
  end
  subgraph layer1["layer 1"]
    f12["1/att/0"]
    f21["1/res/1"]
  end
  subgraph layer2["layer 2"]
    f33["2/res/1"]
  end
  u4["elsewhere"]
  f9 -->|"0.80"| f21
  f9 --> u4
  f12 --> f21
  f21 -->|"0.75"| f33
"""


def test_mermaid_has_one_box_per_layer(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy_text(toy, "mermaid", capsys) == MERMAID


@pytest.mark.parametrize("sign", SIGNS)
def test_mermaid_gets_signs_as_numbers(sign: str) -> None:
    assert f'["0/res/0<br/>a #{ord(sign)}; b"]' in mermaid(labelled(f"a {sign} b"))


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("cat, cats → at", "cat, cats → at"),
        ("🙂 日本 é", "🙂 日本 é"),
        ("0.5 and 1. one", "0.5 and 1#46; one"),
        ("a\nb", "a#92;\N{ZERO WIDTH SPACE}nb"),
        ("$$x$$", "#36;\N{ZERO WIDTH SPACE}#36;x#36;\N{ZERO WIDTH SPACE}#36;"),
        ("\x00\x1b[31m", "#92;x00#92;x1b#91;31m"),
        ("%%{init}%%", "#37;#37;#123;init#125;#37;#37;"),
    ],
)
def test_mermaid_finds_no_markup_in_a_label(label: str, shown: str) -> None:
    assert f'["0/res/0<br/>{shown}"]' in mermaid(labelled(label))


def test_a_column_named_label_stands_on_the_edge() -> None:
    graph = labelled("a", "b")
    graph.edges["0/res/0", "1/res/0"].update(label='"x"', cosine=0.5)
    assert 'f0 -->|"#34;x#34;"| f1' in mermaid(graph)
    assert '-> "1/res/0" [label="\\"x\\"" cosine=0.5]' in dot(graph)


def test_mermaid_refuses_what_nobody_could_read() -> None:
    assert mermaid(star(200)).count("-->") == 200
    with pytest.raises(UsageError, match="201 edges are too many for mermaid, at most 200 can be read"):
        mermaid(star(201))
    with pytest.raises(UsageError, match=r"--format dot, graphml or gexf"):
        mermaid(star(201))


def test_mermaid_refuses_what_it_would_not_draw_itself() -> None:
    with pytest.raises(UsageError, match=r"5\d,\d{3} characters are too many for mermaid"):
        mermaid(star(100, "word " * 100))
