"""The features active on a text: features and lineages by token, against brute force; the picture; errors."""

import io
import json
import re
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from typer.testing import CliRunner

import featgraph
from featgraph import Graph, SourceError, UsageError
from featgraph.cli import app
from featgraph.features import (
    ActiveFeatures,
    ActiveLineage,
    FeatureFilter,
    active_features,
    find_active_lineages,
)
from featgraph.output import activation_picture
from featgraph.output.activation_picture import write_picture
from helpers.lit_suite import WIDTH, Suite

TEXT = "the cat sat on the mat and the dog ran to the park to play with a red ball"
"""Longer than one piece of the small suite."""


def call(*arguments: object, text: str | None = None) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def expected(suite: Suite, graph: Graph, site: str) -> list[tuple[int, str, float, float]]:
    """Token, key, activation and share of all that is active, from dense codes; strongest first."""
    largest = dict(graph.store.rows("select key, max_activation from feature"))
    found = []
    for (layer, place), codes in suite.dense(TEXT).items():
        for token, idx in np.argwhere(codes != 0).tolist():
            key, activation = f"{layer}/{place}/{idx}", float(codes[token, idx])
            if place == site and largest[key]:
                found.append((token, key, activation, activation / largest[key]))
    return sorted(found, key=lambda row: (row[0], -row[3]))


@pytest.mark.thorough
@pytest.mark.parametrize("site", ["res", "mlp", "att"])
def test_every_active_feature_is_lit_as_dense_codes_say(suite: Suite, graph: Graph, site: str) -> None:
    wanted = expected(suite, graph, site)
    rows: list[dict[str, Any]] = graph.activate(TEXT, site=site, per_token=1000, min_share=0).dicts()
    rows = [row for row in rows if row["share"] is not None]
    assert len(rows) == len(wanted)
    shares = {(row["token_index"], row["key"]): (row["activation"], row["share"]) for row in rows}
    for token, key, activation, share in wanted:
        assert shares[token, key] == pytest.approx((activation, share), rel=1e-3), (token, key)
    order = [(row["token_index"], -row["share"]) for row in rows]
    assert order == sorted(order)


def test_tokens_are_those_of_the_text_without_bos(suite: Suite, graph: Graph) -> None:
    rows = graph.activate(TEXT, per_token=1, min_share=0).dicts()
    ids = suite.ids(TEXT)
    assert len(ids) > WIDTH
    assert [row["token_index"] for row in rows] == list(range(len(ids)))
    assert [row["token"] for row in rows] == [suite.tokenizer.decode([id]) for id in ids]


def test_special_tokens_in_a_text_are_left_out_but_keep_their_place(suite: Suite, graph: Graph) -> None:
    text = "the cat<|endoftext|> the dog"
    rows = graph.activate(text, per_token=1, min_share=0).dicts()
    special = suite.tokenizer.bos_token_id
    assert suite.ids(text).count(special) == 1
    counted = [place for place, id in enumerate(suite.ids(text)) if id != special]
    assert [row["token_index"] for row in rows] == counted


@pytest.mark.thorough
def test_only_what_is_asked_for_is_lit(graph: Graph) -> None:
    asked: dict[str, Any] = {"per_token": 1000, "min_share": 0.0}
    whole: list[dict[str, Any]] = graph.activate(TEXT, **asked).dicts()
    density = dict(graph.store.rows("select key, density from feature"))
    half = [row for row in whole if row["share"] is not None and row["share"] >= 0.5]
    assert graph.activate(TEXT, per_token=1000, min_share=0.5).dicts() == half
    part = graph.activate(TEXT, **asked, layers=(1, 1), max_density=0.3).dicts()
    assert part == [row for row in whole if row["layer"] == 1 and density[row["key"]] <= 0.3]
    both = graph.activate(TEXT, **asked, site=None).dicts()
    assert {row["site"] for row in both} == {"att", "mlp", "res"}
    first = graph.activate(TEXT, min_share=0.0, per_token=2).dicts()
    assert first == [row for number, row in enumerate(whole) if _rank(whole, number) < 2]


def _rank(rows: list[dict[str, Any]], number: int) -> int:
    token = rows[number]["token_index"]
    return sum(row["token_index"] == token for row in rows[:number])


# ---- lineages


