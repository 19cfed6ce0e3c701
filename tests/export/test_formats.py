import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from featgraph import Graph, UsageError, export
from featgraph.steering import SteeringVector
from helpers.toy import D_MODEL

AWKWARD = np.array([0.1, -0.0, 1e-45, 3.4e38, -1 / 3, 2.0**-126], dtype=np.float32)
"""Values that only survive if every bit does."""

ONE_FILE = ["gguf", "safetensors", "npz", "json", "repeng"]
"""Formats of one file whose name is free."""


@pytest.fixture(scope="module")
def vector(graph: Graph) -> SteeringVector:
    made = graph.steering_vector(["1/mlp/0", "1/res/3", "2/res/3"], scale=-0.3, unit="max-act")
    return replace(made, layers={1: made.layers[1], 2: AWKWARD})


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def read_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as opened:
        found: dict[str, str] = opened.metadata()
    return found


def test_every_format_has_a_purpose() -> None:
    assert [*export.FORMATS, *export.LINEAGE_FORMATS] == [
        "gguf",
        "safetensors",
        "npz",
        "json",
        "repeng",
        "steering-vectors",
        "easysteer",
        "lm-eval",
        "svec",
        "neuronpedia",
        "caa",
        "attribution-graph",
    ]
    assert all(row.purpose and row.tool for row in export.ALL_FORMATS.values())


