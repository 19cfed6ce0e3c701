"""Which tokens of a forward pass are steered, with a key-value cache or without."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featgraph.steering.vector import Positions

if TYPE_CHECKING:
    import torch


class Passes:
    """Where the forward pass that is running begins in its sequence, and how much of that is the prompt."""

    def __init__(self, positions: Positions, prompt_tokens: int | None) -> None:
        self.positions = positions
        self.prompt_tokens = prompt_tokens
        self._start, self._prompt = 0, prompt_tokens or 0

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Follow the forward passes of a model; what an empty cache reads is the prompt if nothing says."""
        if self.positions in ("all", "firing"):
            yield
            return
        handle = model.register_forward_pre_hook(self._begins, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def chosen(self, hidden: "torch.Tensor") -> "torch.Tensor | None":
        """Return which tokens of (..., n_tokens, d) are steered, (n_tokens, 1); None for all."""
        import torch

        if self.positions in ("all", "firing"):
            return None
        place = torch.arange(self._start, self._start + hidden.shape[-2], device=hidden.device)[:, None]
        return place < self._prompt if self.positions == "prompt" else place >= self._prompt

    def _begins(self, _model: Any, arguments: Any, named: dict[str, Any]) -> None:
        cache = named.get("past_key_values")
        self._start = 0 if cache is None else int(cache.get_seq_length())
        read = named.get("input_ids") if named.get("input_ids") is not None else named.get("inputs_embeds")
        if read is None and arguments:
            read = arguments[0]
        if self.prompt_tokens is None and self._start == 0 and read is not None:
            self._prompt = int(read.shape[1])
