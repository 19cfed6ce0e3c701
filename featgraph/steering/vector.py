"""`SteeringVector`: what steering adds to a language model's residual stream, and how that came about.

Layer b always means out(b), the residual stream after block b, counted from 0.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypedDict

from featgraph.errors import SourceError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from featgraph.suite import LanguageModel
    from featgraph.suite.graph_suite import GraphSuite

    Vector = NDArray[np.float32]

Mode = Literal["add", "rescale", "clamp", "min-clamp", "ablate"]
"""Add a vector; or change what the feature's SAE finds: times r, to a value, to at least a value, to nothing.

What the SAE does not explain stays, and each SAE finds what the changes before it have left.

Source: arXiv 2502.03032 v3, section 3.5 (add, rescale as h + (r - 1) a V^T); AxBench, arXiv 2501.17148 (clamp
with the SAE's error kept, min-clamp)."""

Unit = Literal["raw", "unit", "max-act", "residual"]
"""What scale 1 means: the decoder row as trained, length 1, the row times its largest activation, or
the root mean square length of the residual stream where it is added."""

Where = Literal["single", "per-layer", "cumulative"]
"""The feature at its own layer; its lineage's member at one layer; all members of its span up to that layer.

Source: arXiv 2502.03032 v3, section 4.2."""

Schedule = Literal["constant", "linear", "exponential", "cosine"]
"""How scale goes over the layers of a span, see `schedules`."""

Positions = Literal["all", "prompt", "generated", "firing"]
"""Which tokens are steered; `firing`: those on which the feature is active. A BOS token counts as well."""

Point = Literal["out", "mid"]
"""Where a vector is added: to out(b), or between attention and mlp of block b."""


@dataclass(frozen=True)
class Settings:
    """How a steering vector was asked for; what `featgraph steer` and `Graph.steering_vector` take."""

    scale: float = 1.0
    """Multiplies every vector; the factor r of `rescale`, the value of `clamp` and `min-clamp`."""
    mode: Mode = "add"
    unit: Unit = "raw"
    where: Where = "single"
    at: int | None = None
    """The layer of `per-layer`, the last one of `cumulative`."""
    min: float | None = None
    """Cosine down to which a span goes on; None: each SAE's `threshold_high`."""
    writers: float | None = None
    """Smallest cosine of mlp and att features that write a member of the span and are steered too."""
    schedule: Schedule = "constant"
    alpha: float = -0.05
    """Of the exponential schedule."""
    end: float = 1.0
    """Scale at the last layer, of the linear schedule."""
    compensate: bool = False
    """Take off each vector what earlier layers have added along it already."""
    positions: Positions = "all"

    @property
    def gated(self) -> bool:
        """Whether what is added depends on what the features' SAEs find, token by token."""
        return self.mode != "add" or self.positions == "firing"


class SettingsOptions(TypedDict, total=False):
    """The same as keyword arguments."""

    scale: float
    mode: Mode
    unit: Unit
    where: Where
    at: int | None
    min: float | None
    writers: float | None
    schedule: Schedule
    alpha: float
    end: float
    compensate: bool
    positions: Positions


@dataclass(frozen=True)
class SteeredFeature:
    """One feature of a steering vector: where it came from and how it went in."""

    key: str
    write_layer: int
    """The block after (point out) or in (mid) which its direction is added; not always the key's layer."""
    coefficient: float
    """Scale times the feature's own weight, as the schedule has it at this layer."""
    weight: float
    """What its unit direction was multiplied by; of a gated mode, 0."""
    cosine: float | None
    """Of the edge that joins it to the seed's side of the span; None for a feature that was asked for."""
    release: str
    sae_id: str
    hook_name: str
    decoder_norm: float
    max_activation: float | None
    """None for a feature that never fired on the graph's text."""
    point: Point = "out"
    target: float | None = None
    """Activation that `clamp` and `min-clamp` set, and that `add` adds where the feature fires."""
    sae_number: int = 0
    """Number of its SAE in the graph."""
    sae_sha256: str = ""


@dataclass(frozen=True)
class SteeredModel:
    """The language model that a steering vector is for."""

    name: str
    type: str
    """As transformers names the architecture, such as llama."""
    d_model: int
    n_layers: int
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """One additive vector per layer, with its provenance; or features whose activations are changed."""

    layers: dict[int, "Vector"] = field(repr=False)
    """By block b, ascending: float32 (d_model,), added to out(b). Empty where the vector is gated."""
    members: tuple[SteeredFeature, ...]
    settings: Settings
    model: SteeredModel
    middles: dict[int, "Vector"] = field(default_factory=dict, repr=False)
    """Likewise, added between attention and mlp of block b, where no reader of files can."""
    sources: "GraphSuite | None" = field(default=None, repr=False)
    """Where the SAEs of a gated vector are loaded from."""

    @property
    def gated(self) -> bool:
        """Whether what is added depends on what the features' SAEs find, token by token."""
        return self.settings.gated

    def apply(
        self, model: "torch.nn.Module", *, prompt_tokens: int | None = None
    ) -> AbstractContextManager[None]:
        """Steer a transformers causal language model while the `with` block runs.

        The model is as before afterwards, also when the block raises; vectors of nested blocks are applied in
        the order of nesting. prompt_tokens: how many tokens are the prompt, padding on the left included, for
        positions prompt and generated. None: what a pass reads that begins a sequence, also where
        `model.generate` reads it again, token by token longer, without a cache. It must be given for a prompt
        and what came after it in one pass, and for a prompt that is read in several.

        Raises SourceError: the model is of another family or width, has too few blocks, or keeps them
        elsewhere; an SAE of a gated vector cannot be loaded. UsageError, as the model runs: prompt_tokens.
        """
        from featgraph.steering.hooks import applied

        return applied(self, model, prompt_tokens)

    def check_model(self, model: "LanguageModel") -> None:
        """Raise SourceError: a language model has other weights than the one that the vector was made for.

        Nothing is compared where that one is not known, as with a graph of directions alone.
        """
        meant = self.model
        if meant.sha256 and model.digest != meant.sha256:
            raise SourceError(
                f"the model {model.name} is not the one that the vector was made for: its sha256 is "
                f"{model.digest[:12]}..., that of {meant.name} was {meant.sha256[:12]}...; load that model, "
                "or make the vector again from a graph of this one"
            )

    def between(self, first: int, last: int) -> "SteeringVector":
        """Return the part that writes at blocks `first` to `last`, both included.

        Raises UsageError: nothing is left.
        """

        def inside(vectors: dict[int, "Vector"]) -> dict[int, "Vector"]:
            return {layer: vector for layer, vector in vectors.items() if first <= layer <= last}

        members = tuple(member for member in self.members if first <= member.write_layer <= last)
        layers, middles = inside(self.layers), inside(self.middles)
        if not (layers or middles or (self.gated and members)):
            there = ", ".join(map(str, self.write_layers))
            raise UsageError(f"no vector in layers {first} to {last}; this one writes after block {there}")
        return replace(self, layers=layers, middles=middles, members=members)

    @property
    def write_layers(self) -> Sequence[int]:
        """The blocks at which something is added, ascending."""
        return sorted({*self.layers, *self.middles, *(member.write_layer for member in self.members)})
