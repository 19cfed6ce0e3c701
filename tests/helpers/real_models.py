"""Small random models of the families whose SAEs are published, with every parameter random, gains too."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

LAYERS, D_MODEL, N_HEADS, D_HEAD, N_VOCABULARY = 3, 16, 2, 12, 50
D_Z = N_HEADS * D_HEAD
"""Width of attention's heads side by side; another one than d_model where the family allows it."""

_SIZES: dict[str, Any] = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": N_HEADS,
    "vocab_size": N_VOCABULARY,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 1, "head_dim": D_HEAD}


def gemma2() -> Any:
    return Gemma2ForCausalLM(Gemma2Config(**_GROUPED, query_pre_attn_scalar=D_HEAD))


def gemma3() -> Any:
    return Gemma3ForCausalLM(Gemma3TextConfig(**_GROUPED, query_pre_attn_scalar=D_HEAD))


def gemma3_multimodal() -> Any:
    vision = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "image_size": 28,
        "patch_size": 14,
    }
    text = {**_GROUPED, "query_pre_attn_scalar": D_HEAD}
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=N_VOCABULARY - 1,
        boi_token_index=N_VOCABULARY - 2,
        eoi_token_index=N_VOCABULARY - 3,
    )
    return Gemma3ForConditionalGeneration(config)


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**_GROUPED))


def qwen3() -> Any:
    return Qwen3ForCausalLM(Qwen3Config(**_GROUPED))


def gpt2() -> Any:
    config = GPT2Config(
        n_embd=D_MODEL, n_layer=LAYERS, n_head=N_HEADS, vocab_size=N_VOCABULARY, n_positions=64
    )
    return GPT2LMHeadModel(config)


def gpt_neox() -> Any:
    return GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES, use_parallel_residual=True))


def gpt_neox_sequential() -> Any:
    return GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES, use_parallel_residual=False))


FAMILIES: dict[str, Callable[[], Any]] = {
    family.__name__: family
    for family in (
        gemma2,
        gemma3,
        gemma3_multimodal,
        llama,
        qwen3,
        gpt2,
        gpt_neox,
        gpt_neox_sequential,
    )
}


FEW_FAMILIES = ("gemma2", "gpt2")
"""The families of `poe test`: one sequential with norms behind its modules, one with a bias and `Conv1D`."""


def each_family(*without: str) -> pytest.MarkDecorator:
    """Run a test with a model of each family; all but two of them in `poe test-all` only."""
    marks = {name: () if name in FEW_FAMILIES else (pytest.mark.thorough,) for name in FAMILIES}
    names = [name for name in FAMILIES if name not in without]
    return pytest.mark.parametrize("family", [pytest.param(name, marks=marks[name]) for name in names])


def random_model(family: str) -> Any:
    """Return a model of a family with all parameters random."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


_LENS_NAMES = {
    "gemma2": "google/gemma-2-2b",
    "gemma3": "google/gemma-3-1b-pt",
    "llama": "llama-7b-hf",
    "gpt2": "gpt2",
}


def lens(family: str, model: Any, folder: Path, *, centred: bool = False) -> Any:
    """Return the same model as a HookedTransformer, unprocessed but for the centring of what it writes.

    TransformerLens knows the flags of Gemma and Llama by name and those of others by their configuration, for
    which `folder` is needed; sizes are ours.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens import loading_from_pretrained as known

    config = model.config
    if family == "gpt2":
        flags: dict[str, Any] = {
            "original_architecture": "GPT2LMHeadModel",
            "act_fn": "gelu_new",
            "normalization_type": "LN",
            "d_head": D_MODEL // N_HEADS,
            "d_mlp": 4 * D_MODEL,
        }
    elif family in _LENS_NAMES:
        flags = _flags(_LENS_NAMES[family])
        flags |= {"n_key_value_heads": 1, "d_head": D_HEAD, "rotary_dim": D_HEAD, "attn_scale": D_HEAD**0.5}
        flags |= {"eps": config.rms_norm_eps, "d_mlp": 32}
    else:
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
        flags = _flags(str(folder))
    if family.startswith("gemma"):
        kinds = {"sliding_attention": "local", "full_attention": "global"}
        flags["attn_types"] = [kinds[kind] for kind in config.layer_types]
    flags |= {
        "d_model": D_MODEL,
        "n_layers": LAYERS,
        "n_heads": N_HEADS,
        "n_ctx": 64,
        "d_vocab": N_VOCABULARY,
    }
    flags |= {"device": "cpu", "tokenizer_name": None, "use_hook_mlp_in": True}
    flags.pop("d_vocab_out", None)
    made = HookedTransformerConfig.from_dict(flags)
    state = known.get_pretrained_state_dict(_LENS_NAMES.get(family, str(folder)), made, hf_model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # It is what published SAEs were trained with.
        lensed = HookedTransformer(made, move_to_device=False)
    lensed.load_and_process_state_dict(
        state, fold_ln=False, center_writing_weights=centred, center_unembed=False, fold_value_biases=False
    )
    return lensed.eval()


def _flags(name: str) -> dict[str, Any]:
    from transformer_lens.loading_from_pretrained import get_pretrained_model_config

    config: Any = get_pretrained_model_config(name)
    return dict(config.to_dict())
