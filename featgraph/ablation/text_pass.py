"""One forward pass over rows of text, kept so that blocks can run again on copies of tokens alone.

The pass keeps the keys and values of attention, what each block is given, and what SAEs read at the sampled
tokens. A copy then costs one token's way through a block, however long its row is.
"""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.copies import copies_mask, gathered
from featgraph.core.arrays import Indices
from featgraph.suite import LanguageModel
from featgraph.suite.hooks import End, Reading, on_tensor, sae_input

if TYPE_CHECKING:
    import torch


_CACHES = {"past_key_values", "layer_past"}
"""What blocks call the cache of keys and values."""


class _Read(Exception):
    """Ends a forward pass after the last block that is needed."""


@dataclass
class TextPass:
    """Some rows of text after one pass, and sampled tokens in them, (n_tokens,)."""

    model: LanguageModel
    row: "torch.Tensor"
    """Row of each sampled token within the pass, ascending."""
    position: "torch.Tensor"
    read: dict[Reading, "torch.Tensor"] = field(default_factory=dict)
    """What SAEs encode at the sampled tokens, (n_tokens, d_in), float32."""
    entering: dict[int, "torch.Tensor"] = field(default_factory=dict)
    """The residual stream before each block at the sampled tokens, (n_tokens, d_model)."""
    leaving: dict[int, "torch.Tensor"] = field(default_factory=dict)
    """Likewise, after each block."""
    _given: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Arguments of each block but for the residual stream."""
    _keys: dict[int, tuple["torch.Tensor", "torch.Tensor"]] = field(default_factory=dict)

    def block(self, number: int) -> Any:
        """Return a block of the model."""
        return self.model.model.get_submodule(f"{self.model.blocks.path}.{number}")

    def run(
        self, number: int, hidden: "torch.Tensor", row: "torch.Tensor", at: "torch.Tensor"
    ) -> "torch.Tensor":
        """Run one block on copies of tokens; return the residual stream that it leaves, as `hidden`.

        hidden: (n_rows, n_copies, d_model). row: row of the pass of each row of copies. at: the position of
        each copy, (n_rows, n_copies).

        Raises SourceError: the model's attention takes a mask of another form.
        """
        given = dict(self._given[number])
        keys = _TextKeys(*(part[row] for part in self._keys[number]))
        n_tokens = keys.keys.shape[2]
        for name in _CACHES & given.keys():
            given[name] = keys
        given["attention_mask"] = copies_mask(given.get("attention_mask"), row, at, n_tokens)
        if given.get("position_ids") is not None:
            given["position_ids"] = gathered(given["position_ids"], row, at)
        if given.get("position_embeddings") is not None:
            given["position_embeddings"] = tuple(
                gathered(part, row, at) for part in given["position_embeddings"]
            )
        output = self.block(number)(hidden, **given)
        left: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return left


class _TextKeys:
    """Keys and values of the text, as a cache that gives them before those of the copies."""

    def __init__(self, keys: "torch.Tensor", values: "torch.Tensor") -> None:
        self.keys, self.values = keys, values

    def update(
        self, keys: "torch.Tensor", values: "torch.Tensor", *_more: Any, **_named: Any
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the keys and values that the copies may see, (n_rows, n_heads, n, d_head)."""
        import torch

        return torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)


def read_text(
    model: LanguageModel,
    rows: Sequence[NDArray[np.int32]],
    row: Indices,
    position: Indices,
    readings: Sequence[Reading],
    blocks: Sequence[int],
) -> TextPass:
    """Run a model over rows of text once.

    row, position: the sampled tokens, row ascending. readings: what SAEs read. blocks: the blocks that copies
    will run through, ascending.
    """
    import torch
    from transformers import DynamicCache

    device = model.device
    length = int(position.max()) + 1  # Tokens after the last one that is sampled do not matter.
    ids = torch.zeros((len(rows), length), dtype=torch.int64)
    for number, tokens in enumerate(rows):
        part = tokens[:length]
        ids[number, : len(part)] = torch.from_numpy(part.astype(np.int64))
    text = TextPass(model, torch.from_numpy(row).to(device), torch.from_numpy(position).to(device))
    raw: dict[tuple[str, End], torch.Tensor] = {}
    cache = DynamicCache()  # Without a configuration it keeps all keys, also those outside a sliding window.
    with ExitStack() as hooks:
        missing: set[object] = {*blocks, *((reading.module, reading.end) for reading in readings)}
        for module, end in {(reading.module, reading.end) for reading in readings}:
            keep = _keeper(raw, (module, end), text, missing)
            hooks.callback(on_tensor(model.model.get_submodule(module), end, keep).remove)
        for number in blocks:
            before, after = _watching(text, number, missing)
            hooks.callback(text.block(number).register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(text.block(number).register_forward_hook(after).remove)
        try:
            with torch.inference_mode():
                model.model.base_model(ids.to(device), use_cache=True, past_key_values=cache)
        except _Read:
            pass
    for number in blocks:
        layer: Any = cache.layers[number]
        text._keys[number] = layer.keys, layer.values
    for reading in readings:
        text.read[reading] = sae_input(raw[reading.module, reading.end], reading, model.model)
    return text


def _keeper(
    raw: dict[tuple[str, End], "torch.Tensor"], place: tuple[str, End], text: TextPass, missing: set[object]
) -> Any:
    """Return a hook that keeps what SAEs read at one place."""

    def keep(tensor: "torch.Tensor") -> None:
        raw[place] = tensor[text.row, text.position].float()
        _kept(missing, place)

    return keep


def _kept(missing: set[object], place: object) -> None:
    """Note that a tensor is kept; end the pass when all are."""
    missing.discard(place)
    if not missing:
        raise _Read


def _watching(text: TextPass, number: int, missing: set[object]) -> tuple[Any, Any]:
    """Return hooks that keep what a block is given and what it leaves."""

    def before(module: Any, arguments: Any, named: Mapping[str, Any]) -> None:
        names = list(inspect.signature(module.forward).parameters)
        given = dict(zip(names, arguments, strict=False)) | dict(named)
        text.entering[number] = given.pop("hidden_states")[text.row, text.position]
        text._given[number] = given

    def after(_module: Any, _arguments: Any, output: Any) -> None:
        left = output[0] if isinstance(output, tuple) else output
        text.leaving[number] = left[text.row, text.position]
        _kept(missing, number)

    return before, after
