"""Runs the language model as far as SAEs need it and keeps the tensors that they read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featgraph.activations import Batch
from featgraph.suite.hooks import End, Reading, on_tensor, sae_input
from featgraph.suite.language_model import LanguageModel

if TYPE_CHECKING:
    import torch

Activations = dict[Reading, "torch.Tensor"]
"""Input or target of SAEs -> its activations on the counted tokens, float32 (n_tokens, d_in)."""


class _AllRead(Exception):
    """Stops a forward pass once all tensors have been read."""


class Sites:
    """Reads the inputs of some SAEs, and the targets of transcoders, from the model on batches of text."""

    def __init__(self, model: LanguageModel, readings: Sequence[Reading]) -> None:
        self.model = model
        self.readings = list(dict.fromkeys(one for reading in readings for one in (reading, reading.rebuilt)))

    def __call__(self, batch: Batch) -> Activations:
        """Return each input and target on the batch's counted tokens."""
        import torch

        language_model, device = self.model.model, self.model.device
        counted = torch.from_numpy(batch.counted).to(device)
        missing: set[tuple[str, End]] = {(reading.module, reading.end) for reading in self.readings}
        kept: dict[tuple[str, End], torch.Tensor] = {}
        handles = [
            on_tensor(
                language_model.get_submodule(place[0]), place[1], _keeper(kept, missing, place, counted)
            )
            for place in sorted(missing)
        ]
        try:
            with torch.inference_mode():
                language_model.base_model(torch.from_numpy(batch.ids).to(device), use_cache=False)
        except _AllRead:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return {
            reading: sae_input(kept[reading.module, reading.end], reading, language_model)
            for reading in self.readings
        }


def _keeper(
    kept: dict[tuple[str, End], "torch.Tensor"],
    missing: set[tuple[str, End]],
    place: tuple[str, End],
    counted: "torch.Tensor",
) -> Any:
    def keep(tensor: "torch.Tensor") -> None:
        kept[place] = tensor[counted].float()
        missing.discard(place)
        if not missing:
            raise _AllRead

    return keep
