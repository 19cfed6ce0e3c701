"""Adding a steering vector to a transformers model: hooks that are there while a `with` block runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from featgraph.errors import SourceError
from featgraph.steering.positions import Passes

if TYPE_CHECKING:
    import torch

    from featgraph.steering.vector import SteeringVector, Vector
    from featgraph.suite.hooks import Blocks, End

Change = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes a tensor of the model, (..., n_tokens, d), and returns what goes on in its place."""


@contextmanager
def applied(vector: "SteeringVector", model: Any, prompt_tokens: int | None) -> Iterator[None]:
    """Steer a model while the block runs; see `SteeringVector.apply`."""
    from featgraph.suite.hooks import blocks_of

    blocks = blocks_of(model)
    _check_model(vector, model, blocks)
    passes = Passes(vector.settings.positions, prompt_tokens)
    with ExitStack() as hooks:
        hooks.enter_context(passes.watching(model))
        for module, end, change in _changes(vector, model, blocks, passes):
            handle = on(model.get_submodule(module), end, change)
            hooks.callback(handle.remove)
        yield


def on(module: "torch.nn.Module", end: "End", change: Change) -> Any:
    """Register a hook that changes what a module reads or gives; a tuple's head is its tensor."""

    def before(_module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if arguments:
            return (change(arguments[0]), *arguments[1:]), named
        return arguments, {**named, "hidden_states": change(named["hidden_states"])}

    def after(_module: Any, _arguments: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if end == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def _changes(
    vector: "SteeringVector", model: Any, blocks: "Blocks", passes: Passes
) -> Iterator[tuple[str, "End", Change]]:
    """Yield the module and its end at which each change belongs, in no order that matters."""
    from featgraph.suite.hooks import Hook

    if vector.gated:
        from featgraph.steering.gates import gates

        yield from gates(vector, model, passes)
        return
    for layer, values in vector.layers.items():
        yield f"{blocks.path}.{layer}", "output", _adding(values, passes)
    for layer, values in vector.middles.items():
        place = blocks.reading(model, Hook("attn_out", layer), "steering")
        yield place.module, place.end, _adding(values, passes)


def _adding(vector: "Vector", passes: Passes) -> Change:
    import torch

    addend = torch.from_numpy(vector)

    def change(hidden: "torch.Tensor") -> "torch.Tensor":
        added = addend.to(hidden.device, hidden.dtype)
        chosen = passes.chosen(hidden)
        return hidden + (added if chosen is None else added * chosen)

    return change


def _check_model(vector: "SteeringVector", model: Any, blocks: "Blocks") -> None:
    config = model.config.get_text_config()
    width, n_blocks = config.hidden_size, len(model.get_submodule(blocks.path))
    this, meant, last = f"this {type(model).__name__}", vector.model, max(vector.write_layers)
    mend = f"apply it to {meant.name} ({meant.type}, d_model {meant.d_model})"
    if width != meant.d_model:
        raise SourceError(f"{this} has d_model {width}, but the vector has {meant.d_model}; {mend}")
    if last >= n_blocks:
        raise SourceError(
            f"{this} has blocks 0 to {n_blocks - 1}, but the vector writes after block {last}; {mend}"
        )
