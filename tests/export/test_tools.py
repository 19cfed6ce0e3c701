"""Files for other tools, read as those tools read them: the numbers are there, under their block's name."""

import ast
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from featgraph import Graph, UsageError, export
from featgraph.core.arrays import Matrix
from featgraph.export.formats import FORMATS
from featgraph.export.module_paths import module_path
from featgraph.steering import Settings, SteeredModel, SteeringVector
from featgraph.suite.hooks import block_list
from helpers.real_models import gemma3, gemma3_multimodal, gpt2, gpt_neox, llama
from helpers.toy import D_MODEL

N_LAYERS = 5
MODEL = SteeredModel("org/toy-model", "llama", D_MODEL, N_LAYERS)

FLOATS = arrays(np.float32, D_MODEL, elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
SOME = st.dictionaries(st.integers(1, N_LAYERS - 2), FLOATS, min_size=1).filter(
    lambda layers: any(values.any() for values in layers.values())
)


def steering(layers: dict[int, Matrix], **settings: Any) -> SteeringVector:
    return SteeringVector(dict(sorted(layers.items())), (), Settings(**settings), MODEL)


# ---- one reader per format, as its tool reads


def directions(path: Path) -> dict[int, Matrix]:
    return {int(tensor.name.split(".")[1]): tensor.data for tensor in gguf.GGUFReader(path).tensors}


def by_layer(tensors: dict[str, Any]) -> dict[int, Matrix]:
    return {int(name.removeprefix("layer.")): values for name, values in tensors.items()}


def read_npz(path: Path) -> dict[int, Matrix]:
    with np.load(path, allow_pickle=False) as opened:
        return by_layer({name: opened[name] for name in opened.files if name != "metadata"})


def read_json(path: Path) -> dict[int, Matrix]:
    layers = json.loads(path.read_text())["layers"]
    return {int(block): np.array(values, dtype=np.float32) for block, values in layers.items()}


def read_repeng(path: Path) -> dict[int, Matrix]:
    """Those of all blocks that are not nothing."""
    return {block: values for block, values in directions(path).items() if values.tobytes().strip(b"\0")}


def read_svec(path: Path) -> dict[int, Matrix]:
    """Added to what a block reads, so to what the one before it has left."""
    content = json.loads(path.with_name("v.svec").read_text())
    found = {int(key): np.array(values) for key, values in content["directions"].items()}
    assert {int(key) for key in content["explained_variances"]} == set(found)
    return {block - 1: values.astype(np.float32) for block, values in found.items()}


def read_caa(path: Path) -> dict[int, Matrix]:
    found = {}
    for file in path.iterdir():
        named = re.fullmatch(r"vec_layer_(\d+)_toy(-model)?\.pt", file.name)
        assert named is not None
        found[int(named[1])] = torch.load(file, weights_only=True).numpy()
    return found


def read_easysteer(path: Path) -> dict[int, Matrix]:
    [spec] = json.loads(path.with_name("v.json").read_text())["vectors"]
    found = directions(path.with_name(spec["source"]))
    assert (spec["algorithm"], spec["scale"], spec["normalize"]) == ("direct", 1.0, False)
    return {block: found[block] for block in spec["layers"]}


READERS: dict[str, Callable[[Path], dict[int, Matrix]]] = {
    "gguf": directions,
    "safetensors": lambda path: by_layer(load_file(path)),
    "npz": read_npz,
    "json": read_json,
    "repeng": read_repeng,
    "steering-vectors": lambda path: by_layer(load_file(path.with_name("v.safetensors"))),
    "easysteer": read_easysteer,
    "svec": read_svec,
    "caa": read_caa,
}


@pytest.mark.thorough
@pytest.mark.parametrize("format", list(READERS))
@given(layers=SOME)
def test_every_format_holds_every_bit_under_its_name_of_the_block(
    tmp_path_factory: pytest.TempPathFactory, format: str, layers: dict[int, Matrix]
) -> None:
    path = tmp_path_factory.mktemp("v") / "v"
    export.write(steering(layers), path, format)
    zeros = {
        block for block, values in layers.items() if format == "repeng" and not values.tobytes().strip(b"\0")
    }
    assert {block: values.tobytes() for block, values in READERS[format](path).items()} == {
        block: values.tobytes() for block, values in layers.items() if block not in zeros
    }


@pytest.mark.parametrize("format", list(READERS))
def test_the_scale_is_in_the_numbers(graph: Graph, tmp_path: Path, format: str) -> None:
    scaled = graph.steering_vector({"1/res/1": 1.0, "1/mlp/0": -0.5}, scale=-2.5)
    export.write(scaled, tmp_path / "v", format)
    found = READERS[format](tmp_path / "v")
    assert list(found) == [1]
    once = graph.steering_vector({"1/res/1": 1.0, "1/mlp/0": -0.5}).layers[1]
    np.testing.assert_allclose(found[1], -2.5 * once, rtol=1e-6)


# ---- what the table says


def test_every_format_has_a_function_that_writes_it() -> None:
    for row in export.ALL_FORMATS.values():
        assert row.function().__doc__
        assert (row.unreachable or row.first_block) == 0 or row.why_unreachable


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("gguf", "direction.3"),
        ("safetensors", "layer.3"),
        ("repeng", "direction.3"),
        ("easysteer", "direction.3"),
        ("svec", "4"),
        ("neuronpedia", "3"),
        ("lm-eval", "layers.3"),
    ],
)
def test_the_table_names_the_output_of_a_block(format: str, name: str) -> None:
    assert FORMATS[format].layer(3, "llama") == name


