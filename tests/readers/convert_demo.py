"""The demo's language model as a GGUF file, so that llama.cpp can steer it by our control vectors.

Only what this model needs: the Llama architecture, tied embeddings, a byte-level BPE tokenizer, float32.
Source: llama.cpp gguf-py/gguf/constants.py (names of keys and tensors).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]

_NORMAL, _CONTROL = 1, 3
"""Kinds of token, gguf.TokenType."""

_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
_OF_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Name in transformers -> name in GGUF, of weights outside blocks and within one."""


def convert(model: Path, gguf: Path) -> None:
    """Write the Llama model of a transformers folder as GGUF."""
    from gguf import GGUFWriter

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    writer = GGUFWriter(gguf, "llama")
    writer.add_name(model.name)
    _add_shape(writer, config)
    _add_tokenizer(writer, json.loads((model / "tokenizer.json").read_text(encoding="utf-8")), config)
    for name, values in _tensors(_weights(model / "model.safetensors"), config):
        writer.add_tensor(name, values)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)  # ALL_F32 of gguf.LlamaFileType


def _add_tokenizer(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """Add the tokens and merges; transformers' ByteLevel is what llama.cpp calls gpt2."""
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = sorted(ids, key=lambda token: ids[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if id in special else _NORMAL for id in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)


def _weights(path: Path) -> Weights:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118


def _tensors(weights: Weights, config: dict[str, Any]) -> list[tuple[str, NDArray[np.float32]]]:
    """Return every weight under its GGUF name, rotary ones in llama.cpp's order.

    Raises KeyError: a weight that this model should not have.
    """
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    found = []
    for name, values in weights.items():
        stem = name.removesuffix(".weight")
        if stem in _WHOLE:
            found.append((f"{_WHOLE[stem]}.weight", values))
            continue
        _, _, block, inside = stem.split(".", 3)
        kind = _OF_BLOCK[inside]
        found.append(
            (f"blk.{block}.{kind}.weight", _paired(values, heads[kind]) if kind in heads else values)
        )
    return found


def _paired(values: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Return query or key rows, (n_heads * d_head, d_model), with the two of a rotary plane side by side.

    transformers turns row i of a head together with row i + d_head / 2, llama.cpp row 2i with row 2i + 1.
    Source: llama.cpp conversion/llama.py, LlamaModel.permute; transformers rotate_half.
    """
    halves = values.reshape(n_heads, 2, -1, values.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
