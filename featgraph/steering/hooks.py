"""Steering a transformers model: hooks that are there while a `with` block runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from featgraph.errors import SourceError
from featgraph.steering.positions import Passes
from featgraph.steering.sae_modes import code_changes
from featgraph.steering.settings import Settings, SteeredFeature, SteeredModel

if TYPE_CHECKING:
    import torch

    from featgraph.core.arrays import Vector
    from featgraph.suite.graph_suite import GraphSuite
    from featgraph.suite.hooks import Blocks, Change, End


class Steering(Protocol):
    """The part of a `SteeringVector` that hooks read."""

    @property
    def layers(self) -> Mapping[int, "Vector"]:
        """Block -> vector added to its output."""

    @property
    def middles(self) -> Mapping[int, "Vector"]:
        """Block -> vector added between its attention and mlp."""

    @property
    def members(self) -> Sequence[SteeredFeature]:
        """The steered features."""

    @property
    def settings(self) -> Settings:
        """The settings the vector was made with."""

    @property
    def model(self) -> SteeredModel:
        """The model the vector is for."""

    @property
    def suite(self) -> "GraphSuite | None":
        """Loader of the SAEs whose codes change."""

    @property
    def write_layers(self) -> Sequence[int]:
        """Blocks with an added vector, ascending."""


@contextmanager
def steer(vector: Steering, model: Any, prompt_tokens: int | None) -> Iterator[None]:
    """Steer a model while the block runs; see `SteeringVector.apply`."""
    from featgraph.suite.hooks import blocks_of, on_tensor

    blocks = blocks_of(model)
    _check_shape(vector, model, blocks)
    passes = Passes(vector.settings.positions, prompt_tokens)
    changes = list(_changes(vector, model, blocks, passes))  # Load the SAEs before adding hooks.
    with ExitStack() as hooks:
        hooks.enter_context(passes.watching(model))
        for module, end, change in changes:
            hooks.callback(on_tensor(model.get_submodule(module), end, change).remove)
        yield


def _changes(
    vector: Steering, model: Any, blocks: "Blocks", passes: Passes
) -> Iterator[tuple[str, "End", "Change"]]:
    """Yield (module, input or output, change) of each hook; the order does not matter."""
    from featgraph.suite.hooks import Hook

    if vector.settings.gated:
        from featgraph.suite import LanguageModel

        steered = LanguageModel(model, None, vector.model.name)
        yield from code_changes(vector.members, vector.settings, vector.suite, steered, passes)
        return
    for layer, values in vector.layers.items():
        yield f"{blocks.path}.{layer}", "output", _adding(values, passes)
    for layer, values in vector.middles.items():
        place = blocks.reading(model, Hook("attn_out", layer), "steering")
        # The block multiplies this vector before adding it to the residual stream.
        yield place.module, place.end, _adding(values / blocks.residual_multiplier, passes)


def _adding(vector: "Vector", passes: Passes) -> "Change":
    import torch

    addend = torch.from_numpy(vector)

    def change(hidden: "torch.Tensor") -> "torch.Tensor":
        added = addend.to(hidden.device, hidden.dtype)
        steered = passes.steered(hidden)
        return hidden + (added if steered is None else added * steered)

    return change


def _check_shape(vector: Steering, model: Any, blocks: "Blocks") -> None:
    """Raise SourceError: the model is of another family, width or depth than the one the vector is for."""
    config = model.config.get_text_config()
    width, n_blocks = config.hidden_size, len(model.get_submodule(blocks.path))
    this, meant = f"this {type(model).__name__}", vector.model
    hint = f"apply it to {meant.name} ({meant.type}, d_model {meant.d_model})"
    # The text part of a multimodal model may be loaded alone, under a name of its own.
    family, families = meant.type.removesuffix("_text"), {model.config.model_type, config.model_type}
    if family and family not in {known.removesuffix("_text") for known in families}:
        raise SourceError(
            f"{this} is a {config.model_type}, but the vector is for a {meant.type}; apply it to {meant.name}"
        )
    if width != meant.d_model:
        raise SourceError(f"{this} has d_model {width}, but the vector has {meant.d_model}; {hint}")
    last = max(vector.write_layers, default=-1)
    if last >= n_blocks:
        raise SourceError(
            f"{this} has blocks 0 to {n_blocks - 1}, but the vector writes after block {last}; {hint}"
        )
