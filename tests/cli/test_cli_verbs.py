"""The options of verbs that others do not have, and what their commands say to a wrong call."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from featgraph.cli import app
from featgraph.query import VERBS
from helpers.toy import D_MODEL


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(*arguments: object) -> list[dict[str, object]]:
    """The rows that a command prints as JSON."""
    done = call(*arguments, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_neighbors_pass_two_thresholds(toy: Path) -> None:
    found = rows("neighbors", toy, "1/res/0", "--writer-min", "0.1", "--min", "0.7")
    assert [row["key"] for row in found] == ["0/res/0", "1/mlp/1", "1/mlp/2", "2/res/0"]


def test_paths_are_as_many_as_asked_for_and_by_what_is_asked_for(toy: Path) -> None:
    asked = ("paths", toy, "0/res/1", "2/res/1")
    assert [row["keys"] for row in rows(*asked)] == [["0/res/1", "1/res/1", "2/res/1"]]
    assert [row["score"] for row in rows(*asked, "-k", "3", "--score", "sum")] == [1.6, 1.6]
    assert rows("paths", toy, "0/mlp/1", "2/res/0", "--writer-min", "0.8") == []


@pytest.mark.thorough
def test_flow_goes_from_a_layer_to_a_layer(toy: Path) -> None:
    pairs = [
        [(row["layer_a"], row["layer_b"]) for row in rows("flow", toy, *ends)] for ends in ((), (1,), (0, 1))
    ]
    assert pairs == [[(0, 1), (1, 2)], [(1, 2)], [(0, 1)]]


def test_events_go_by_evidence_when_asked(toy: Path) -> None:
    assert [row["key"] for row in rows("births", toy, "--by", "coactive", "--min", "0.5")] == [
        "1/res/3",
        "2/res/3",
    ]
    assert [row["key"] for row in rows("births", toy, "--min", "0.5")] == ["1/res/3", "2/res/2", "2/res/3"]


def test_a_verb_stops_when_it_is_told_to(toy: Path) -> None:
    done = call("splits", toy, "--timeout", "0.000000001")
    assert done.exit_code == 1
    assert "--timeout" in done.stderr
    assert rows("splits", toy, "--timeout", "0") == rows("splits", toy)


@pytest.mark.thorough
def test_every_verb_that_is_sql_takes_a_timeout() -> None:
    for verb in VERBS.values():
        if not verb.computed and verb.name != "lineage":
            assert "--timeout" in call(verb.name, "--help").stdout


def test_similar_takes_a_direction_from_a_file(toy: Path, tmp_path: Path) -> None:
    vector = np.eye(D_MODEL)[2]
    np.save(tmp_path / "one.npy", vector)
    (tmp_path / "two.json").write_text(json.dumps((2 * vector).tolist()))
    found = rows("similar", toy, "--vector", tmp_path / "one.npy", "-k", "2")
    assert found == rows("similar", toy, "--vector", tmp_path / "two.json", "-k", "2")
    assert len(found) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["similar", "TOY"], "give exactly one of a feature key, a vector and a text, got 0"),
        (
            ["similar", "TOY", "1/res/0", "--text", "a"],
            "give exactly one of a feature key, a vector and a text, got 2",
        ),
        (["similar", "TOY", "--vector", "none.npy"], "there is no file none.npy to read a vector from"),
        (
            ["paths", "TOY", "0/res/1", "2/res/1", "-k", "0"],
            "k = 0 is too small; give a whole number from 1 up",
        ),
        (["paths", "TOY", "0/res/1", "2/res/9"], "no feature '2/res/9'"),
        (["neighbors", "TOY", "0/rse/1"], "did you mean 'res'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_ends_with_2_and_says_why(toy: Path, arguments: list[str], message: str) -> None:
    done = call(*(str(toy) if word == "TOY" else word for word in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
