"""Selects the steered tokens of a forward pass, with or without a key-value cache."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featgraph.errors import UsageError
from featgraph.steering.settings import Positions

if TYPE_CHECKING:
    import torch


class Passes:
    """The start of the current forward pass in its sequence, and the length of the prompt.

    Tokens are counted as the model reads them, padding included. Without a given length, the prompt is the
    input of a pass that has no cache and is not the previous input plus one token.
    """

    def __init__(self, positions: Positions, prompt_tokens: int | None) -> None:
        """Raise UsageError: the prompt's length is not a whole number, or negative."""
        if prompt_tokens is not None and (not isinstance(prompt_tokens, int) or prompt_tokens < 0):
            raise UsageError(f"prompt_tokens is {prompt_tokens!r}; give a whole number, 0 or more")
        self.positions: Positions = positions
        self.prompt_tokens = prompt_tokens
        self._start = 0
        self._prompt: torch.Tensor | None = None
        """The prompt as read so far, (batch, n_tokens) or (batch, n_tokens, d_model)."""
        self._read = 0
        """Length of the sequence after the last pass, in tokens."""

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Track the forward passes of a causal language model, or of its base model called alone."""
        if self.positions in ("all", "firing"):
            yield
            return
        base = model.base_model
        signature = inspect.signature(base.forward)

        def begins(_model: Any, arguments: Any, named: dict[str, Any]) -> None:
            given = signature.bind_partial(*arguments, **named).arguments
            read = given.get("input_ids")
            self._begins(given["inputs_embeds"] if read is None else read, given.get("past_key_values"))

        handle = base.register_forward_pre_hook(begins, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def steered(self, hidden: "torch.Tensor") -> "torch.Tensor | None":
        """Return which tokens of (..., n_tokens, d) are steered, (n_tokens, 1); None for all."""
        import torch

        if self.positions in ("all", "firing"):
            return None
        position = torch.arange(self._start, self._start + hidden.shape[-2], device=hidden.device)[:, None]
        return position < self._n_prompt if self.positions == "prompt" else position >= self._n_prompt

    def index(self, hidden: "torch.Tensor") -> Any:
        """Return the index of the steered tokens of (..., n_tokens, d)."""
        steered = self.steered(hidden)
        return ... if steered is None else (..., steered[:, 0], slice(None))

    @property
    def _n_prompt(self) -> int:
        if self.prompt_tokens is not None:
            return self.prompt_tokens
        assert self._prompt is not None, "a pass has begun"
        return self._prompt.shape[1]

    def _begins(self, read: "torch.Tensor", cache: Any) -> None:
        """Note where a pass begins.

        Raises UsageError: the length of the prompt is unknown.
        """
        self._start = 0 if cache is None else int(cache.get_seq_length())
        if self.prompt_tokens is not None:
            return
        if self._start == 0:
            if not (cache is None and self._goes_on(read)):
                self._prompt = read
        elif self._prompt is None or self._start != self._read or read.shape[1] != 1:
            raise UsageError(
                f"positions {self.positions}: a pass reads {read.shape[1]} tokens after {self._start} in its "
                "cache, and nothing says how many of them are the prompt; say so: "
                "apply(model, prompt_tokens=...)"
            )
        self._read = self._start + read.shape[1]

    def _goes_on(self, read: "torch.Tensor") -> bool:
        """Return whether a pass from the start has the same prompt and one token more than the last pass."""
        import torch

        prompt = self._prompt
        return (
            prompt is not None
            and read.ndim == prompt.ndim
            and read.shape[1] == self._read + 1
            and torch.equal(read[:, : prompt.shape[1]], prompt)
        )