@pytest.mark.parametrize("make", [llama, gpt2, gpt_neox, gemma3, gemma3_multimodal])
def test_a_hookpoint_is_a_module_below_the_base_model(make: Callable[[], Any]) -> None:
    model = make()
    kind = model.config.model_type
    assert module_path(kind) == block_list(model)
    hookpoint = FORMATS["lm-eval"].layer(1, kind)
    assert dict(model.base_model.named_modules())[hookpoint] is model.get_submodule(f"{block_list(model)}.1")


# ---- one tool each


def test_npz_carries_the_provenance_without_pickle(graph: Graph, tmp_path: Path) -> None:
    export.write(graph.steering_vector("1/res/0"), tmp_path / "v.npz", "npz")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as opened:
        metadata = json.loads(opened["metadata"].item())
    assert (metadata["format"], metadata["members"][0]["key"]) == ("featgraph.steering/3", "1/res/0")


@pytest.mark.parametrize("format", ["safetensors", "npz"])
def test_vectors_between_attention_and_mlp_have_their_own_names(
    graph: Graph, tmp_path: Path, format: str
) -> None:
    vector = graph.steering_vector(["1/att/0", "2/res/1"])
    written = export.write(vector, tmp_path / "v", format)
    assert written == export.Written((tmp_path / "v",))
    found: Any = load_file(tmp_path / "v") if format == "safetensors" else np.load(tmp_path / "v")
    assert found["middle.1"].tobytes() == vector.middles[1].tobytes()
    assert found["layer.2"].tobytes() == vector.layers[2].tobytes()


def test_repeng_finds_a_direction_for_every_block_the_first_included(tmp_path: Path) -> None:
    vector = steering({0: np.ones(D_MODEL, dtype=np.float32)})
    export.write(vector, tmp_path / "v.gguf", "repeng")
    found = directions(tmp_path / "v.gguf")
    assert {block: values.tolist() for block, values in found.items()} == {
        block: [1.0 if block == 0 else 0.0] * D_MODEL for block in range(N_LAYERS)
    }
    fields = gguf.GGUFReader(tmp_path / "v.gguf").fields
    assert fields["controlvector.model_hint"].contents() == "llama"


