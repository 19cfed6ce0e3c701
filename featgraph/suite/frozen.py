"""Derivatives of a language model with its norms' scales and its attention patterns held constant.

What the model computes stays the same to the last bit; only what flows back through it changes. With both
held, the way from one feature to another is linear in the residual stream but for the mlps.

Source: Anthropic, "Circuit Tracing" (2025), "From cross-layer transcoder to replacement model": attention
patterns and normalisation denominators are frozen.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from featgraph.errors import SourceError
from featgraph.suite.language_model import LanguageModel

if TYPE_CHECKING:
    import torch

_PATTERNS = "featgraph_frozen_patterns"
"""Name under which transformers knows the attention whose patterns are constants."""

_SAME = 1e-4
"""Largest difference between a norm's output and what it is taken to compute, relative to its largest value;
float32 sums of a few thousand terms differ by 1e-6."""


@contextmanager
def frozen(model: LanguageModel) -> Iterator[None]:
    """Hold norms' scales and attention patterns of a model constant while the context is open.

    Raises SourceError: a norm of the model computes something that is not known.
    """
    norms = [module for module in model.model.modules() if _is_norm(module)]
    before = model.model.config.get_text_config()._attn_implementation
    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_hook(_with_constant_scale).remove)
        _register(before)
        model.model.set_attn_implementation(_PATTERNS)
        hooks.callback(model.model.set_attn_implementation, before)
        yield


def _is_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return "Norm" in type(module).__name__ and weight is not None and weight.dim() == 1


def _with_constant_scale(norm: Any, given: tuple[Any, ...], output: "torch.Tensor") -> "torch.Tensor":
    """Return a norm's output, through which derivatives flow as through a product with a constant."""
    import torch

    tensor = given[0]
    moved = tensor - tensor.mean(dim=-1, keepdim=True) if isinstance(norm, torch.nn.LayerNorm) else tensor
    with torch.no_grad():
        scale = _scale(norm, moved, output)
    linear: torch.Tensor = moved * scale
    return linear + (output - linear).detach()


def _scale(norm: Any, moved: "torch.Tensor", output: "torch.Tensor") -> "torch.Tensor":
    """Return what a norm multiplies its input with, as large as the input.

    Raises SourceError: it computes something else.
    """
    import torch

    epsilon = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    inverse = torch.rsqrt(moved.float().square().mean(dim=-1, keepdim=True) + epsilon)
    bias = getattr(norm, "bias", None)
    wanted = output.float() if bias is None else output.float() - bias.float()
    for gain in (norm.weight.float(), 1 + norm.weight.float()):  # Gemma keeps the gain less one.
        scale: torch.Tensor = inverse * gain
        if float((moved.float() * scale - wanted).abs().max()) <= _SAME * float(wanted.abs().max() + 1e-30):
            return scale.to(moved)
    raise SourceError(
        f"{type(norm).__name__} is no norm whose scale can be held constant; leave --frozen out"
    )


def _register(before: str) -> None:
    """Tell transformers of an attention that computes as `before` does, with constant patterns."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def attend(module: Any, query: Any, key: Any, *rest: Any, **named: Any) -> Any:
        if before == "eager":
            function = sys.modules[type(module).__module__].eager_attention_forward
        else:
            function = ALL_ATTENTION_FUNCTIONS[before]
        return function(module, query.detach(), key.detach(), *rest, **named)

    AttentionInterface.register(_PATTERNS, attend)
    AttentionMaskInterface.register(_PATTERNS, ALL_MASK_ATTENTION_FUNCTIONS[before])
