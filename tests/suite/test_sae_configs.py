"""Configurations of SAEs: what is not known is refused by name, from a folder and from the Hub alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file

from featgraph.errors import SourceError
from featgraph.suite.families import own_families
from featgraph.suite.hooks import Blocks, Hook, find_hook
from featgraph.suite.layouts import layout_of
from featgraph.suite.new_recipe import write_recipe
from featgraph.suite.preview import dry_run
from featgraph.suite.residual import unit_rows
from featgraph.suite.sae_configs import check_config, sparsify_width
from helpers.sae_files import (
    D_IN,
    D_SAE,
    INPUT,
    auto_encoder,
    encoded,
    read,
    recipe_of,
    save_dictionary,
    save_jump,
    save_sparsify,
    top,
    weights,
)
from helpers.small_suite import save_model

PATH = 'path = "saes/{layer}"'


def change(path: Path, **said: Any) -> None:
    config = json.loads(path.read_text())
    for name, value in said.items():
        place = config["trainer"] if "trainer" in config and name not in ("buffer", "trainer") else config
        if value is None:
            place.pop(name)
        else:
            place[name] = value
    path.write_text(json.dumps(config))


# ---- sae_lens


def save_standard(folder: Path, **fields: Any) -> None:
    named = SAEMetadata(hook_name="blocks.1.hook_resid_post", sae_lens_version="6.0.0")
    folder.mkdir(parents=True)
    StandardSAE(StandardSAEConfig(d_in=D_IN, d_sae=D_SAE, metadata=named, **fields)).save_model(folder)


@pytest.mark.parametrize("scaled", ["expected_average_only_in", "covariance_whitening"])
def test_scaling_by_numbers_that_are_not_there_is_refused_from_a_folder(tmp_path: Path, scaled: str) -> None:
    save_standard(tmp_path / "saes" / "1")
    change(tmp_path / "saes" / "1" / "cfg.json", normalize_activations=scaled)
    with pytest.raises(SourceError, match=rf"normalize_activations = '{scaled}'|covariance"):
        read(recipe_of(tmp_path, PATH))


@pytest.mark.thorough
@pytest.mark.parametrize("scaled", ["expected_average_only_in", "covariance_whitening"])
def test_such_scaling_is_refused_from_the_hub_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scaled: str
) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--jbloom--GPT2-Small-SAEs-Reformatted"
    folder = repository / "snapshots" / "abc" / "blocks.1.hook_resid_pre"
    save_jump(folder)
    change(folder / "cfg.json", normalize_activations=scaled)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (repository / ".no_exist" / "abc" / folder.name).mkdir(parents=True)
    (repository / ".no_exist" / "abc" / folder.name / "sparsity.safetensors").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    recipe = recipe_of(tmp_path, 'release = "gpt2-small-res-jb"\nid = "blocks.{layer}.hook_resid_pre"')
    with pytest.raises(SourceError, match=rf"normalize_activations = '{scaled}'|covariance"):
        read(recipe)


def test_an_option_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    save_standard(tmp_path / "saes" / "1")
    change(tmp_path / "saes" / "1" / "cfg.json", squash_activations="log1p")
    with pytest.raises(SourceError, match=r"cfg\.json says squash_activations = 'log1p', an unknown key"):
        read(recipe_of(tmp_path, PATH))
    with pytest.raises(SourceError, match=r"architecture = 'jumprelux'.*jumprelu"):
        check_config({"architecture": "jumprelux"}, "x")


def test_an_old_activation_that_sae_lens_drops_is_refused() -> None:
    old = {"architecture": "standard", "d_in": 8, "d_sae": 20, "activation_fn_str": "tanh-relu"}
    with pytest.raises(SourceError, match="activation_fn = 'tanh-relu'"):
        check_config(old, "x")
    check_config({**old, "activation_fn_str": "relu"}, "x")
    check_config({**old, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}, "x")


def test_the_error_about_a_training_checkpoint_says_how_to_convert_it(tmp_path: Path) -> None:
    named = SAEMetadata(hook_name="blocks.1.hook_resid_post", sae_lens_version="6.0.0")
    (tmp_path / "saes" / "1").mkdir(parents=True)
    JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, metadata=named)).save_model(
        tmp_path / "saes" / "1"
    )
    with pytest.raises(SourceError, match=r"training checkpoint; convert it .*save_inference_model"):
        read(recipe_of(tmp_path, PATH))


def test_a_real_scaling_factor_is_refused_and_one_of_ones_is_not(tmp_path: Path) -> None:
    save_jump(tmp_path / "saes" / "1")
    file = tmp_path / "saes" / "1" / "sae_weights.safetensors"
    state = load_file(file)
    save_file({**state, "scaling_factor": torch.ones(D_SAE)}, file)
    read(recipe_of(tmp_path, PATH))
    save_file({**state, "scaling_factor": torch.full((D_SAE,), 1.5)}, file)
    with pytest.raises(SourceError, match=r"has a scaling_factor that is not 1.*multiply the rows of W_dec"):
        read(recipe_of(tmp_path, PATH))


# ---- dictionary_learning


def save_plain(folder: Path, **said: Any) -> torch.Tensor:
    kind, state, by_hand = auto_encoder(weights())
    save_dictionary(folder, kind, state)
    change(folder / "config.json", **said)
    return by_hand


def test_a_dictionary_without_a_buffer_is_read(tmp_path: Path) -> None:
    by_hand = save_plain(tmp_path / "saes" / "1", buffer=None)
    found = read(recipe_of(tmp_path, PATH))
    torch.testing.assert_close(encoded(found, INPUT), by_hand)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"dict_class": "AutoEncoderX"}, r"dict_class = 'AutoEncoderX', which is not known; .*AutoEncoder"),
        ({"dict_class": "CrossCoder"}, r"dict_class = 'CrossCoder', which is not known"),
        (
            {"submodule_name": "mlp_out_layer1"},
            r"submodule_name = 'mlp_out_layer1', which is not the output of a block",
        ),
        ({"buffer": {"ctx_len": 8, "io": "in"}}, r"io = 'in': it does not read the output"),
        ({"layer": None}, r"has no layer"),
    ],
)
def test_unsupported_dictionaries_are_refused_by_dry_run_and_ingest(
    tmp_path: Path, said: dict[str, Any], reason: str
) -> None:
    for layer in range(3):
        save_plain(tmp_path / "saes" / str(layer), **said)
    recipe = recipe_of(tmp_path, PATH)
    with pytest.raises(SourceError, match=reason):
        read(recipe)
    with pytest.raises(SourceError, match=reason):
        dry_run(recipe)


def test_a_dictionary_of_a_module_is_read_where_the_recipe_says(tmp_path: Path) -> None:
    by_hand = save_plain(tmp_path / "saes" / "1", submodule_name="mlp_out_layer1", layer=None)
    found = read(recipe_of(tmp_path, f'{PATH}\nhook = "blocks.{{layer}}.hook_mlp_out"'))
    assert found.hook_name == "blocks.1.hook_mlp_out"
    torch.testing.assert_close(encoded(found, INPUT), by_hand)


def test_the_new_auto_encoder_takes_nothing_off_and_has_its_bias_in_the_decoder(tmp_path: Path) -> None:
    w = weights()
    state = {
        "encoder.weight": w["enc"],
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["dec"].T.contiguous(),
        "decoder.bias": w["b_dec"],
    }
    save_dictionary(tmp_path / "saes" / "1", "AutoEncoderNew", state)
    found = read(recipe_of(tmp_path, PATH))
    codes = (INPUT @ w["enc"].T + w["b_enc"]).relu()
    torch.testing.assert_close(encoded(found, INPUT), codes)
    assert found.sae is not None
    with torch.no_grad():
        torch.testing.assert_close(found.sae.decode(codes), codes @ w["dec"] + w["b_dec"])


# ---- sparsify


def test_a_width_of_zero_is_left_to_the_expansion_factor(tmp_path: Path) -> None:
    assert sparsify_width({"d_in": 8, "num_latents": 0, "expansion_factor": 4}) == 32
    for layer in range(3):
        save_sparsify(tmp_path / "saes" / f"layers.{layer}", num_latents=0, expansion_factor=D_SAE / D_IN)
        file = tmp_path / "saes" / f"layers.{layer}" / "sae.safetensors"
        state = load_file(file)
        save_file(
            {
                name: values[: 2 * D_IN] if values.shape[0] == D_SAE else values
                for name, values in state.items()
            },
            file,
        )
        change(file.with_name("cfg.json"), expansion_factor=2)
    recipe = recipe_of(tmp_path, 'path = "saes/layers.{layer}"')
    found = read(recipe)
    assert found.sae is not None
    assert found.sae.cfg.d_sae == 2 * D_IN
    save_model(tmp_path / "small" / "model", D_IN)
    _, _, needs = dry_run(recipe)
    assert needs.features == 3 * 2 * D_IN


@pytest.mark.parametrize(
    ("name", "hook"),
    [("h.1", None), ("h.1", "blocks.{layer}.hook_resid_post"), ("anything", "blocks.{layer}.hook_mlp_out")],
)
def test_hookpoints_of_any_name_are_read(tmp_path: Path, name: str, hook: str | None) -> None:
    w = save_sparsify(tmp_path / "saes" / name)
    said = "" if hook is None else f'\nhook = "{hook}"'
    found = read(recipe_of(tmp_path, f'path = "saes/{name.replace("1", "{layer}")}"{said}'))
    by_hand = top((INPUT - w["b_dec"]) @ w["enc"].T + w["b_enc"])
    torch.testing.assert_close(encoded(found, INPUT), by_hand)
    assert found.hook_name == (hook or "blocks.{layer}.hook_resid_post").format(layer=1)


def test_a_key_that_sparsify_does_not_have_is_refused(tmp_path: Path) -> None:
    save_sparsify(tmp_path / "saes" / "layers.1", normalize_decode=True)
    with pytest.raises(
        SourceError, match=r"normalize_decode = True, .* not known of sparsify.*normalize_decoder"
    ):
        read(recipe_of(tmp_path, 'path = "saes/layers.{layer}"'))


def test_modules_are_named_from_the_blocks_on() -> None:
    llama = Blocks("model.layers")
    assert find_hook("layers.6.mlp", llama) == Hook("mlp_out", 6)
    assert find_hook("layers.6.self_attn.o_proj.input", llama) == Hook("z", 6)
    assert find_hook("h.3", None) == Hook("resid_post", 3)


# ---- recipe init


def test_a_recipe_for_folders_of_three_projects_is_taken_by_the_dry_run(tmp_path: Path) -> None:
    save_model(tmp_path / "model", D_IN)
    for layer in (0, 1):
        save_plain(tmp_path / "saes" / f"layer{layer}" / "trainer_0", layer=layer, buffer=None)
    save_sparsify(tmp_path / "saes" / "smol" / "layers.2")
    save_sparsify(tmp_path / "saes" / "smol" / "layers.2.mlp")
    res, mlp = sorted(own_families(tmp_path / "saes"), key=lambda one: one.site, reverse=True)
    assert (res.site, res.layers, mlp.site, mlp.layers) == ("res", [0, 1, 2], "mlp", [2])
    assert mlp.hook == "layers.{layer}.mlp"
    recipe = write_recipe(str(tmp_path / "model"), tmp_path / "own.toml", saes=tmp_path / "saes")
    [source] = [source for source in recipe.sources if source.site == "mlp"]
    assert recipe.hook_name(source, 2) == "layers.2.mlp"
    sites, _, _ = dry_run(recipe)
    assert [row[0] for row in sites.rows] == ["mlp", "res"] or [row[0] for row in sites.rows] == [
        "res",
        "mlp",
    ]
    for layer, source in recipe.places:
        folder = recipe.folder / recipe.sae_name(source, layer)
        assert layout_of(folder, "x").name in ("sparsify", "dictionary_learning")


# ---- lengths


def test_rows_that_underflow_are_zero_rows() -> None:
    rows = np.array([[3e-25, 4e-25], [3e-39, 4e-39], [0.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    directions, norms = unit_rows(rows)
    np.testing.assert_allclose(norms, np.array([5e-25, 0, 0, 5]), rtol=1e-5)
    expected = np.array([[0.6, 0.8], [0, 0], [0, 0], [0.6, 0.8]])
    np.testing.assert_allclose(directions, expected, rtol=1e-5)
