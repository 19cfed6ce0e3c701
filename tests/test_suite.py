"""Where SAEs read: on random models of real families, the three sites add up to the residual stream."""

from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from featgraph.errors import SourceError
from featgraph.model import SITES, Slab
from featgraph.suite import block_list, module_path

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 50,
}


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=32, num_key_value_heads=2))


def gemma2() -> Any:
    config = Gemma2Config(**SIZES, intermediate_size=32, num_key_value_heads=2, head_dim=8)
    return Gemma2ForCausalLM(config)


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50))


def gpt_neox() -> Any:
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=32))


@pytest.mark.parametrize("family", [llama, gemma2, gpt2, gpt_neox])
@pytest.mark.parametrize("style", ["module", "TransformerLens"])
def test_attention_and_mlp_add_up_to_what_a_block_adds(family: Any, style: str) -> None:
    torch.manual_seed(0)
    model = family().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    blocks = block_list(model)
    hooks = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "hook_attn_out"}
    kept: dict[str, torch.Tensor] = {}
    for site in SITES:
        slab = Slab(0, 1, site, 0, 1)
        path = module_path(model, f"blocks.1.{hooks[site]}", slab, "SAE x")
        if style == "module":
            assert module_path(model, path, slab, "SAE x") == path

        def keep(_module: object, _inputs: object, output: Any, site: str = site) -> None:
            kept[site] = output[0] if isinstance(output, tuple) else output

        model.get_submodule(path).register_forward_hook(keep)

    def keep_input(_module: object, arguments: Any, named: Any) -> None:
        kept["before"] = arguments[0] if arguments else named["hidden_states"]

    model.get_submodule(f"{blocks}.1").register_forward_pre_hook(keep_input, with_kwargs=True)
    with torch.inference_mode():
        model(torch.arange(10)[None])
    torch.testing.assert_close(kept["before"] + kept["att"] + kept["mlp"], kept["res"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_pre", "model.layers.1.self_attn.o_proj", "", "wte"])
def test_a_hook_that_cannot_be_compared_is_refused_with_those_that_can(hook: str) -> None:
    with pytest.raises(SourceError, match=r"hooks that can be compared: hook_resid_post"):
        module_path(llama(), hook, Slab(0, 1, "res", 0, 1), "SAE x")


def test_a_layer_beyond_the_model_is_refused() -> None:
    with pytest.raises(SourceError, match=r"SAE x: the model has no layer 5 with mlp output"):
        module_path(llama(), "blocks.5.hook_mlp_out", Slab(0, 5, "mlp", 0, 1), "SAE x")


def test_a_model_of_an_unknown_family_is_refused() -> None:
    with pytest.raises(SourceError, match=r"cannot find the blocks of a Linear; known places: model\.layers"):
        block_list(torch.nn.Linear(2, 2))
