"""A vector that a format cannot hold is refused with reason and hint, or approximated and marked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from featgraph import Graph, UsageError
from featgraph import export as formats
from featgraph.cli import app
from helpers.toy import D_MODEL

EXACT = {"safetensors", "npz", "json"}
OTHERS = [name for name in formats.FORMATS if name not in EXACT and name != "neuronpedia"]


@pytest.mark.parametrize("format", OTHERS)
def test_attention_of_sequential_blocks_is_refused_or_marked(
    graph: Graph, tmp_path: Path, format: str
) -> None:
    vector = graph.steering_vector("1/att/0")
    with pytest.raises(UsageError) as caught:
        formats.write(vector, tmp_path / "v", format)
    assert (
        f"{format} cannot hold this vector: '1/att/0' is added between attention and mlp of block 1"
        in str(caught.value)
    )
    assert "leave att features out, or take the closest approximation with --approximate" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    written = formats.write(vector, tmp_path / "v", format, approximate=True)
    assert "so the block's mlp does not see it" in written.approximations[0]


def test_an_approximation_adds_middle_vectors_to_the_block_output(graph: Graph, tmp_path: Path) -> None:
    vector = graph.steering_vector(["1/att/0", "1/res/1"])
    formats.write(vector, tmp_path / "v.gguf", "gguf", approximate=True)
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    [tensor] = reader.tensors
    assert tensor.name == "direction.1"
    np.testing.assert_array_equal(tensor.data, vector.layers[1] + vector.middles[1])
    [said] = json.loads(reader.fields["featgraph.approximate"].contents())
    assert said.startswith(
        "'1/att/0' is added between attention and mlp of block 1, and llama.cpp adds after"
    )


def test_an_exact_file_has_no_approximation_mark(graph: Graph, tmp_path: Path) -> None:
    formats.write(graph.steering_vector("1/res/0"), tmp_path / "v.gguf", "gguf", approximate=True)
    assert "featgraph.approximate" not in gguf.GGUFReader(tmp_path / "v.gguf").fields


@pytest.mark.parametrize("format", [name for name in OTHERS if name != "easysteer"])
@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_a_choice_of_tokens_is_refused_or_marked(
    graph: Graph, tmp_path: Path, format: str, positions: Any
) -> None:
    vector = graph.steering_vector("1/res/0", positions=positions)
    with pytest.raises(UsageError, match=f"it steers {positions} tokens, and {format} does not say which"):
        formats.write(vector, tmp_path / "v", format)
    written = formats.write(vector, tmp_path / "v", format, approximate=True)
    assert written.approximations[0].endswith("here it steers all tokens")


def test_a_choice_of_tokens_is_in_the_metadata_of_our_own_formats(graph: Graph, tmp_path: Path) -> None:
    vector = graph.steering_vector("1/res/0", positions="generated")
    formats.write(vector, tmp_path / "v.safetensors", "safetensors")
    with safe_open(tmp_path / "v.safetensors", framework="np") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["settings"])["positions"] == "generated"
    assert "approximate" not in metadata


@pytest.mark.parametrize("format", [name for name in formats.FORMATS if name != "json"])
@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"mode": "ablate"}, "mode ablate"),
        ({"mode": "rescale", "scale": -2.0}, "mode rescale"),
        ({"mode": "min-clamp"}, "mode min-clamp"),
        ({"mode": "clamp", "positions": "prompt"}, "mode clamp"),
        ({"positions": "firing"}, "positions firing"),
    ],
)
def test_only_a_plan_holds_steering_by_activations(
    graph: Graph, tmp_path: Path, format: str, settings: Any, what: str
) -> None:
    vector = graph.steering_vector("1/res/0", **settings)
    for approximate in (False, True):
        with pytest.raises(UsageError) as caught:
            formats.write(vector, tmp_path / "v", format, approximate=approximate)
        assert str(caught.value) == (
            f"{what} depends on SAE activations at each token, which {format} cannot hold; "
            "use --format json, a plan for `featgraph steer --plan`"
        )


@pytest.mark.parametrize("format", ["gguf", "svec"])
def test_a_block_out_of_a_formats_reach_is_refused_even_nearly(
    graph: Graph, tmp_path: Path, format: str
) -> None:
    block = {"gguf": 0, "svec": 2}[format]
    with pytest.raises(
        UsageError, match=rf"'{block}/att/0' writes after block {block}, and .* use --format saf"
    ):
        formats.write(graph.steering_vector(f"{block}/att/0"), tmp_path / "v", format, approximate=True)


@pytest.mark.parametrize("format", list(formats.FORMATS))
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({3: np.ones(D_MODEL)}, "the vector writes after block 3, but toy has blocks 0 to 2; leave it out"),
        ({-1: np.ones(D_MODEL)}, "the vector writes after block -1, but toy has blocks 0 to 2"),
        ({1: np.ones(D_MODEL + 1)}, "the vector of layer 1 has 7 numbers, but d_model of toy is 6"),
        ({1: np.zeros(D_MODEL)}, "every vector is 0 at scale 1, so nothing is steered"),
        ({}, "every vector is 0 at scale 1, so nothing is steered"),
        ({1: np.full(D_MODEL, np.nan)}, "the vector of layer 1 has NaN or infinite values"),
    ],
)
def test_numbers_that_steer_nothing_are_refused(
    graph: Graph, tmp_path: Path, format: str, layers: Any, message: str
) -> None:
    vector = graph.steering_vector("1/res/0")
    as_float = {block: values.astype(np.float32) for block, values in layers.items()}
    with pytest.raises(UsageError) as caught:
        formats.write(replace(vector, layers=as_float, members=()), tmp_path / "v", format)
    assert str(caught.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_extra_keys_are_for_plans(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only json takes extra keys, not gguf"):
        formats.write(graph.steering_vector("1/res/0"), tmp_path / "v", "gguf", extra={"a": 1})


# ---- the command


def export(toy: Path, *arguments: object) -> Any:
    return CliRunner().invoke(app, ["export", str(toy), *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["1/res/0", "-o", "v.gguff"],
            "no export format 'gguff'; did you mean 'gguf'? formats are gguf, safe",
        ),
        (["1/res/0", "-o", "v", "--format", "repang"], "no export format 'repang'; did you mean 'repeng'?"),
        (["1/res/0", "-o", "v", "--format", ""], "no export format ''; formats are gguf"),
        (["1/res/0", "-o", "v"], "'v' names no format; give --format, one of gguf, safetensors"),
        (["0/res/0", "-o", "v.gguf"], "llama.cpp drops a control vector file with direction.0"),
        (["1/res/0", "-o", "v.gguf", "--layers", "7"], "no vector in layers 7 to 7"),
        (["1/res/0", "-o", "v.gguf", "--scale", "nan"], "scale is nan; give a finite number"),
        (["1/res/0", "-o", "v.gguf", "--scale", "0"], "every vector is 0 at scale 0"),
        (["1/res/0", "-o", "v.gguf", "--mode", "ablate"], "mode ablate depends on SAE activations"),
        (["1/att/0", "-o", "v.svec"], "svec cannot hold this vector"),
        (
            ["1/res/0", "2/res/0", "-o", "v", "--format", "attribution-graph"],
            "holds the lineage of one feature",
        ),
        (["1/res/0", "-o", "v", "--format", "attribution-graph", "--scale", "2"], "takes no --scale"),
    ],
)
def test_the_command_says_what_is_wrong(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = export(toy, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_reports_approximations(toy: Path, tmp_path: Path) -> None:
    done = export(toy, "1/att/0", "--approximate", "-o", tmp_path / "v.gguf")
    first, second = done.stderr.splitlines()
    assert (done.exit_code, first) == (0, f"featgraph: wrote {tmp_path / 'v.gguf'}: layer 1 of toy")
    assert second.startswith(
        "featgraph: approximate: '1/att/0' is added between attention and mlp of block 1"
    )


@pytest.mark.thorough
def test_the_command_names_few_files_and_counts_many(toy: Path, tmp_path: Path) -> None:
    done = export(toy, "1/res/0", "--where", "cumulative", "--format", "caa", "-o", tmp_path / "v")
    assert done.stderr == f"featgraph: wrote 3 files to {tmp_path / 'v'}: layers 0, 1, 2 of toy\n"
    done = export(toy, "1/res/0", "--format", "easysteer", "-o", tmp_path / "e")
    assert done.stderr == f"featgraph: wrote {tmp_path}/e.gguf, {tmp_path}/e.json: layer 1 of toy\n"


def test_the_help_of_export_names_every_format() -> None:
    text = " ".join(CliRunner().invoke(app, ["export", "--help"]).stdout.split())
    assert [name for name in [*formats.FORMATS, *formats.LINEAGE_FORMATS] if f"{name}" not in text] == []