@pytest.mark.parametrize("least", [0.0, 0.2, 0.4])
def test_lineages_are_what_best_parents_join(graph: Graph, least: float) -> None:
    active = active_features(graph.store, TEXT, min_share=0.1)
    names = dict(graph.store.rows("select id, key from feature"))
    active_there = {
        (token, id): share
        for token, id, share in zip(
            active.token.tolist(), active.feature.tolist(), active.share.tolist(), strict=True
        )
    }
    best = graph.store.rows(
        "select src, dst, cosine from edge where kind = 'res_res' qualify row_number() over "
        "(partition by dst order by cosine desc, src) = 1"
    )
    joined = nx.Graph()
    joined.add_nodes_from(id for _, id in active_there)
    for src, dst, cosine in best:
        if cosine >= np.float32(least) and any(
            (token, src) in active_there and (token, dst) in active_there for token, _ in active_there
        ):
            joined.add_edge(src, dst)
    wanted = set()
    for component in nx.connected_components(joined):
        for token in {token for token, _ in active_there}:
            members = sorted(id for id in component if (token, id) in active_there)
            if len(members) > 1:
                wanted.add((token, tuple(names[id] for id in members)))
    found = graph.activate(TEXT, lineages=True, min=least, min_share=0.1, per_token=1000).dicts()
    assert {(row["token_index"], tuple(row["members"])) for row in found} == wanted  # type: ignore[arg-type]
    assert wanted


@pytest.mark.thorough
def test_a_lineage_row_tells_span_share_and_label(graph: Graph) -> None:
    active = active_features(graph.store, TEXT, min_share=0.1)
    share = {
        (place, id): value
        for place, id, value in zip(
            active.token.tolist(), active.feature.tolist(), active.share.tolist(), strict=True
        )
    }
    ids: dict[str, int] = {key: id for id, key in graph.store.rows("select id, key from feature")}
    rows: list[dict[str, Any]] = graph.activate(TEXT, lineages=True, min=0.2, min_share=0.1).dicts()
    for row in rows:
        layers = [int(key.split("/")[0]) for key in row["members"]]
        shares = [share[row["token_index"], ids[key]] for key in row["members"]]
        assert (row["first_layer"], row["last_layer"], row["n"]) == (min(layers), max(layers), len(layers))
        assert row["mean_share"] == pytest.approx(np.mean(shares))
        strongest = row["members"][int(np.argmax(shares))]
        labels = graph.store.rows("select text from label where feature = $id", {"id": ids[strongest]})
        assert (row["label"],) in labels
    tokens = [row["token_index"] for row in rows]
    assert max(tokens.count(token) for token in tokens) <= 3


def test_a_lineage_has_one_name_on_all_tokens(graph: Graph) -> None:
    rows: list[dict[str, Any]] = graph.activate(TEXT, lineages=True, min=0.2, per_token=1000).dicts()
    owner: dict[str, str] = {}
    for row in rows:
        for key in row["members"]:
            assert owner.setdefault(key, row["lineage"]) == row["lineage"]
    assert "A" in owner.values()


# ---- the picture


def drawn(
    active: ActiveFeatures, lineages: list[ActiveLineage], capsys: pytest.CaptureFixture[str], **named: Any
) -> str:
    write_picture(active, lineages, **named)
    return capsys.readouterr().out


def hand_made() -> tuple[ActiveFeatures, list[ActiveLineage]]:
    """Two tokens, three layers: a lineage of 10, 20 and 30 on the first, 11 alone on the second."""
    active = ActiveFeatures(
        [" cat", "\n"],
        [0, 1],
        np.array([0, 0, 0, 1]),
        np.array([10, 20, 30, 11]),
        np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32),
        np.array([0.3, 0.5, 0.9, 0.7], dtype=np.float32),
        np.array([0, 1, 2, 0]),
        [0, 1, 2],
    )
    members = [(10, 0.3, 0), (20, 0.5, 1), (30, 0.9, 2)]
    return active, [ActiveLineage("A", {0: members}, "2/res/0", "cats\n")]


def test_a_picture_has_tokens_down_layers_across_and_a_letter_for_each_lineage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert drawn(*hand_made(), capsys).splitlines() == [
        "      0  1  2",
        "cat  .A -A #A",
        "'\\n' ++      ",
        "",
        "share of the largest activation, from: . 0  - 0.4  + 0.6  # 0.8",
        "A  layers 0 to 2, mean share 0.57, 2/res/0  cats\\n",
    ]


def test_a_narrow_screen_gets_bands_of_layers(capsys: pytest.CaptureFixture[str]) -> None:
    active, lineages = hand_made()
    text = drawn(active, lineages, capsys, width=11)
    assert max(map(len, text.splitlines())) <= 11
    heads = [line for line in text.splitlines() if re.fullmatch(r"[ 0-9]+", line) and line.strip()]
    assert [head.split() for head in heads] == [["0", "1"], ["2"]]


