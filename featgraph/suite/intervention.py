"""Changing what one SAE encodes: its codes are changed, and its tensor moves by what the decoder says of it.

The tensor that the SAE reconstructs moves by decode(change) - decode(0), so that the SAE's error stays. A
transcoder reads one tensor and changes another: `read` comes before `write`.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from featgraph.suite.hooks import Change, End, Reading, sae_input
from featgraph.suite.sae import LoadedSae, tokens_at_once

if TYPE_CHECKING:
    import torch

CodeChange = Callable[["torch.Tensor", slice], "torch.Tensor"]
"""Takes codes, (n, n_features), and the slice of their tokens; returns the change to add to them."""

Places = Callable[["torch.Tensor"], Any]
"""Takes the SAE's input, (..., n_tokens, d); returns the index of the tokens to change."""


def every_token(_hidden: "torch.Tensor") -> Any:
    """Return the index of all tokens."""
    return ...


class Intervention:
    """A change of the codes of one SAE in a running model."""

    def __init__(
        self, loaded: LoadedSae, model: Any, change: CodeChange, places: Places = every_token
    ) -> None:
        """model: the transformers model that the SAE was loaded for."""
        assert loaded.reading is not None, "an SAE that is loaded with a model has its place in it"
        self.loaded, self.model = loaded, model
        self.reading: Reading = loaded.reading
        self._change, self._places = change, places
        self._index: Any = None
        self._delta: torch.Tensor | None = None

    def hooks(self) -> Iterator[tuple[str, End, Change]]:
        """Yield (module, input or output, change) of each hook."""
        target = self.reading.target
        if target is None:
            yield self.reading.module, self.reading.end, self.apply
        else:
            yield self.reading.module, self.reading.end, self.read
            yield target.module, target.end, self.write

    def apply(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that the SAE reads and reconstructs, with the change."""
        self.read(hidden)
        return self.write(hidden)

    def read(self, hidden: "torch.Tensor") -> None:
        """Encode a tensor, (..., n_tokens, d_in), and store the change of the reconstruction."""
        import torch

        sae = self.loaded.sae
        assert sae is not None, "an SAE that encodes"
        self._index = self._places(hidden)
        selected = hidden[self._index]
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            read = selected.to(sae.W_dec.device, torch.float32).flatten(0, -2)
            read = sae_input(read, self.reading, self.model)
            size = tokens_at_once(sae.cfg.d_sae)
            parts = [self._decoded(read, slice(n, n + size)) for n in range(0, len(read), size)]
            delta = torch.cat(parts) if parts else read.new_zeros(0, sae.W_dec.shape[1])
            if self.reading.rebuilt.form == "centred":
                delta = delta - delta.mean(dim=-1, keepdim=True)
        self._delta = delta.reshape(*selected.shape[:-1], delta.shape[-1])

    def write(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor that the SAE reconstructs, with the stored change."""
        assert self._delta is not None, "an intervention reads before it writes"
        changed = hidden.clone()
        changed[self._index] += self._delta.to(hidden)
        return changed

    def _decoded(self, read: "torch.Tensor", tokens: slice) -> "torch.Tensor":
        """Return decode(change) - decode(0) of some tokens, (n, d_out).

        Both are decoded in one call, because some SAEs keep the scale of the encoded tokens for one decoding
        only.
        """
        import torch

        assert self.loaded.sae is not None, "an SAE that encodes"
        part = read[tokens]
        change = self._change(self.loaded.sae.encode(part), tokens)
        changed, unchanged = self.loaded.decode(torch.stack([change, torch.zeros_like(change)]), part)
        delta: torch.Tensor = changed - unchanged
        return delta
