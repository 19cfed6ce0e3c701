"""`SteeringVector`: the vectors added to a language model's residual stream, with their provenance.

Layer b always means out(b), the residual stream after block b, counted from 0.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from featgraph.core.saving import Written, save_vector
from featgraph.errors import SourceError, UsageError
from featgraph.steering.hooks import steer
from featgraph.steering.settings import Settings, SteeredFeature, SteeredModel

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from featgraph.core.arrays import Vector
    from featgraph.suite import LanguageModel
    from featgraph.suite.graph_suite import GraphSuite


@dataclass(frozen=True, eq=False, repr=False)
class SteeringVector:
    """One vector per layer, or features whose activations are changed; with provenance."""

    layers: dict[int, "Vector"] = field(repr=False)
    """Block b -> float32 (d_model,), added to out(b); ascending. Empty if activations are changed instead."""
    members: tuple[SteeredFeature, ...]
    settings: Settings
    model: SteeredModel
    middles: dict[int, "Vector"] = field(default_factory=dict, repr=False)
    """Block b -> vector added between attention and mlp; most file formats cannot express it."""
    suite: "GraphSuite | None" = field(default=None, repr=False)
    """Loader of the SAEs whose codes a gated vector changes."""

    @property
    def gated(self) -> bool:
        """Whether the change depends on the activations of the features, token by token."""
        return self.settings.gated

    def apply(
        self, model: "torch.nn.Module", *, prompt_tokens: int | None = None
    ) -> AbstractContextManager[None]:
        """Steer a transformers causal language model while the `with` block runs.

        The model is restored afterwards, also if the block raises; nested vectors are applied in the order of
        nesting. prompt_tokens: how many tokens are the prompt, padding on the left included, for
        positions prompt and generated. None: what a pass reads that begins a sequence, also where
        `model.generate` reads it again, token by token longer, without a cache. It must be given for a prompt
        and what came after it in one pass, and for a prompt that is read in several.

        Raises SourceError: the model is of another family or width, has too few blocks, or keeps them
        elsewhere; an SAE of a gated vector cannot be loaded. UsageError, as the model runs: prompt_tokens.
        """
        return steer(self, model, prompt_tokens)

    def save(self, path: "str | Path", format: str | None = None, *, approximate: bool = False) -> Written:
        """Write the vector as a file of another tool; formats: `export.FORMATS`.

        path: a file, or a folder for some formats; existing files are replaced. format: by default that of
        the file extension. approximate: approximate the vector if the format cannot hold it.

        Raises UsageError: no such format, it cannot hold this vector, or a file cannot be written.
        """
        return save_vector()(self, path, format, approximate=approximate)

    def __repr__(self) -> str:
        keys = ", ".join(dict.fromkeys(member.key for member in self.members))
        settings = self.settings
        return (
            f"<SteeringVector {settings.mode} {keys}: scale {settings.scale:g} ({settings.unit}), "
            f"layers {', '.join(map(str, self.write_layers))} of {self.model.name}>"
        )

    def check_model(self, model: "LanguageModel") -> None:
        """Raise SourceError: the model's weights differ from those the vector was made for.

        Nothing is compared if the graph does not record them, as one made from directions alone.
        """
        meant = self.model
        if meant.sha256 and model.digest != meant.sha256:
            raise SourceError(
                f"the model {model.name} is not the one that the vector was made for: its sha256 is "
                f"{model.digest[:12]}..., that of {meant.name} was {meant.sha256[:12]}...; load that model, "
                "or make the vector again from a graph of this one"
            )

    def between(self, first: int, last: int) -> "SteeringVector":
        """Return the part of the vector that writes at blocks `first` to `last`, both included.

        Raises UsageError: no block is left.
        """

        def inside(vectors: dict[int, "Vector"]) -> dict[int, "Vector"]:
            return {layer: vector for layer, vector in vectors.items() if first <= layer <= last}

        members = tuple(member for member in self.members if first <= member.write_layer <= last)
        layers, middles = inside(self.layers), inside(self.middles)
        if not (layers or middles or (self.gated and members)):
            blocks = ", ".join(map(str, self.write_layers))
            raise UsageError(f"no vector in layers {first} to {last}; this one writes after block {blocks}")
        return replace(self, layers=layers, middles=middles, members=members)

    @property
    def write_layers(self) -> Sequence[int]:
        """The blocks with an added vector, ascending."""
        return sorted({*self.layers, *self.middles, *(member.write_layer for member in self.members)})
