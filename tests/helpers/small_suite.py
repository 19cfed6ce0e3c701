"""A suite small enough to build in a test: a random Llama of 3 blocks with a random SAE at every site.

The SAEs are JumpReLU with thresholds low enough that some features fire; one feature per SAE never does.
"""

import gzip
from pathlib import Path

import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LAYERS, D_MODEL, N_FEATURES = 3, 16, 40
DEAD = 7
END = "<|endoftext|>"
STORIES = [
    "the cat sat on the mat and the dog ran to the park",
    "a dog and a cat went to the park to play with a red ball",
    "the red ball fell on the mat and the cat ran",
    "mom said the dog sat on the ball and it was a sad day",
] * 6
MODULES = {"res": "model.layers.{}", "mlp": "model.layers.{}.mlp", "att": "model.layers.{}.self_attn"}

RECIPE = f"""\
title = "a small random suite"
seed = 0

[model]
path = "small/model"

[suite]
layers = {LAYERS}

[suite.sites.res]
path = "small/saes/{{layer}}.res"

[suite.sites.mlp]
path = "small/saes/{{layer}}.mlp"

[suite.sites.att]
path = "small/saes/{{layer}}.att"

[text]
path = "small/text.txt.gz"
separator = "{END}"
tokens = 250
context = 12

[edges]
kinds = ["res_res", "mlp_res", "att_res"]
top_k = 3
twera_k = 3
min_support = 3
"""


def build_small_suite(folder: Path) -> Path:
    """Write model, SAEs, text and recipe below `folder`; return the recipe's path."""
    torch.manual_seed(0)
    tokenizer = save_model(folder / "small" / "model")
    with gzip.open(folder / "small" / "text.txt.gz", "wt", encoding="utf-8") as handle:
        handle.write(f"\n{END}\n".join(STORIES))
    for layer in range(LAYERS):
        for site, module in MODULES.items():
            save_sae(folder / "small" / "saes" / f"{layer}.{site}", module.format(layer))
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    assert tokenizer.bos_token_id is not None
    return recipe


def save_model(folder: Path, d_model: int = D_MODEL) -> PreTrainedTokenizerFast:
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=[END], show_progress=False)
    bare.train_from_iterator(STORIES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token=END, eos_token=END)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=d_model,
            intermediate_size=32,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.bos_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_sae(folder: Path, hook_name: str, d_in: int = D_MODEL) -> None:
    config = JumpReLUSAEConfig(
        d_in=d_in,
        d_sae=N_FEATURES,
        metadata=SAEMetadata(hook_name=hook_name, model_name="small", sae_lens_version="6.0.0"),
    )
    sae = JumpReLUSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(torch.randn(N_FEATURES, d_in))
        sae.W_enc.copy_(sae.W_dec.T + 0.3 * torch.randn(d_in, N_FEATURES))
        sae.threshold.fill_(0.5)
        sae.threshold[DEAD] = 1e9
    folder.mkdir(parents=True)
    sae.save_model(folder)