def test_gguf_holds_every_bit_under_the_block_number(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.gguf", "gguf")
    _, tensors = read_gguf(tmp_path / "v.gguf")
    assert list(tensors) == ["direction.1", "direction.2"]
    assert tensors["direction.1"].data.tobytes() == vector.layers[1].tobytes()
    assert tensors["direction.2"].data.tobytes() == AWKWARD.tobytes()


def test_gguf_tensors_are_flat_float32(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.gguf", "gguf")
    _, tensors = read_gguf(tmp_path / "v.gguf")
    for tensor in tensors.values():
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [D_MODEL]


def test_gguf_has_the_keys_its_readers_ask_for(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.gguf", "gguf")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    fields, _ = read_gguf(tmp_path / "v.gguf")
    assert fields["GGUF.version"] == 3
    assert fields["general.architecture"] == "controlvector"
    assert fields["controlvector.model_hint"] == "llama"
    assert fields["controlvector.layer_count"] == 2
    assert reader.fields["controlvector.layer_count"].types == [gguf.GGUFValueType.UINT32]
    assert (reader.endianess, reader.alignment) == (gguf.GGUFEndian.LITTLE, 32)


def test_gguf_carries_the_provenance(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.gguf", "gguf")
    fields, _ = read_gguf(tmp_path / "v.gguf")
    members = json.loads(fields["featgraph.members"])
    assert [member["key"] for member in members] == ["1/mlp/0", "1/res/3", "2/res/3"]
    assert (fields["featgraph.model_id"], json.loads(fields["featgraph.settings"])["scale"]) == ("toy", -0.3)


def test_gguf_refuses_the_first_block_and_says_why(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export.write(graph.steering_vector("1/res/0", where="cumulative"), tmp_path / "v.gguf", "gguf")
    assert str(caught.value) == (
        "'0/res/0' writes after block 0, and llama.cpp drops a control vector file with direction.0; "
        "leave it out with --layers 1-2, or use --format safetensors"
    )
    assert list(tmp_path.iterdir()) == []


def test_gguf_of_nothing_but_the_first_block_points_to_safetensors(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"direction\.0; use --format safetensors$"):
        export.write(graph.steering_vector("0/mlp/1"), tmp_path / "v.gguf", "gguf")


def test_safetensors_holds_every_bit_under_the_block_number(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.safetensors", "safetensors")
    tensors = load_file(tmp_path / "v.safetensors")
    described = {name: (value.dtype.name, value.shape) for name, value in tensors.items()}
    assert described == {"layer.1": ("float32", (D_MODEL,)), "layer.2": ("float32", (D_MODEL,))}
    assert tensors["layer.1"].tobytes() == vector.layers[1].tobytes()
    assert tensors["layer.2"].tobytes() == AWKWARD.tobytes()


def test_safetensors_describes_itself(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.safetensors", "safetensors")
    metadata = read_metadata(tmp_path / "v.safetensors")
    assert metadata["format"] == "featgraph.steering/3"
    assert (metadata["model_id"], metadata["model_type"]) == ("toy", "llama")
    assert (metadata["hook"], metadata["scale_convention"]) == ("resid_post", "max_act")
    assert (json.loads(metadata["d_model"]), json.loads(metadata["settings"])["scale"]) == (D_MODEL, -0.3)


def test_safetensors_lists_its_features(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.safetensors", "safetensors")
    first = json.loads(read_metadata(tmp_path / "v.safetensors")["members"])[0]
    assert first == {
        "key": "1/mlp/0",
        "site": "mlp",
        "layer": 1,
        "feature": 0,
        "release": "toy",
        "sae_id": "1.mlp",
        "hook_name": "model.layers.1",
        "write_layer": 1,
        "point": "out",
        "coefficient": pytest.approx(-0.3),
        "target": None,
        "sae_number": 4,
        "sae_sha256": "sha of 1.mlp",
        "write_exact": True,
        "sign": -1,
        "weight": pytest.approx(-2.4),
        "decoder_norm": 2.0,
        "max_activation": 4.0,
        "cosine": None,
    }


@pytest.mark.parametrize(("unit", "convention"), [("raw", "raw_w_dec"), ("unit", "unit")])
def test_the_unit_is_written_as_its_convention(
    graph: Graph, tmp_path: Path, unit: Any, convention: str
) -> None:
    export.write(graph.steering_vector("0/res/0", unit=unit), tmp_path / "v.safetensors", "safetensors")
    assert read_metadata(tmp_path / "v.safetensors")["scale_convention"] == convention


def test_json_holds_every_bit_as_lists(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.json", "json")
    layers = json.loads((tmp_path / "v.json").read_text())["layers"]
    assert list(layers) == ["1", "2"]
    assert np.array(layers["1"], dtype=np.float32).tobytes() == vector.layers[1].tobytes()
    assert np.array(layers["2"], dtype=np.float32).tobytes() == AWKWARD.tobytes()


def test_json_and_safetensors_have_the_same_provenance(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.json", "json")
    export.write(vector, tmp_path / "v.safetensors", "safetensors")
    content = json.loads((tmp_path / "v.json").read_text())
    metadata = read_metadata(tmp_path / "v.safetensors")
    assert content.keys() - metadata.keys() == {"layers", "middles", "graph"}
    assert content["members"] == json.loads(metadata["members"])


def test_json_keeps_each_vector_on_one_line(vector: SteeringVector, tmp_path: Path) -> None:
    export.write(vector, tmp_path / "v.json", "json")
    lines = (tmp_path / "v.json").read_text().splitlines()
    assert sum(line.startswith('    "') and line.strip().endswith(("]", "],")) for line in lines) == 2


@pytest.mark.parametrize("name", list(export.FORMATS))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(
    vector: SteeringVector, tmp_path: Path, name: str, value: float
) -> None:
    broken = replace(vector, layers={1: np.full(D_MODEL, value, dtype=np.float32)})
    with pytest.raises(UsageError, match=r"layer 1 has NaN or infinite values at scale -0\.3"):
        export.write(broken, tmp_path / "v", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ONE_FILE)
def test_a_file_that_is_there_is_replaced_and_nothing_is_left_over(
    vector: SteeringVector, tmp_path: Path, name: str
) -> None:
    (tmp_path / "v").write_text("old")
    export.write(vector, str(tmp_path / "v"), name)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    assert (tmp_path / "v").read_bytes() != b"old"


@pytest.mark.parametrize("name", ONE_FILE)
def test_a_missing_folder_is_an_error(vector: SteeringVector, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*absent/v: no such file or directory"):
        export.write(vector, tmp_path / "absent" / "v", name)


def test_a_refused_export_leaves_the_old_file(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "v.gguf").write_text("old")
    with pytest.raises(UsageError):
        export.write(graph.steering_vector("0/res/0"), tmp_path / "v.gguf", "gguf")
    assert (tmp_path / "v.gguf").read_text() == "old"


def test_a_folder_cannot_be_the_target(vector: SteeringVector, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        export.write(vector, tmp_path, "json")


def test_the_error_about_an_unknown_format_names_the_nearest(vector: SteeringVector, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no export format 'safetensor'; did you mean 'safetensors'\? formats"
    ):
        export.write(vector, tmp_path / "v", "safetensor")


@pytest.mark.parametrize("name", ["loop/v", "loop"])
def test_links_that_lead_round_in_a_circle_are_no_file(
    vector: SteeringVector, tmp_path: Path, name: str
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(tmp_path / "pool")
    (tmp_path / "pool").symlink_to(loop)
    with pytest.raises(UsageError, match=rf"cannot write .*{name}: too many levels of symbolic links"):
        export.write(vector, tmp_path / name, "json")
    assert loop.is_symlink()


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_is_too_long_is_refused(vector: SteeringVector, tmp_path: Path, length: int) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*: file name too long"):
        export.write(vector, tmp_path / ("n" * length), "json")


def test_a_link_stays_a_link_and_a_pipe_a_pipe(graph: Graph, tmp_path: Path) -> None:
    vector = graph.steering_vector("1/res/0")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    export.write(vector, tmp_path / "link.json", "json")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["members"][0]["key"] == "1/res/0"
    with pytest.raises(UsageError, match=r"cannot write /dev/full: no space left on device"):
        export.write(vector, Path("/dev/full"), "json")
    assert Path("/dev/full").is_char_device()
