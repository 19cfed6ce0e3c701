"""The picture of the features active on a text, from the command and from rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from featgraph import Graph
from featgraph.cli import app
from featgraph.output.pictures import picture_of
from helpers.lit_suite import Suite
from helpers.pictures import parsed, texts, with_class

FORMATS = {"svg": b"<svg", "png": b"\x89PNG\r\n", "html": b"<!doctype html>"}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(svg: str) -> list[str]:
    return [one.text for one in texts(parsed(svg))]


@pytest.mark.thorough
def test_every_token_shows_its_strongest_features(suite: Suite, graph: Graph, tmp_path: Path) -> None:
    done = call("activate", suite.graph, "the cat sat", "--min", "0.2", "-q", "--format", "svg")
    assert done.exit_code == 0, done.stderr
    told = words(done.stdout)
    assert {"the", "cat", "sat"} <= set(told)
    rows = json.loads(
        call("activate", suite.graph, "the cat sat", "-q", "--format", "json", "-k", "1").stdout
    )
    drawn = {mark.get("data-key") for mark in with_class(parsed(done.stdout), "active")}
    assert {row["key"] for row in rows if row["share"] is not None} <= drawn
    for format, start in FORMATS.items():
        out = tmp_path / f"a.{format}"
        assert call("activate", suite.graph, "the cat", "-q", "-o", out).exit_code == 0
        assert out.read_bytes().startswith(start)
    assert with_class(parsed(picture_of(graph.activate("the cat"), graph.store).svg), "active")
