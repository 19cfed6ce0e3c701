"""SAEs from every layout encode as their library defines, and errors name the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file

from featgraph.errors import SourceError
from featgraph.recipe import read_recipe
from featgraph.suite.sae_files import source_digest, state_digest
from helpers.sae_files import (
    D_IN,
    D_SAE,
    INPUT,
    K,
    auto_encoder,
    encoded,
    linear,
    read,
    recipe_of,
    save_decoders,
    save_dictionary,
    save_jump,
    save_sparsify,
    top,
    weights,
)

# ---- layouts


@pytest.mark.parametrize("normalize_decoder", [True, False])
def test_a_sparsify_folder_encodes_as_sparsify_does(tmp_path: Path, normalize_decoder: bool) -> None:
    w = save_sparsify(tmp_path / "saes" / "layers.1", normalize_decoder=normalize_decoder)
    found = read(recipe_of(tmp_path, 'path = "saes/layers.{layer}"'))
    by_hand = top((INPUT - w["b_dec"]) @ w["enc"].T + w["b_enc"])
    torch.testing.assert_close(encoded(found, INPUT), by_hand)
    assert found.sae is not None
    assert torch.equal(found.sae.W_dec, w["dec"])
    assert (found.hook_name, found.d_in) == ("blocks.1.hook_resid_post", D_IN)


def test_sparsify_decoders_keep_their_rows_when_square(tmp_path: Path) -> None:
    folder = tmp_path / "saes" / "layers.1"
    save_sparsify(folder, num_latents=D_IN)
    square = {name: tensor[:D_IN] for name, tensor in load_file(folder / "sae.safetensors").items()}
    save_file({name: tensor.contiguous() for name, tensor in square.items()}, folder / "sae.safetensors")
    found = read(recipe_of(tmp_path, 'path = "saes/layers.{layer}"'))
    assert found.sae is not None
    assert torch.equal(found.sae.W_dec, square["W_dec"])


@pytest.mark.parametrize("config", [{"transcode": True}, {"activation": "groupmax"}, {"signed": True}])
def test_sparsify_kinds_that_sae_lens_lacks_are_refused(tmp_path: Path, config: dict[str, object]) -> None:
    save_sparsify(tmp_path / "saes" / "layers.1", **config)
    [name] = config
    with pytest.raises(SourceError, match=rf"layers\.1/cfg\.json says {name} = "):
        read(recipe_of(tmp_path, 'path = "saes/layers.{layer}"'))


def test_a_sparsify_folder_of_a_module_needs_a_hook(tmp_path: Path) -> None:
    save_sparsify(tmp_path / "saes" / "layers.1.mlp")
    with pytest.raises(SourceError, match=r"is not that of a block.*hook = "):
        read(recipe_of(tmp_path, 'path = "saes/layers.{layer}.mlp"'))
    hook = 'hook = "blocks.{layer}.hook_mlp_out"'
    assert read(recipe_of(tmp_path, f'path = "saes/layers.{{layer}}.mlp"\n{hook}')).hook_name == (
        "blocks.1.hook_mlp_out"
    )


def topk_encoder(w: dict[str, torch.Tensor]) -> tuple[str, dict[str, Any], torch.Tensor]:
    pre = (INPUT - w["b_dec"]) @ w["enc"].T + w["b_enc"]
    state = {**linear(w), "b_dec": w["b_dec"], "k": torch.tensor(K), "threshold": torch.tensor(9.0)}
    return "AutoEncoderTopK", state, top(pre)


def batch_topk_encoder(w: dict[str, torch.Tensor]) -> tuple[str, dict[str, Any], torch.Tensor]:
    pre = ((INPUT - w["b_dec"]) @ w["enc"].T + w["b_enc"]).relu()
    state = {**linear(w), "b_dec": w["b_dec"], "k": torch.tensor(K), "threshold": torch.tensor(0.7)}
    return "BatchTopKSAE", state, pre * (pre > 0.7)


def jump_encoder(w: dict[str, torch.Tensor]) -> tuple[str, dict[str, Any], torch.Tensor]:
    threshold = torch.linspace(0.1, 2, D_SAE)
    pre = INPUT @ w["enc"].T + w["b_enc"]
    state = {"W_enc": w["enc"].T.contiguous(), "W_dec": w["dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    return "JumpReluAutoEncoder", {**state, "threshold": threshold}, pre * (pre > threshold)


def gated_encoder(w: dict[str, torch.Tensor]) -> tuple[str, dict[str, Any], torch.Tensor]:
    r_mag, gate, magnitude = torch.linspace(-1, 1, D_SAE), w["b_enc"], w["b_enc"].flip(0)
    pre = (INPUT - w["b_dec"]) @ w["enc"].T
    state = {
        **linear(w),
        "decoder_bias": w["b_dec"],
        "r_mag": r_mag,
        "gate_bias": gate,
        "mag_bias": magnitude,
    }
    del state["encoder.bias"]
    return "GatedAutoEncoder", state, (pre + gate > 0) * (r_mag.exp() * pre + magnitude).relu()


Encoder = Callable[[dict[str, torch.Tensor]], tuple[str, dict[str, Any], torch.Tensor]]


@pytest.mark.parametrize(
    "encoder", [auto_encoder, topk_encoder, batch_topk_encoder, jump_encoder, gated_encoder]
)
def test_a_dictionary_learning_folder_encodes_as_its_class_does(tmp_path: Path, encoder: Encoder) -> None:
    w = weights()
    kind, state, by_hand = encoder(w)
    save_dictionary(tmp_path / "saes" / "1", kind, state, k=K)
    found = read(recipe_of(tmp_path, 'path = "saes/{layer}"'))
    assert by_hand.count_nonzero() > 30
    torch.testing.assert_close(encoded(found, INPUT), by_hand)
    assert found.sae is not None
    assert torch.equal(found.sae.W_dec, w["dec"])
    assert found.hook_name == "blocks.1.hook_resid_post"


def test_sae_lens_itself_is_left_as_it_was(tmp_path: Path) -> None:
    from sae_lens.loading import pretrained_sae_loaders as theirs

    before = dict(vars(theirs))
    kind, state, _ = auto_encoder(weights())
    save_dictionary(tmp_path / "saes" / "1", kind, state)
    read(recipe_of(tmp_path, 'path = "saes/{layer}"'))
    assert vars(theirs) == before


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_sae_lens_folder_of_any_float_is_read_in_float32(tmp_path: Path, dtype: str) -> None:
    save_jump(tmp_path / "saes" / "1", dtype)
    found = read(recipe_of(tmp_path, 'path = "saes/{layer}"'))
    stored = load_file(tmp_path / "saes" / "1" / "sae_weights.safetensors")
    pre = INPUT @ stored["W_enc"].float() + stored["b_enc"].float()
    torch.testing.assert_close(encoded(found, INPUT), pre * (pre > 0.5))
    assert found.sae is not None
    assert not found.sae.training
    assert {tensor.dtype for tensor in found.sae.state_dict().values()} == {torch.float32}


def test_a_hook_in_the_recipe_comes_before_the_files(tmp_path: Path) -> None:
    save_jump(tmp_path / "saes" / "1", hf_hook_name="model.layers.1")
    found = read(recipe_of(tmp_path, 'path = "saes/{layer}"\nhook = "blocks.{layer}.hook_resid_pre"'))
    assert found.sae is not None
    assert found.hook_name == found.sae.cfg.metadata.hook_name == "blocks.1.hook_resid_pre"
    assert found.sae.cfg.metadata.hf_hook_name is None


def test_an_sae_that_does_not_say_where_it_reads_needs_a_hook(tmp_path: Path) -> None:
    save_jump(tmp_path / "saes" / "1", hook_name=None)
    with pytest.raises(SourceError, match=r"has no hook name.*\[suite\.sites\.res\]"):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


def test_scaling_that_no_file_holds_is_refused(tmp_path: Path) -> None:
    named = SAEMetadata(hook_name="blocks.1.hook_resid_post", sae_lens_version="6.0.0")
    scaled = "expected_average_only_in"
    config = StandardSAEConfig(d_in=D_IN, d_sae=D_SAE, normalize_activations=scaled, metadata=named)
    (tmp_path / "saes" / "1").mkdir(parents=True)
    StandardSAE(config).save_model(tmp_path / "saes" / "1")
    with pytest.raises(
        SourceError, match=r"normalize_activations = .expected_average_only_in.: its input needs"
    ):
        read(recipe_of(tmp_path, 'path = "saes/{layer}"'))


# ---- the hub, from its cache


def test_a_published_sae_is_found_by_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache is filled with a small SAE under the real names, and nothing may be fetched."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--jbloom--GPT2-Small-SAEs-Reformatted"
    w = save_jump(repository / "snapshots" / "abc" / "blocks.1.hook_resid_pre")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (repository / ".no_exist" / "abc" / "blocks.1.hook_resid_pre").mkdir(parents=True)
    (repository / ".no_exist" / "abc" / "blocks.1.hook_resid_pre" / "sparsity.safetensors").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = 'release = "gpt2-small-res-jb"\nid = "blocks.{layer}.hook_resid_pre"'
    recipe = recipe_of(tmp_path, source)
    found = read(recipe)
    assert (found.release, found.sae_id) == ("gpt2-small-res-jb", "blocks.1.hook_resid_pre")
    pre = INPUT @ w["enc"].T + w["b_enc"]
    torch.testing.assert_close(encoded(found, INPUT), pre * (pre > 0.5))
    with pytest.raises(SourceError, match=r"cannot load SAE gpt2-small-res-jb blocks\.2\.hook_resid_pre: "):
        read(recipe, 2)


# ---- decoders alone


def test_bare_decoders_are_rows_per_feature(tmp_path: Path) -> None:
    rows = weights()["dec"].half()
    found = read(save_decoders(tmp_path, tensor=rows))
    assert found.sae is None
    assert found.decoder is not None
    assert found.decoder.dtype == np.float32
    assert np.array_equal(found.decoder, rows.float().numpy())
    assert (found.sae_id, found.d_in, found.hook_name) == ("1.safetensors", None, "blocks.1.hook_resid_post")


def test_decoders_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    recipe = save_decoders(tmp_path, tensor=weights()["dec"].T.contiguous())
    narrow = recipe.file.read_text().replace(
        'path = "small/model"', f'path = "small/model"\nd_model = {D_SAE}'
    )
    recipe.file.write_text(narrow.replace(f"d_model = {D_SAE}", f"d_model = {D_IN}"))
    with pytest.raises(
        SourceError, match=r"1\.safetensors: 'W_dec' has shape \(8, 20\).*rows of 8; .*swapped"
    ):
        read(read_recipe(recipe.file))
    with pytest.raises(SourceError, match=r"'other' has shape \(2,\); decoders have one row per feature"):
        read(recipe_of(tmp_path, 'decoders = "{layer}.safetensors"\nkey = "other"', text=False))


def test_a_tensor_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    save_decoders(tmp_path)
    recipe = recipe_of(tmp_path, 'decoders = "{layer}.safetensors"\nkey = "W_deec"', text=False)
    with pytest.raises(SourceError, match=r"1\.safetensors has no tensor 'W_deec'; did you mean 'W_dec'\?"):
        read(recipe)
    with pytest.raises(SourceError, match=r"no decoders at .*/gone\.safetensors"):
        read(recipe_of(tmp_path, 'decoders = "gone.safetensors"\nkey = "W_dec"', text=False))


# ---- identity


def test_the_identity_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    save_jump(tmp_path / "saes" / "1")
    recipe = recipe_of(tmp_path, 'path = "saes/{layer}"')
    before = source_digest(recipe, recipe.sources[0], 1)
    assert source_digest(recipe, recipe.sources[0], 1) == before
    config = tmp_path / "saes" / "1" / "cfg.json"
    config.write_text(config.read_text() + "\n")
    assert source_digest(recipe, recipe.sources[0], 1) != before


def test_the_identity_of_a_published_sae_needs_no_download(tmp_path: Path) -> None:
    one = recipe_of(tmp_path, 'release = "gpt2-small-res-jb"\nid = "blocks.{layer}.hook_resid_pre"')
    digests = {source_digest(one, one.sources[0], layer) for layer in range(3)}
    assert len(digests) == 3


def test_the_digest_of_local_weights_is_the_sha256_of_their_file(tmp_path: Path) -> None:
    import hashlib

    save_jump(tmp_path / "saes" / "1")
    weights_file = tmp_path / "saes" / "1" / "sae_weights.safetensors"
    found = read(recipe_of(tmp_path, 'path = "saes/{layer}"'))
    assert found.digest == hashlib.sha256(weights_file.read_bytes()).hexdigest()


def test_the_digest_of_a_module_is_that_of_its_names_and_values() -> None:
    module = torch.nn.Linear(2, 3)
    before = state_digest(module)
    assert state_digest(module) == before
    with torch.no_grad():
        module.bias[1] += 1
    assert state_digest(module) != before
