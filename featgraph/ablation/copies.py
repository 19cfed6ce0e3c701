"""Copies of tokens at the end of their row, each of which can be changed alone.

A copy has the position of its token and attends to what that token attends to: the tokens before it, and
itself in place of the original. No token of the text sees a copy, and no copy sees another (a tree attention
mask, as in speculative decoding). So each copy gives what a forward pass of its own would give at that token,
and one pass over a row serves all changes to it. Exact for causal language models.

Source: tree attention, arXiv 2305.09781, section 4.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from featgraph.errors import SourceError
from featgraph.suite import LanguageModel

if TYPE_CHECKING:
    import torch


class _Read(Exception):
    """Ends a forward pass after the last block that is needed."""


@contextmanager
def copying(model: LanguageModel, blocks: Sequence[int], at: "torch.Tensor") -> Iterator[None]:
    """Append copies to the rows of text from the first of consecutive blocks on, while a `with` block runs.

    at: positions of the tokens that are copied, (n_rows, n_copies).
    """
    with ExitStack() as hooks:
        for number in blocks:
            block = model.model.get_submodule(f"{model.blocks.path}.{number}")
            handle = block.register_forward_pre_hook(
                _lengthening(at, opens=number == blocks[0]), with_kwargs=True
            )
            hooks.callback(handle.remove)
        yield


def read_until(model: LanguageModel, block: int, ids: "torch.Tensor") -> "torch.Tensor":
    """Run a model up to a block; return the residual stream after it, (n_rows, n_tokens, d_model)."""
    import torch

    kept: list[torch.Tensor] = []

    def keep(_module: Any, _arguments: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)
        raise _Read

    handle = model.model.get_submodule(f"{model.blocks.path}.{block}").register_forward_hook(keep)
    try:
        with torch.inference_mode():
            model.model.base_model(ids, use_cache=False)
    except _Read:
        pass
    finally:
        handle.remove()
    return kept[0]


def _lengthening(at: "torch.Tensor", *, opens: bool) -> Any:
    """Return a hook that appends copies to the arguments of a block."""

    def before(module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        names = list(inspect.signature(module.forward).parameters)
        given = dict(zip(names, arguments, strict=False)) | named
        hidden = given.pop("hidden_states")
        n_tokens = hidden.shape[1] if opens else hidden.shape[1] - at.shape[1]
        if opens:
            hidden = _along(hidden, at)
        given["attention_mask"] = _mask(given.get("attention_mask"), at, n_tokens)
        if given.get("position_ids") is not None:
            given["position_ids"] = _along(given["position_ids"], at)
        if given.get("position_embeddings") is not None:
            given["position_embeddings"] = tuple(_along(part, at) for part in given["position_embeddings"])
        return (hidden,), given

    return before


def _along(tensor: "torch.Tensor", at: "torch.Tensor") -> "torch.Tensor":
    """Append the entries of the copied tokens to a tensor (n_rows or 1, n_tokens, ...)."""
    import torch

    tensor = tensor.expand(len(at), *tensor.shape[1:])
    rows = torch.arange(len(at), device=at.device)[:, None]
    return torch.cat([tensor, tensor[rows, at]], dim=1)


def gathered(tensor: "torch.Tensor", row: "torch.Tensor", at: "torch.Tensor") -> "torch.Tensor":
    """Return the entries of the copied tokens of a tensor (n or 1, n_tokens, ...), (n_rows, n_copies, ...).

    row: row of the tensor of each row of copies. at: positions, (n_rows, n_copies).
    """
    return tensor[row[:, None] if len(tensor) > 1 else 0, at]


def copies_mask(mask: Any, row: "torch.Tensor", at: "torch.Tensor", n_tokens: int) -> "torch.Tensor":
    """Return which keys each copy sees, in the form of a block's own mask.

    mask: as `_checked`. row, at: as `gathered`.
    Returns (n_rows, 1, n_copies, n_tokens + n_copies): the text's keys, then those of the copies.

    Raises SourceError: the mask is of another form.
    """
    import torch

    mask = _checked(mask, n_tokens, at.device)
    seen, hidden = _values(mask)
    copies = torch.arange(at.shape[1], device=at.device)
    rows = torch.arange(len(at), device=at.device)[:, None]
    whole: torch.Tensor = mask.new_full((len(at), 1, at.shape[1], n_tokens + at.shape[1]), hidden)
    whole[:, 0, :, :n_tokens] = mask[row[:, None] if len(mask) > 1 else 0, 0, at]
    whole[rows, 0, copies, at] = hidden
    whole[:, 0, copies, n_tokens + copies] = seen
    return whole


def _checked(mask: Any, n_tokens: int, device: "torch.device") -> "torch.Tensor":
    """Return a block's own mask, (n_rows or 1, 1, n_tokens, n_tokens): booleans or addends of the scores.

    mask: None where the block masks later tokens by itself.

    Raises SourceError: it is of another form.
    """
    import torch

    if mask is None:
        mask = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device).tril()[None, None]
    if not isinstance(mask, torch.Tensor) or mask.shape[-2:] != (n_tokens, n_tokens) or mask.ndim != 4:
        raise SourceError(
            f"the model's attention takes a mask that is not understood ({type(mask).__name__}), so tokens "
            'cannot be changed one by one; load it with attn_implementation="sdpa"'
        )
    return mask


def _values(mask: "torch.Tensor") -> tuple[float | bool, float | bool]:
    """Return the entries of a mask for a key that is seen, and for one that is not."""
    import torch

    return (True, False) if mask.dtype == torch.bool else (0.0, torch.finfo(mask.dtype).min)


def _mask(mask: Any, at: "torch.Tensor", n_tokens: int) -> "torch.Tensor":
    """Return the attention mask of rows with their copies, in the form of the block's own, see `_checked`.

    Raises SourceError: the mask is of another form.
    """
    import torch

    mask = _checked(mask, n_tokens, at.device)
    seen, hidden = _values(mask)
    n_rows, n_copies = at.shape
    rows = torch.arange(n_rows, device=at.device)[:, None]
    copies = torch.arange(n_copies, device=at.device)
    whole: torch.Tensor = mask.new_full((n_rows, 1, n_tokens + n_copies, n_tokens + n_copies), hidden)
    whole[:, :, :n_tokens, :n_tokens] = mask
    whole[:, 0, n_tokens:, :n_tokens] = mask.expand(n_rows, -1, -1, -1)[rows, 0, at]
    whole[rows, 0, n_tokens + copies, at] = hidden
    whole[:, 0, n_tokens + copies, n_tokens + copies] = seen
    return whole
