"""Hook names -> which tensor of which block they mean, and which module of the model gives it.

A name is written as in TransformerLens (`blocks.5.hook_mlp_out`) or as a path of transformers' modules
(`model.layers.5.mlp`, `model.layers.5.self_attn.o_proj.input`; without an ending it is the output). Owns
where each family keeps the modules of a block, and the one way to get at a tensor while the model runs; what
a decoder row means there is `residual`'s to say.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from featgraph.core.keys import Site
from featgraph.errors import SourceError

if TYPE_CHECKING:
    import torch

BLOCKS = ("model.layers", "model.language_model.layers", "transformer.h", "gpt_neox.layers")
"""Paths of the list of blocks in the families: Llama, Gemma and Qwen; multimodal Gemma 3; GPT-2; GPT-NeoX."""

_BEFORE = "language_model.model.layers"
"""Path of the blocks in multimodal models before transformers 5, still used in published SAEs."""

End = Literal["input", "output"]
Form = Literal["raw", "centred", "normalised"]
Point = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "mlp_in", "normalized", "attn", "mlp"
]
"""A tensor of a block: the residual stream before it, between attention and mlp, and after it; what attention
and mlp add to it; attention's heads before W_O; what the mlp reads, with the gain of the norm before it and
without; attention's and mlp's outputs before the norm that some blocks put behind them."""

_TRANSFORMER_LENS: dict[str, Point] = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "z",
    "hook_mlp_in": "resid_mid",
    "mlp.hook_in": "mlp_in",
    "ln2.hook_normalized": "normalized",
}
"""TransformerLens' `hook_mlp_in` is before the norm; SAEs that mean the norm's output say so in
`hf_hook_name`. Source: transformer_lens 3.9, components/transformer_block.py."""

_SITES: dict[Point, Site] = {
    "resid_pre": "res",
    "resid_post": "res",
    "attn_out": "att",
    "z": "att",
    "attn": "att",
    "mlp_out": "mlp",
    "mlp": "mlp",
}

Change = Callable[["torch.Tensor"], "torch.Tensor | None"]
"""Takes a tensor of the model, (..., n_tokens, d), and returns its replacement, or None to keep it."""

_ModuleEnd = tuple[str | None, End, Point]
_IN_EVERY_FAMILY: list[_ModuleEnd] = [("", "output", "resid_post"), ("", "input", "resid_pre")]


@dataclass(frozen=True)
class Reading:
    """The tensor of the model that an SAE encodes; `activations.forward.Sites` reads it."""

    module: str
    end: End
    form: Form = "raw"
    """centred: without its mean over d_model. normalised: the output of the norm before its gain."""
    target: "Reading | None" = None
    """The tensor that a transcoder reconstructs; None if it is the encoded tensor itself."""

    @property
    def rebuilt(self) -> "Reading":
        """The tensor that the SAE reconstructs."""
        return self.target or self


@dataclass(frozen=True)
class Hook:
    """One tensor of one block."""

    point: Point
    number: int
    """Number of the block in the name, from 0."""

    @property
    def site(self) -> Site | None:
        """The site of an SAE at this hook; None if its output is at no site."""
        return _SITES.get(self.point)

    @property
    def block(self) -> int:
        """The block after which (res) or in which (mlp, att) the tensor is; see `block_of`."""
        return self.number - (self.point == "resid_pre")


@dataclass(frozen=True)
class Blocks:
    """The modules of a model's blocks, as suffixes of a block's path; None: the blocks have no such
    module."""

    path: str
    attention: str = ".self_attn"
    projection: str = ".self_attn.o_proj"
    mlp: str = ".mlp"
    norm_before_mlp: str | None = ".post_attention_layernorm"
    norm_after_attention: str | None = None
    norm_after_mlp: str | None = None
    residual_multiplier: float = 1.0
    """Factor of the outputs of attention and mlp when the block adds them (Granite)."""

    def places(self) -> list[_ModuleEnd]:
        """Return which end of which module is which tensor; the first that fits a tensor gives it."""
        return [
            *_IN_EVERY_FAMILY,
            (self.norm_after_attention or self.attention, "output", "attn_out"),
            (self.norm_after_mlp or self.mlp, "output", "mlp_out"),
            (self.attention, "output", "attn"),
            (self.mlp, "output", "mlp"),
            (self.projection, "input", "z"),
            (self.mlp, "input", "mlp_in"),
            (self.norm_before_mlp, "output", "mlp_in"),
            (self.norm_before_mlp, "input", "resid_mid"),
            (self.norm_before_mlp, "input", "normalized"),
        ]

    def writing(self, hook: Hook) -> list[str]:
        """Return the modules between a tensor and the residual stream, in order."""
        passed = {
            "z": [self.projection, self.norm_after_attention],
            "attn": [self.norm_after_attention],
            "mlp": [self.norm_after_mlp],
        }
        return [f"{self.path}.{hook.number}{suffix}" for suffix in passed.get(hook.point, []) if suffix]

    def reading(self, model: Any, hook: Hook, label: str) -> Reading:
        """Return the module from which a tensor is read, in raw form.

        Raises SourceError: the model has no such block or module.
        """
        for suffix, end, point in self.places():
            path = f"{self.path}.{hook.number}{suffix}"
            if point == hook.point and suffix is not None and has_module(model, path):
                return Reading(path, end, "normalised" if point == "normalized" else "raw")
        what = f"{hook.site} output" if hook.site else f"{hook.point} tensor"
        raise SourceError(f"{label}: the model has no layer {hook.number} with {what} under {self.path}")


def blocks_of(model: Any) -> Blocks:
    """Return the modules of a causal language model's blocks.

    Raises SourceError: the model is of a family whose blocks are not known.
    """
    path = block_list(model)
    if path == "transformer.h":
        return Blocks(path, ".attn", ".attn.c_proj", norm_before_mlp=".ln_2")
    if path == "gpt_neox.layers":
        return Blocks(path, ".attention", ".attention.dense")

    def there(suffix: str) -> str | None:
        return suffix if has_module(model, f"{path}.0{suffix}") else None

    multiplier = float(getattr(model.config.get_text_config(), "residual_multiplier", None) or 1.0)
    behind_mlp = there(".post_feedforward_layernorm")
    if behind_mlp:
        # In Gemma and OLMo 2 this name is the norm after attention; in Llama, the norm before the mlp.
        return Blocks(
            path,
            norm_before_mlp=there(".pre_feedforward_layernorm"),
            norm_after_attention=".post_attention_layernorm",
            norm_after_mlp=behind_mlp,
            residual_multiplier=multiplier,
        )
    return Blocks(
        path,
        norm_after_attention=there(".post_self_attn_layernorm"),  # GLM-4, as the next
        norm_after_mlp=there(".post_mlp_layernorm"),
        residual_multiplier=multiplier,
    )


def block_list(model: Any) -> str:
    """Return the path of the module list that holds a causal language model's blocks.

    Raises SourceError: the model is of a family whose blocks are not known.
    """
    for path in BLOCKS:
        if has_module(model, path):
            return path
    raise SourceError(
        f"cannot find the blocks of a {type(model).__name__}; known places: {', '.join(BLOCKS)}"
    )


def find_hook(name: str | None, blocks: Blocks | None) -> Hook | None:
    """Return the tensor of a hook name; None if the name is unknown.

    blocks: of the model; without them, only names with the same meaning in all families are known.
    """
    lens = re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", name or "")
    if lens:
        known = _TRANSFORMER_LENS.get(lens[2])
        return None if known is None else Hook(known, int(lens[1]))
    paths = "|".join(re.escape(path) for path in (*BLOCKS, _BEFORE))
    # sparsify omits the path of the list of blocks: `layers.6.mlp`.
    named = re.fullmatch(rf"(?:{paths}|layers|h)\.(\d+)((?:\.\w+)*?)(?:\.(input|output))?", name or "")
    if named is None:
        return None
    wanted = (named[2], named[3] or "output")
    for suffix, end, point in blocks.places() if blocks else _IN_EVERY_FAMILY:
        if (suffix, end) == wanted:
            return Hook(point, int(named[1]))
    return None


def on_tensor(module: "torch.nn.Module", end: End, change: Change) -> Any:
    """Call `change` with the input or output of a module whenever it runs; return the handle to remove it.

    Blocks and attention may return a tuple, whose first element is the tensor.
    """

    def before(_module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        changed = change(arguments[0] if arguments else named["hidden_states"])
        if changed is None:
            return None
        if arguments:
            return (changed, *arguments[1:]), named
        return arguments, {**named, "hidden_states": changed}

    def after(_module: Any, _arguments: Any, output: Any) -> Any:
        several = isinstance(output, tuple)
        changed = change(output[0] if several else output)
        return (changed, *output[1:]) if several and changed is not None else changed

    if end == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def sae_input(tensor: "torch.Tensor", reading: Reading, model: Any) -> "torch.Tensor":
    """Return a tensor of the model in the form in which the SAE encodes it."""
    if reading.form == "centred":
        return tensor - tensor.mean(dim=-1, keepdim=True)
    if reading.form == "normalised":
        return _without_gain(tensor, model.get_submodule(reading.module))
    return tensor


def _without_gain(tensor: "torch.Tensor", norm: Any) -> "torch.Tensor":
    """Return the output of a norm before gain and bias, as TransformerLens' hook_normalized."""
    import torch

    if isinstance(norm, torch.nn.LayerNorm):
        tensor = tensor - tensor.mean(dim=-1, keepdim=True)
    epsilon = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    return tensor * torch.rsqrt(tensor.square().mean(dim=-1, keepdim=True) + epsilon)


def has_module(model: Any, path: str) -> bool:
    """Return whether a model has a module at a path."""
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
