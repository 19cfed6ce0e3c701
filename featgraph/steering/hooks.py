"""Adding a steering vector to a transformers model: hooks that are there while a `with` block runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from featgraph.errors import SourceError
from featgraph.steering.positions import Passes

if TYPE_CHECKING:
    import torch

    from featgraph.steering.vector import SteeringVector, Vector
    from featgraph.suite.hooks import Blocks, Change, End


@contextmanager
def applied(vector: "SteeringVector", model: Any, prompt_tokens: int | None) -> Iterator[None]:
    """Steer a model while the block runs; see `SteeringVector.apply`."""
    from featgraph.suite.hooks import blocks_of, on_tensor

    blocks = blocks_of(model)
    _check_shape(vector, model, blocks)
    passes = Passes(vector.settings.positions, prompt_tokens)
    with ExitStack() as hooks:
        hooks.enter_context(passes.watching(model))
        for module, end, change in _changes(vector, model, blocks, passes):
            hooks.callback(on_tensor(model.get_submodule(module), end, change).remove)
        yield


def _changes(
    vector: "SteeringVector", model: Any, blocks: "Blocks", passes: Passes
) -> Iterator[tuple[str, "End", "Change"]]:
    """Yield the module and its end at which each change belongs, in no order that matters."""
    from featgraph.suite.hooks import Hook

    if vector.gated:
        from featgraph.steering.sae_modes import gates

        yield from gates(vector, model, passes)
        return
    for layer, values in vector.layers.items():
        yield f"{blocks.path}.{layer}", "output", _adding(values, passes)
    for layer, values in vector.middles.items():
        place = blocks.reading(model, Hook("attn_out", layer), "steering")
        yield place.module, place.end, _adding(values, passes)


def _adding(vector: "Vector", passes: Passes) -> "Change":
    import torch

    addend = torch.from_numpy(vector)

    def change(hidden: "torch.Tensor") -> "torch.Tensor":
        added = addend.to(hidden.device, hidden.dtype)
        chosen = passes.chosen(hidden)
        return hidden + (added if chosen is None else added * chosen)

    return change


def _check_shape(vector: "SteeringVector", model: Any, blocks: "Blocks") -> None:
    """Raise SourceError: the model is of another family, width or depth than the one the vector is for."""
    config = model.config.get_text_config()
    width, n_blocks = config.hidden_size, len(model.get_submodule(blocks.path))
    this, meant = f"this {type(model).__name__}", vector.model
    mend = f"apply it to {meant.name} ({meant.type}, d_model {meant.d_model})"
    # The text part of a multimodal model may be loaded alone, under a name of its own.
    family, families = meant.type.removesuffix("_text"), {model.config.model_type, config.model_type}
    if family and family not in {known.removesuffix("_text") for known in families}:
        raise SourceError(
            f"{this} is a {config.model_type}, but the vector is for a {meant.type}; apply it to {meant.name}"
        )
    if width != meant.d_model:
        raise SourceError(f"{this} has d_model {width}, but the vector has {meant.d_model}; {mend}")
    last = max(vector.write_layers, default=-1)
    if last >= n_blocks:
        raise SourceError(
            f"{this} has blocks 0 to {n_blocks - 1}, but the vector writes after block {last}; {mend}"
        )