class Terminal(io.StringIO):
    """A screen of a given encoding."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "shades"), [("utf-8", activation_picture.BLOCKS), ("ascii", activation_picture.PLAIN)]
)
def test_blocks_are_for_terminals_that_have_them(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shades: str
) -> None:
    screen = Terminal()
    monkeypatch.setattr(Terminal, "encoding", encoding)
    monkeypatch.setattr("sys.stdout", screen)
    write_picture(*hand_made(), width=80)
    assert f" {shades[3]}A" in screen.getvalue()
    assert screen.getvalue().isascii() == (encoding == "ascii")


def test_no_token_without_a_lineage_breaks_the_picture(
    capsys: pytest.CaptureFixture[str], graph: Graph
) -> None:
    active = active_features(graph.store, TEXT, min_share=0.99)
    text = drawn(active, [], capsys)
    assert len(text.splitlines()) == 2 + len(active.tokens) + 1


@pytest.mark.thorough
def test_the_picture_of_a_text_names_lineages_as_the_table_does(suite: Suite, graph: Graph) -> None:
    asked = ["activate", suite.graph, TEXT, "--min", "0.2", "-q"]
    done = call(*asked, "--picture")
    assert done.exit_code == 0, done.stderr
    legend = {line.split()[0]: line for line in done.stdout.splitlines() if " mean share " in line}
    rows = json.loads(call(*asked, "--lineages", "-k", "1000", "--format", "json").stdout)
    assert legend
    assert set(legend) <= {row["lineage"] for row in rows}
    lineages = find_active_lineages(graph.store, active_features(graph.store, TEXT), min=0.2)
    for lineage in lineages:
        if lineage.name in legend:
            assert f"{lineage.mean_share:.2f}, {lineage.key}" in legend[lineage.name]


def test_a_text_may_light_nothing(graph: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    active = active_features(graph.store, "the cat", feature_filter=FeatureFilter("res", max_density=0.0))
    assert len(active.feature) == 0
    assert find_active_lineages(graph.store, active) == []
    assert drawn(active, [], capsys).splitlines()[1].strip() == "the"
    assert len(graph.activate("the cat", max_density=0.0)) == 0


# ---- the command


def test_the_command_prints_what_python_answers(suite: Suite, graph: Graph) -> None:
    options = [
        "--per-token",
        "2",
        "--min-share",
        "0.3",
        "--site",
        "all",
        "--layers",
        "0-1",
        "--format",
        "json",
    ]
    done = call("activate", suite.graph, "-", *options, text=TEXT)
    assert done.exit_code == 0, done.stderr
    wanted = graph.activate(TEXT, per_token=2, min_share=0.3, site=None, layers=(0, 1)).dicts()
    found = json.loads(done.stdout)
    assert [row["key"] for row in found] == [row["key"] for row in wanted]
    assert list(found[0]) == graph.activate(TEXT).columns


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["", "-q"], 2, "the text '' is empty; give some words"),
        ([" \n "], 2, "is empty; give some words"),
        (["<|endoftext|>"], 2, "has no tokens"),
        (["a", "--picture", "--format", "json"], 2, "--picture takes none of"),
        (
            ["a", "--lineages", "--site", "mlp"],
            2,
            "--lineages needs residual features, not --site",
        ),
        (["a", "--layers", "5"], 2, "no SAEs in layers 5 to 5; they are at 0 to 2"),
        (["a", "--layers", "x"], 2, "'x' is not a range of layers"),
        (["a", "--per-token", "0"], 2, "per-token"),
        (["a", "--site", "reS"], 2, "--site"),
    ],
)
def test_the_command_says_what_is_wrong(suite: Suite, arguments: list[str], code: int, message: str) -> None:
    done = call("activate", suite.graph, *arguments)
    assert done.exit_code == code, done.stderr
    assert message in done.stderr


@pytest.mark.thorough
def test_a_graph_without_a_text_has_no_active_features(toy: Path) -> None:
    with (
        featgraph.open(toy) as graph,
        pytest.raises(SourceError, match="was made without a text, so"),
    ):
        graph.activate("a cat")
    assert call("activate", toy, "a cat").exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site": "rse"}, "no site 'rse'; did you mean 'res'?"),
        ({"min_share": 2}, "min_share = 2 is out of range: 0 to 1"),
        ({"per_token": 0}, "per_token = 0 is too small"),
        ({"lineages": True, "min": 3}, "min = 3 is out of range"),
        ({"max_density": -1}, "max_density = -1 is out of range"),
    ],
)
def test_python_is_told_what_is_wrong(graph: Graph, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        graph.activate("the cat", **arguments)
    assert message in str(caught.value)