def test_steering_vectors_come_with_lines_that_load_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Loaded:  # the library's own, as its source has it; it cannot be installed beside this one
        layer_activations: dict[int, torch.Tensor]
        layer_type: str = "decoder_block"

    library = ModuleType("steering_vectors")
    monkeypatch.setattr(library, "SteeringVector", Loaded, raising=False)
    monkeypatch.setitem(sys.modules, "steering_vectors", library)
    layers = {block: np.full(D_MODEL, block, dtype=np.float32) for block in (1, 3)}
    written = export.write(steering(layers), tmp_path / "it's.v1", "steering-vectors")
    assert [path.name for path in written.paths] == ["it's.v1.safetensors", "it's.v1.py"]
    names: dict[str, Any] = {"__file__": str(tmp_path / "it's.v1.py")}
    exec(compile((tmp_path / "it's.v1.py").read_text(), "loader", "exec"), names)
    assert names["LAYER_CONFIG"] == {"decoder_block": "model.layers.{num}"}
    assert names["steering_vector"].layer_type == "decoder_block"
    activations = names["steering_vector"].layer_activations
    assert {block: values.tolist() for block, values in activations.items()} == {1: [1.0] * 6, 3: [3.0] * 6}


def test_a_loader_reports_approximations(graph: Graph, tmp_path: Path) -> None:
    export.write(graph.steering_vector("1/att/0"), tmp_path / "v", "steering-vectors", approximate=True)
    text = (tmp_path / "v.py").read_text()
    ast.parse(text)
    assert "# Approximate: '1/att/0' is added between attention and mlp of block 1" in text


@pytest.mark.parametrize(
    ("positions", "apply"),
    [
        ("all", {"prompt": "all", "generation": "all"}),
        ("prompt", {"prompt": "all"}),
        ("generated", {"generation": "all"}),
    ],
)
def test_easysteer_says_which_tokens(
    graph: Graph, tmp_path: Path, positions: Any, apply: dict[str, str]
) -> None:
    vector = graph.steering_vector("1/res/0", positions=positions)
    written = export.write(vector, tmp_path / "v.gguf", "easysteer")
    assert (written.paths, written.approximations) == ((tmp_path / "v.gguf", tmp_path / "v.json"), ())
    [spec] = json.loads((tmp_path / "v.json").read_text())["vectors"]
    assert (spec["source"], spec["layers"], spec["apply"]) == ("v.gguf", [1], apply)
    assert spec["name"] == "featgraph 1/res/0 at 1"


def test_svec_has_its_ending_and_reaches_no_output_of_the_last_block(graph: Graph, tmp_path: Path) -> None:
    written = export.write(graph.steering_vector("1/res/0"), tmp_path / "v", "svec")
    assert written.paths == (tmp_path / "v.svec",)
    content = json.loads((tmp_path / "v.svec").read_text())
    assert (content["model_type"], list(content["directions"])) == ("llama", ["2"])
    with pytest.raises(UsageError, match=r"'2/res/0' writes after block 2, and activation-steering adds"):
        export.write(graph.steering_vector("2/res/0"), tmp_path / "w", "svec")


def test_caa_goes_into_a_folder_that_holds_nothing_else(graph: Graph, tmp_path: Path) -> None:
    vector = graph.steering_vector("1/res/0", where="cumulative")
    export.write(vector, tmp_path / "vectors", "caa")
    export.write(vector, tmp_path / "vectors", "caa")
    names = {path.name for path in (tmp_path / "vectors").iterdir()}
    assert names == {f"vec_layer_{block}_toy.pt" for block in (0, 1, 2)}
    with pytest.raises(UsageError, match=r"holds 'vec_layer_0_toy\.pt', a file of another vector"):
        export.write(graph.steering_vector("1/res/0"), tmp_path / "vectors", "caa")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, and this format needs a folder"):
        export.write(vector, tmp_path / "file", "caa")


def test_a_missing_parent_folder_is_an_error(tmp_path: Path) -> None:
    vector = steering({1: np.ones(D_MODEL, dtype=np.float32)})
    with pytest.raises(UsageError, match=r"cannot write .*absent/v: no such file or directory"):
        export.write(vector, tmp_path / "absent" / "v", "caa")
    assert list(tmp_path.iterdir()) == []


def test_of_several_files_all_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "v.json").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*v\.json: is a directory"):
        export.write(steering({1: np.ones(D_MODEL, dtype=np.float32)}), tmp_path / "v", "easysteer")
    assert [path.name for path in tmp_path.iterdir()] == ["v.json"]
