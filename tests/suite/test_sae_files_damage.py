"""SAE files that are damaged, cut short or hold something else: the error names the file and the fault."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from featgraph.errors import SourceError
from featgraph.suite.layouts import tensor_shapes
from helpers.sae_files import D_IN, auto_encoder, read, recipe_of, save_dictionary, save_jump, weights


def damaged(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """What is said of a good SAE after one change to its weights."""
    save_jump(tmp_path / "saes" / "1")
    file = tmp_path / "saes" / "1" / "sae_weights.safetensors"
    state = load_file(file)
    change(state)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    with pytest.raises(SourceError) as caught:
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))
    assert str(tmp_path / "saes" / "1") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    said = damaged(tmp_path, lambda state: state["W_enc"][2, 3:5].fill_(bad))
    assert "sae_weights.safetensors is damaged: 2 of 160 values of W_enc are NaN or infinite" in said


def test_weights_that_are_whole_numbers_are_refused(tmp_path: Path) -> None:
    said = damaged(tmp_path, lambda state: state.update(W_dec=state["W_dec"].to(torch.int8)))
    assert "sae_weights.safetensors: W_dec holds I8 values; weights must be floats" in said


def test_weights_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    said = damaged(tmp_path, lambda state: state.update(W_dec=state["W_dec"][:-1]))
    assert "size mismatch for W_dec" in said


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    assert "threshold" in damaged(tmp_path, lambda state: state.pop("threshold"))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, keep: int) -> None:
    save_jump(tmp_path / "saes" / "1")
    file = tmp_path / "saes" / "1" / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(SourceError, match=rf"cannot load {file}: "):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_torch_file_cut_short_is_named(tmp_path: Path, keep: int) -> None:
    kind, state, _ = auto_encoder(weights())
    save_dictionary(tmp_path / "saes" / "1", kind, state)
    file = tmp_path / "saes" / "1" / "ae.pt"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(SourceError, match=rf"cannot load SAE {file}: "):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


def test_integers_in_a_torch_file_are_refused(tmp_path: Path) -> None:
    kind, state, _ = auto_encoder(weights())
    save_dictionary(tmp_path / "saes" / "1", kind, {**state, "bias": torch.ones(D_IN, dtype=torch.int64)})
    with pytest.raises(SourceError, match=r"saes/1/ae\.pt: b_dec holds torch\.int64 values"):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


def test_a_pickle_that_is_no_plain_tensors_is_not_run(tmp_path: Path) -> None:
    save_dictionary(tmp_path / "saes" / "1", "AutoEncoder", {"run": Path("anything")})
    with pytest.raises(
        SourceError, match=r"cannot load SAE .*saes/1/ae\.pt: its weights are not plain tensors"
    ):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


def test_a_config_that_lacks_a_key_says_which(tmp_path: Path) -> None:
    kind, state, _ = auto_encoder(weights())
    save_dictionary(tmp_path / "saes" / "1", kind, state)
    (tmp_path / "saes" / "1" / "config.json").write_text('{"trainer": {}}')
    with pytest.raises(SourceError, match=r"saes/1/config\.json says dict_class = None, which"):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


def test_a_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    save_jump(tmp_path / "saes" / "1")
    (tmp_path / "saes" / "1" / "cfg.json").write_text("{")
    with pytest.raises(SourceError, match=r"cannot read .*saes/1/cfg\.json: Expecting property name"):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


def test_the_errors_about_a_folder_without_an_sae_and_a_missing_one_differ(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, 'path = "saes/{layer}"')
    with pytest.raises(SourceError, match=r"no SAE at .*saes/1: it is not a folder"):
        read(recipe)
    (tmp_path / "saes" / "1").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"no SAE at .*saes/1: it has none of sae_weights\.safetensors"):
        read(recipe)
    (tmp_path / "saes" / "1" / "ae.pt").touch()
    with pytest.raises(SourceError, match=r"saes/1 has ae\.pt, but no config\.json"):
        read(recipe)


def test_shapes_are_read_without_the_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / "x.safetensors")
    assert tensor_shapes(tmp_path / "x.safetensors") == {"a": (3, 4), "b": (5,)}
