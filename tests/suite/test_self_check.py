"""The self-check passes for correct hooks, and refuses wrong ones by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Glm4Config,
    Glm4ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
)

from featgraph.core.keys import Site
from featgraph.errors import SourceError
from featgraph.suite import LanguageModel, LoadedSae, load_meta_model
from featgraph.suite.hooks import Blocks, Hook, on_tensor
from featgraph.suite.self_check import check_model, check_sae
from helpers.one_sae import load_one, recipe_of, save_sae
from helpers.real_models import _GROUPED, D_HEAD, D_MODEL, D_Z, FAMILIES, LAYERS, N_VOCABULARY, random_model

BLOCK = 1
SITES: dict[str, tuple[Site, str]] = {
    "hook_resid_post": ("res", "hook_resid_post"),
    "hook_resid_pre": ("res", "hook_resid_pre"),
    "hook_mlp_out": ("mlp", "hook_mlp_out"),
    "hook_attn_out": ("att", "hook_attn_out"),
    "attn.hook_z": ("att", "attn.hook_z"),
}
GLM_NORMS = (".post_self_attn_layernorm", ".post_mlp_layernorm")


def with_random_weights(model: Any) -> LanguageModel:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return LanguageModel(model.eval(), None, "random")


def glm4() -> LanguageModel:
    sizes: dict[str, Any] = {**_GROUPED, "partial_rotary_factor": 0.5, "pad_token_id": 0}
    config = Glm4Config(**sizes)
    return with_random_weights(Glm4ForCausalLM(config))


def granite() -> LanguageModel:
    config = GraniteConfig(**_GROUPED, residual_multiplier=0.22, embedding_multiplier=3.0, logits_scaling=2.0)
    return with_random_weights(GraniteForCausalLM(config))


def olmo2() -> LanguageModel:
    return with_random_weights(Olmo2ForCausalLM(Olmo2Config(**{**_GROUPED, "head_dim": 8})))


def bloom() -> LanguageModel:
    config = BloomConfig(hidden_size=D_MODEL, n_layer=LAYERS, n_head=2, vocab_size=N_VOCABULARY)
    return with_random_weights(BloomForCausalLM(config))


def sae_at(model: LanguageModel, hook: str, folder: Path, width: int | None = None) -> LoadedSae:
    site, name = SITES[hook]
    z = D_HEAD * 2 if "head_dim" in model.model.config.get_text_config().to_dict() else D_MODEL
    d_in = width or (z if hook == "attn.hook_z" else D_MODEL)
    path = save_sae(folder / hook, f"blocks.{BLOCK}.{name}", d_in)
    return load_one(recipe_of(path, site, layer=BLOCK), model)


@pytest.mark.parametrize("family", FAMILIES)
def test_published_families_pass_at_every_site(family: str, tmp_path: Path) -> None:
    model = LanguageModel(random_model(family), None, "random")
    check_model(model)
    for hook in SITES:
        width = None
        if hook == "attn.hook_z":
            width = D_MODEL if family.startswith("gpt") else D_Z
        check_sae(model, sae_at(model, hook, tmp_path, width))


@pytest.mark.parametrize("made", [glm4, granite, olmo2])
@pytest.mark.parametrize("hook", SITES)
def test_families_with_norms_behind_or_a_multiplier_pass(made: Any, hook: str, tmp_path: Path) -> None:
    model = made()
    check_model(model)
    width = D_MODEL if made is olmo2 and hook == "attn.hook_z" else None
    check_sae(model, sae_at(model, hook, tmp_path, width))


def moved(model: LanguageModel, module: str, row: np.ndarray, end: Any = "output") -> np.ndarray:
    """Return how the stream after the block moves when a row is added to what a module gives."""
    ids = torch.arange(3, 9)[None]
    block = model.model.get_submodule(f"{model.blocks.path}.{BLOCK}")
    after: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> None:
        after.append(tensor.detach().double())

    for scale in (0.0, 1e-2):
        added = torch.from_numpy(row).float() * scale

        def add(tensor: torch.Tensor, added: torch.Tensor = added) -> torch.Tensor:
            return tensor + added

        handles = [
            on_tensor(model.model.get_submodule(module), end, add),
            on_tensor(block, "output", keep),
        ]
        model.model(ids, use_cache=False)
        for handle in handles:
            handle.remove()
    change: np.ndarray = (after[1] - after[0])[0].numpy() / 1e-2
    return change


def test_the_direction_of_glm4_goes_through_the_norm_behind_the_mlp(tmp_path: Path) -> None:
    model = glm4()
    path = save_sae(tmp_path / "mlp", f"model.layers.{BLOCK}.mlp", D_MODEL)
    loaded = load_one(recipe_of(path, "mlp", layer=BLOCK), model)
    assert loaded.sae is not None
    rows = loaded.sae.W_dec.detach().numpy()
    gain = model.model.get_submodule(f"model.layers.{BLOCK}.post_mlp_layernorm").weight.detach().numpy()
    wanted = rows * gain
    np.testing.assert_allclose(
        loaded.directions, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6
    )
    check_sae(model, loaded)
    at_output = sae_at(model, "hook_mlp_out", tmp_path)
    assert at_output.reading is not None
    assert at_output.reading.module == f"model.layers.{BLOCK}.post_mlp_layernorm"
    assert at_output.sae is not None
    row = at_output.sae.W_dec[2].detach().numpy()
    change = moved(model, at_output.reading.module, row)
    np.testing.assert_allclose(change, np.broadcast_to(row, change.shape), atol=1e-3)


@pytest.mark.parametrize("site", ["mlp", "att"])
def test_glm4_without_its_norms_is_refused_and_the_site_is_named(site: Site, tmp_path: Path) -> None:
    model = glm4()
    model.__dict__["blocks"] = Blocks("model.layers")
    hook = {"mlp": "hook_mlp_out", "att": "hook_attn_out"}[site]
    loaded = sae_at(model, hook, tmp_path)
    with pytest.raises(SourceError, match=rf"the self-check of {BLOCK}/{site} \(.*do not add up"):
        check_sae(model, loaded)


def test_a_wrong_direction_is_refused_with_its_cosine(tmp_path: Path) -> None:
    model = glm4()
    path = save_sae(tmp_path / "mlp", f"model.layers.{BLOCK}.mlp", D_MODEL)
    loaded = load_one(recipe_of(path, "mlp", layer=BLOCK), model)
    assert loaded.sae is not None
    rows = loaded.sae.W_dec.detach().numpy()
    raw = replace(loaded, directions=rows / np.linalg.norm(rows, axis=1, keepdims=True))
    with pytest.raises(SourceError, match=r"does not move along the stored direction .*cosine -?0\.\d+"):
        check_sae(model, raw)


@pytest.mark.parametrize("hook", ["hook_mlp_out", "hook_attn_out"])
def test_the_length_of_granite_has_the_residual_multiplier(hook: str, tmp_path: Path) -> None:
    model = granite()
    loaded = sae_at(model, hook, tmp_path)
    assert loaded.sae is not None
    rows = loaded.sae.W_dec.detach().numpy()
    np.testing.assert_allclose(loaded.norms, 0.22 * np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert loaded.reading is not None
    if hook == "hook_mlp_out":
        change = moved(model, loaded.reading.module, rows[0])
        np.testing.assert_allclose(change, np.broadcast_to(0.22 * rows[0], change.shape), atol=1e-3)
    with pytest.raises(SourceError, match=r"moves 0\.22 times as far as the stored length"):
        check_sae(model, replace(loaded, norms=np.linalg.norm(rows, axis=1)))


def test_granite_taken_for_a_llama_is_refused(tmp_path: Path) -> None:
    model = granite()
    model.__dict__["blocks"] = Blocks("model.layers")
    with pytest.raises(SourceError, match=rf"self-check of {BLOCK}/mlp .*do not add up"):
        check_sae(model, sae_at(model, "hook_mlp_out", tmp_path))


def test_an_mlp_that_returns_the_stream_as_well_is_refused(tmp_path: Path) -> None:
    model = bloom()
    check_model(model)
    with pytest.raises(SourceError, match=rf"{BLOCK}/mlp .*(no layer {BLOCK} with att|do not add up)"):
        check_sae(model, sae_at(model, "hook_mlp_out", tmp_path))


def test_a_block_whose_attention_lies_elsewhere_does_not_hide_it(tmp_path: Path) -> None:
    model = bloom()
    model.__dict__["blocks"] = Blocks(
        "transformer.h", ".self_attention", ".self_attention.dense", norm_before_mlp=None
    )
    with pytest.raises(SourceError, match="do not add up"):
        check_sae(model, sae_at(model, "hook_mlp_out", tmp_path))


def test_several_streams_side_by_side_are_refused_with_the_reason() -> None:
    config = Gemma3nTextConfig(
        **{**_GROUPED, "intermediate_size": [32] * LAYERS},
        vocab_size_per_layer_input=N_VOCABULARY,
        hidden_size_per_layer_input=4,
        num_kv_shared_layers=0,
        laurel_rank=2,
        layer_types=["full_attention"] * LAYERS,
        activation_sparsity_pattern=[0.0] * LAYERS,
    )
    model = with_random_weights(Gemma3nForCausalLM(config))
    with pytest.raises(SourceError, match="several streams side by side has no single residual basis"):
        check_model(model)


def test_another_unembedding_is_refused() -> None:
    model = LanguageModel(random_model("llama"), None, "random")
    check_model(model, model.unembedding)
    embedding = model.model.get_input_embeddings().weight.detach().numpy()
    with pytest.raises(SourceError, match="is not the weight of its output layer"):
        check_model(LanguageModel(random_model("llama"), None, "random"), embedding)


@pytest.mark.thorough
@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("outer", [True, False])
def test_the_unembedding_is_that_of_the_built_model_whatever_the_flags_say(
    inner: bool, outer: bool, tmp_path: Path
) -> None:
    model = random_model("gemma3_multimodal")
    config = model.config
    config.tie_word_embeddings, config.text_config.tie_word_embeddings = outer, inner
    made = type(model)(config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    made.save_pretrained(tmp_path / "model")
    recipe = recipe_of(tmp_path / "sae", "res", model=tmp_path / "model")
    meta = load_meta_model(recipe).unembedding
    again = type(model).from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    np.testing.assert_array_equal(meta, again.get_output_embeddings().weight.detach().numpy())
    check_model(LanguageModel(again, None, "random"), meta)


def test_a_model_with_hooks_is_not_checked(tmp_path: Path) -> None:
    model = glm4()
    model.__dict__["blocks"] = Blocks("model.layers")
    loaded = sae_at(model, "hook_mlp_out", tmp_path)
    block = model.model.get_submodule("model.layers.0")
    handle = on_tensor(block, "output", lambda tensor: None)
    check_sae(model, loaded)
    handle.remove()
    with pytest.raises(SourceError):
        check_sae(model, loaded)


def test_the_check_changes_nothing_in_the_model(tmp_path: Path) -> None:
    model = LanguageModel(random_model("gemma2"), None, "random")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    check_model(model)
    check_sae(model, sae_at(model, "attn.hook_z", tmp_path, D_Z))
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


def test_glm4_places(tmp_path: Path) -> None:
    blocks = glm4().blocks
    assert (blocks.norm_after_attention, blocks.norm_after_mlp) == GLM_NORMS
    assert blocks.writing(Hook("z", 2)) == [
        "model.layers.2.self_attn.o_proj",
        "model.layers.2.post_self_attn_layernorm",
    ]
