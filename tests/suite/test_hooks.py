"""Hooks: their names in every style, and the same activations as TransformerLens and sae_lens see there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featgraph.activations import Batch, TokenRows
from featgraph.activations.forward import Sites
from featgraph.errors import SourceError
from featgraph.suite.hooks import Hook, Reading, block_list, blocks_of, find_hook
from featgraph.suite.language_model import LanguageModel
from helpers.real_models import FAMILIES, LAYERS, N_VOCABULARY, each_family, lens, random_model

BLOCK = 1
IN_LENS = (
    "hook_resid_pre",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_z",
    "hook_mlp_in",
    "ln2.hook_normalized",
)
"""Those of the names that a HookedTransformer has in all families."""

IN_BRIDGE = (*IN_LENS[:5], "hook_resid_mid", "mlp.hook_in")


def batch() -> Batch:
    """Two rows of different length that open with token 0, which does not count."""
    rng = np.random.default_rng(0)
    rows = [np.r_[0, rng.integers(1, 40, size=size)].astype(np.int32) for size in (9, 6)]
    [found] = TokenRows(rows, frozenset({0})).batches()
    return found


def read(model: Any, reading: Reading) -> torch.Tensor:
    return Sites(LanguageModel(model, None, "random"), [reading])(batch())[reading]


def reading_of(model: Any, name: str) -> Reading:
    blocks = blocks_of(model)
    hook = find_hook(name, blocks)
    assert hook is not None, name
    return blocks.reading(model, hook, "SAE x")


def seen(cache: Any, name: str) -> torch.Tensor:
    """Return what a hooked model has seen at a hook on the counted tokens, heads side by side."""
    tensor = cache[name].detach()
    flat = tensor.flatten(2) if tensor.ndim == 4 else tensor
    found: torch.Tensor = flat[torch.from_numpy(batch().counted)]
    return found


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gemma3_multimodal"])
def test_every_hook_gives_the_tensor_of_transformer_lens(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    lensed = lens(family, model, tmp_path)
    with torch.inference_mode():
        _, cache = lensed.run_with_cache(torch.from_numpy(batch().ids))
    for block in range(LAYERS):
        for hook in IN_LENS:
            name = f"blocks.{block}.{hook}"
            torch.testing.assert_close(
                read(model, reading_of(model, name)), seen(cache, name), atol=1e-4, rtol=1e-4, msg=name
            )


@pytest.mark.thorough
def test_a_multimodal_model_gives_what_the_bridge_of_transformer_lens_sees(tmp_path: Path) -> None:
    model = random_model("gemma3_multimodal")
    bridge = bridged(random_model("gemma3_multimodal"), tmp_path)
    with torch.inference_mode():
        _, cache = bridge.run_with_cache(torch.from_numpy(batch().ids))
    for hook in (*IN_BRIDGE, "ln2.hook_normalized"):
        name = f"blocks.{BLOCK}.{hook}"
        found = read(model, reading_of(model, name))
        torch.testing.assert_close(found, seen(cache, name), atol=1e-4, rtol=1e-4, msg=name)


def bridged(model: Any, folder: Path) -> Any:
    from tokenizers import Tokenizer, models
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(N_VOCABULARY)}
    bare = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="w0", pad_token="w0").save_pretrained(folder)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), hf_model=model, tokenizer=tokenizer, device="cpu")


@each_family()
def test_module_paths_give_the_tensor_of_sae_lens(family: str) -> None:
    from sae_lens.load_model import HookedProxyLM

    model = random_model(family)
    blocks = blocks_of(model)
    suffixes = ["", blocks.attention, blocks.mlp, blocks.norm_before_mlp]
    names = [f"{blocks.path}.{BLOCK}{suffix}" for suffix in suffixes]
    proxy = HookedProxyLM(random_model(family), None, hook_names=names)
    with torch.inference_mode():
        _, cache = proxy.run_with_cache(torch.from_numpy(batch().ids))
    for name in names:
        for style in (name, f"{name}.output"):
            found = read(model, reading_of(model, style))
            torch.testing.assert_close(found, seen(cache, name), atol=1e-5, rtol=1e-5, msg=style)


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox_sequential"])
def test_a_centred_reading_is_what_a_model_with_centred_writing_weights_has(
    family: str, tmp_path: Path
) -> None:
    model = random_model(family)
    lensed = lens(family, model, tmp_path, centred=True)
    with torch.inference_mode():
        _, cache = lensed.run_with_cache(torch.from_numpy(batch().ids))
    for block in range(LAYERS):
        for hook in ("hook_resid_pre", "hook_resid_post", "hook_mlp_out", "hook_attn_out"):
            name = f"blocks.{block}.{hook}"
            raw = reading_of(model, name)
            found, wanted = read(model, replace(raw, form="centred")), seen(cache, name)
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4, msg=name)
            assert (read(model, raw) - wanted).abs().max() > 0.01, "it would differ without centring"
        for hook in ("attn.hook_z", "ln2.hook_normalized"):
            name = f"blocks.{block}.{hook}"
            found = read(model, reading_of(model, name))
            torch.testing.assert_close(found, seen(cache, name), atol=1e-4, rtol=1e-4, msg=name)


SAME_TENSOR = [
    ("llama", "blocks.2.hook_resid_post", "model.layers.2"),
    ("llama", "blocks.2.hook_resid_pre", "model.layers.2.input"),
    ("llama", "blocks.2.hook_mlp_out", "model.layers.2.mlp"),
    ("llama", "blocks.2.hook_attn_out", "model.layers.2.self_attn.output"),
    ("llama", "blocks.2.attn.hook_z", "model.layers.2.self_attn.o_proj.input"),
    ("llama", "blocks.2.mlp.hook_in", "model.layers.2.post_attention_layernorm"),
    ("llama", "blocks.2.hook_resid_mid", "model.layers.2.post_attention_layernorm.input"),
    ("gemma3", "blocks.2.hook_attn_out", "model.layers.2.post_attention_layernorm.output"),
    ("gemma3", "blocks.2.hook_mlp_out", "model.layers.2.post_feedforward_layernorm.output"),
    ("gemma3", "blocks.2.mlp.hook_in", "model.layers.2.pre_feedforward_layernorm.output"),
    ("gemma3", "blocks.2.hook_resid_post", "model.language_model.layers.2.output"),
    ("gemma3_multimodal", "blocks.2.hook_resid_post", "model.language_model.layers.2"),
    ("gemma3_multimodal", "blocks.2.hook_resid_post", "language_model.model.layers.2"),
    ("gemma3_multimodal", "blocks.2.attn.hook_z", "model.layers.2.self_attn.o_proj.input"),
    ("gpt2", "blocks.2.hook_resid_post", "transformer.h.2"),
    ("gpt2", "blocks.2.attn.hook_z", "transformer.h.2.attn.c_proj.input"),
    ("gpt2", "blocks.2.mlp.hook_in", "transformer.h.2.ln_2"),
    ("gpt_neox", "blocks.2.hook_attn_out", "gpt_neox.layers.2.attention"),
    ("gpt_neox", "blocks.2.attn.hook_z", "gpt_neox.layers.2.attention.dense.input"),
]


@pytest.mark.parametrize(("family", "lens_name", "path"), SAME_TENSOR)
def test_the_same_tensor_in_the_words_of_transformer_lens_and_as_a_path(
    family: str, lens_name: str, path: str
) -> None:
    blocks = blocks_of(random_model(family))
    assert find_hook(lens_name, blocks) == find_hook(path, blocks) == replace(hook(lens_name), number=2)


def hook(name: str) -> Hook:
    found = find_hook(name, None)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "hook_embed",
        "blocks.1.hook_q",
        "model.layers.1.self_attn.o_proj",
        "model.layers.x",
        "model.norm",
    ],
)
def test_other_names_are_unknown(name: str | None) -> None:
    assert find_hook(name, blocks_of(random_model("llama"))) is None


def test_without_a_model_a_path_within_a_block_is_unknown() -> None:
    assert find_hook("model.layers.3.output", None) == Hook("resid_post", 3)
    assert find_hook("model.layers.3.post_attention_layernorm", None) is None


def test_a_model_of_an_unknown_family_is_refused() -> None:
    with pytest.raises(SourceError, match=r"cannot find the blocks of a Linear; known places: model\.layers"):
        block_list(torch.nn.Linear(2, 2))


def test_the_model_runs_no_further_than_the_last_module_that_is_read() -> None:
    model = random_model("gemma2")
    ran = []
    for number, block in enumerate(model.model.layers):
        block.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    early, late = (reading_of(model, f"blocks.{number}.hook_attn_out") for number in (0, 1))
    found = Sites(LanguageModel(model, None, "random"), [late, early])(batch())
    assert list(found) == [late, early]
    assert ran == [0]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert sum(len(module._forward_hooks) for module in model.modules()) == LAYERS
    with torch.inference_mode():
        assert model(torch.from_numpy(batch().ids)).logits.shape[-1] == N_VOCABULARY


def test_no_hook_is_left_behind_when_the_model_fails() -> None:
    model = random_model("gpt2")
    beyond = replace(batch(), ids=batch().ids + N_VOCABULARY)
    with pytest.raises(IndexError):
        Sites(LanguageModel(model, None, "random"), [reading_of(model, "blocks.0.hook_mlp_out")])(beyond)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_target_is_read_too_and_one_tensor_may_take_several_forms() -> None:
    model = random_model("llama")
    raw = reading_of(model, "blocks.1.hook_resid_mid")
    target = reading_of(model, "blocks.1.hook_mlp_out")
    normalised = replace(raw, form="normalised", target=target)
    found = Sites(LanguageModel(model, None, "random"), [raw, normalised])(batch())
    assert list(found) == [raw, normalised, target]
    scale = found[raw].square().mean(dim=-1, keepdim=True).add(1e-6).sqrt()
    torch.testing.assert_close(found[normalised], found[raw] / scale)
    torch.testing.assert_close(found[target], read(model, target))
