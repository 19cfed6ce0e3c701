"""Answers as pictures: which rows make which, in every format, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import featgraph
from featgraph import UsageError, output
from featgraph.cli import app
from featgraph.core.result import Result
from featgraph.features import ActiveFeatures, ActiveLineage
from featgraph.output.pictures import lens_picture, lineage_picture, picture_of
from helpers.pictures import parsed, texts, with_class

FORMATS = {"svg": b"<svg", "png": b"\x89PNG\r\n", "html": b"<!doctype html>"}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(svg: str) -> list[str]:
    return [one.text for one in texts(parsed(svg))]


def keys(svg: str) -> list[str | None]:
    return [node.get("data-key") for node in with_class(parsed(svg), "node")]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "command",
    [
        ["lineage", "1/res/0"],
        ["subgraph", "1/res/0"],
        ["flow"],
        ["run", "persistence"],
        ["query", "MATCH p = (a '0/res/1')->{1,2}(b) RETURN keys(p)"],
        ["query", "MATCH (a)-[e:res_res]->(b) RETURN a.id AS src, b.id AS dst, e.cosine"],
    ],
)
def test_every_format_of_every_picture(toy: Path, tmp_path: Path, command: list[str], format: str) -> None:
    name, *rest = command
    named, asked = (tmp_path / f"a.{format}", tmp_path / "b")
    for out, options in ((named, []), (asked, ["--format", format])):
        done = call(name, toy, *rest, "-o", out, *options)
        assert done.exit_code == 0, done.stderr
    assert named.read_bytes().startswith(FORMATS[format])
    assert named.read_bytes() == asked.read_bytes()


@pytest.mark.thorough
def test_svg_goes_to_stdout_as_it_goes_to_a_file(toy: Path, tmp_path: Path) -> None:
    done = call("lineage", toy, "1/res/0", "--format", "svg")
    call("lineage", toy, "1/res/0", "-o", tmp_path / "a.svg")
    assert done.stdout == (tmp_path / "a.svg").read_text(encoding="utf-8")
    with featgraph.open(toy) as graph:
        assert graph.lineage("1/res/0").draw() == done.stdout


def test_links_of_an_answer_are_its_features_and_no_others(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        result = graph.sql("MATCH p = (a '0/res/1')->{2}(b) RETURN keys(p)")
        svg = picture_of(result, graph.store).svg
        assert keys(svg) == ["0/res/1", "1/res/1", "1/res/2", "2/res/1"]
        links = with_class(parsed(svg), "link")
        assert {(link.get("data-src"), link.get("data-dst")) for link in links} == {
            ("0/res/1", "1/res/1"), ("0/res/1", "1/res/2"), ("1/res/1", "2/res/1"), ("1/res/2", "2/res/1"),
        }  # fmt: skip
        turned = Result(["src", "dst"], [("1/res/1", "0/res/1")], ["VARCHAR", "VARCHAR"])
        (link,) = with_class(parsed(picture_of(turned, graph.store).svg), "link")
        assert (link.get("data-src"), link.get("data-dst")) == ("0/res/1", "1/res/1")


@pytest.mark.thorough
def test_flow_tells_what_the_verbs_count(toy: Path) -> None:
    told = words(call("flow", toy, "--min", "0.5", "--format", "svg").stdout)
    rows = json.loads(call("flow", toy, "--min", "0.5", "--format", "json").stdout)
    for row in rows:
        assert f"{row['n_births']} born" in told or not row["n_births"]
        assert f"{row['n_deaths']} die" in told or not row["n_deaths"]
    origins = {
        row["origin"] for row in json.loads(call("births", toy, "--min", "0.5", "--format", "json").stdout)
    }
    assert {text.removeprefix("born: ") for text in told if text.startswith("born: ")} == origins
    assert "threshold below chance" not in told
    assert "threshold below chance" in words(call("flow", toy, "--min", "0.1", "--format", "svg").stdout)


def test_persistence_has_a_chart_for_each_layer(toy: Path) -> None:
    svg = call("run", toy, "persistence", "-p", "low=0.2", "--format", "svg").stdout
    charts = with_class(parsed(svg), "panel")
    assert [next(one.text for one in texts(chart)) for chart in charts] == ["layer 0", "layer 1", "layer 2"]
    assert [len(with_class(chart, "series")) for chart in charts] == [2, 5, 3]
    assert "below chance" in words(svg)


def test_lineages_on_a_text_have_colours(toy: Path) -> None:
    import numpy as np

    from helpers.toy import ids

    id = ids()
    chain = [id["0/res/0"], id["1/res/0"], id["2/res/0"]]
    share = np.array([0.5, 0.9, float("nan")], dtype=np.float32)
    active = ActiveFeatures(
        [" cat"], [0], np.zeros(3, int), np.array(chain), share, share, np.arange(3), [0, 1, 2]
    )
    lineages = [ActiveLineage("A", {0: [(chain[0], 0.5, 0), (chain[1], 0.9, 1)]}, "1/res/0", "cats")]
    with featgraph.open(toy) as graph:
        root = parsed(lens_picture(graph.store, " cat", active, lineages).svg)
    assert [mark.get("data-lineage") for mark in with_class(root, "active")] == ["0", "0"]
    assert [mark.get("data-key") for mark in with_class(root, "active")] == ["1/res/0", "0/res/0"]


REFUSED = [
    (["births"], "do not say it; return src and dst"),
    (["query", "select 'a' as src, '0/res/0' as dst"], "'a' is no feature of"),
    (["query", "select '0/res/1' as src, '0/res/0' as dst"], "0/res/0 and 0/res/1 are of one SAE"),
    (["query", "select null as layer, 0.5 as tau, 1 as n_persists, 1 as n_births, 1 as n_deaths, "
      "1 as n_splits, 1 as n_merges"], "column 'layer' holds None, which is no number"),
    (["query", "select 0 as layer_a, 1 as layer_b, 5 as n_a, 5 as n_b, 6 as n_persists, 0 as n_births, "
      "0 as n_deaths, 0 as n_splits, 0 as n_merges"], "no flow from layer to layer: layers 0 to 1: more"),
    (["lineage", "1/res/0", "--limit", "501"], "--limit 501 is too many for a picture: 500 at most"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_what_makes_no_picture_is_refused_and_nothing_is_written(
    toy: Path, tmp_path: Path, command: list[str], message: str
) -> None:
    name, *rest = command
    done = call(name, toy, *rest, "-o", tmp_path / "a.svg")
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_limit_cuts_a_lineage(toy: Path) -> None:
    assert len(keys(call("lineage", toy, "1/res/0", "--format", "svg", "--limit", "2").stdout)) == 2
    with featgraph.open(toy) as graph:
        assert len(keys(lineage_picture(graph.lineage("1/res/0"), 0).svg)) == 4


def test_too_many_links_are_refused(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featgraph.output.pictures.MOST", 3)
    with (
        featgraph.open(toy) as graph,
        pytest.raises(UsageError, match="4 features are too many for a picture"),
    ):
        picture_of(graph.subgraph("1/res/0", writers=False), graph.store)


def test_png_is_not_for_a_terminal(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with (
        featgraph.open(toy) as graph,
        pytest.raises(UsageError, match="png is binary and stdout is a terminal"),
    ):
        output.write_lineage(graph.lineage("1/res/0"), "png")


def test_without_resvg_the_message_says_what_to_install(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "resvg_py", None)
    done = call("lineage", toy, "1/res/0", "-o", tmp_path / "a.png")
    assert done.exit_code == 2
    assert "featgraph[png]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_empty_answers_are_pictures_that_say_so(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        empty = graph.sql("select src, dst from edge where false")
        assert words(picture_of(empty, graph.store).svg)[-1] == "no features"
        flow = graph.sql("from flow() where false")
        assert "no layers" in words(picture_of(flow, graph.store).svg)
