"""A numerical check that a language model keeps its tensors where this package reads and writes them.

Families of models differ in what stands between a module and the residual stream. Where one is not as `hooks`
says, every direction, example and removal would be wrong without a sign of it. So before a site is used, a
few tokens go through the model, and three things must hold there:

- the stream before a block, plus what its attention and mlp are said to add, is the stream after it;
- adding a feature's decoder row where its SAE writes moves the stream along the stored direction, by the
  stored length;
- the stored unembedding times what the output layer reads is what the output layer gives.

What fails is refused by name. Weights of 16 bits are too coarse for it; for these only shapes are checked. A
model with hooks on it is not checked: what they change is not the model's own.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.errors import SourceError
from featgraph.suite.hooks import End, Hook, Reading, on_tensor
from featgraph.suite.language_model import LanguageModel
from featgraph.suite.residual import centred_rows, decoder_rows

if TYPE_CHECKING:
    import torch

    from featgraph.suite.sae import LoadedSae

N_TOKENS, N_FEATURES = 8, 4
"""Tokens read, and features measured per SAE. Our choice: a wrong place shows on any feature."""

SAME_DIRECTION = 0.9999
"""Smallest cosine between the stored direction and the movement of the stream. Our choice: float32 leaves
0.999999, the
nearest wrong place seen (GLM-4 without its norms) 0.74."""

SAME_LENGTH = 1e-3
"""Largest relative difference of lengths that counts as rounding. Our choice, likewise."""

MEND = (
    "its directions would be wrong without a sign of it, so it is refused; open an issue that names the model"
)


def check_model(model: LanguageModel, unembedding: Matrix | None = None) -> None:
    """Check the residual stream of a language model and its unembedding, (n_vocabulary, d_model).

    unembedding: the weights in use; None: the model's own.

    Raises SourceError: the blocks do not pass on one stream, or the output layer has other weights.
    """
    if model.device.type == "meta" or _has_hooks(model):
        return
    probe = _probe(model)
    name, width = type(model.model).__name__, model.d_model
    for number, run in enumerate(probe.runs):
        if run.output.ndim != 3 or run.output.shape[-1] != width:
            raise SourceError(
                f"block {number} of this {name} gives a tensor of shape {tuple(run.output.shape)}, not one "
                f"residual stream of {width} dimensions per token; a model with several streams side by side "
                "has no single residual basis, so its features cannot be compared here"
            )
    if not _is_precise(model):
        return
    for number, (one, following) in enumerate(zip(probe.runs, probe.runs[1:], strict=False)):
        if _far(one.output, following.input):
            raise SourceError(
                f"the output of block {number} of this {name} is not the input of block {number + 1}; {MEND}"
            )
    _check_unembedding(probe, model.unembedding if unembedding is None else unembedding, name)


def check_sae(model: LanguageModel, loaded: "LoadedSae") -> None:
    """Check the place of one SAE in a runnable model.

    Raises SourceError: adding a feature at its hook does not move the residual stream by its direction.
    """
    if loaded.sae is None or loaded.reading is None or not _is_precise(model) or _has_hooks(model):
        return
    features = _some_features(loaded)
    if not len(features):
        return
    rows = decoder_rows(loaded.sae)[features]
    if loaded.site == "res":
        moved, whole = rows[:, None], rows[:, None]
    else:
        block = _Block(model, loaded)
        block.check_identity()
        moved, whole = block.moved(rows)
    _check_directions(model, loaded, features, moved, whole)


@dataclass
class _Run:
    """The inputs and the output of one run of a block."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    output: "torch.Tensor" = field(init=False)

    @property
    def input(self) -> "torch.Tensor":
        given: torch.Tensor = self.arguments[0] if self.arguments else self.named["hidden_states"]
        return given


@dataclass
class _Probe:
    """A forward pass over a few tokens: the run of each block, and input and output of the output layer."""

    runs: list[_Run]
    head: "tuple[torch.Tensor, torch.Tensor] | None" = None


_probes: WeakKeyDictionary[Any, _Probe] = WeakKeyDictionary()
"""Model -> its forward pass, which is the same for all SAEs."""


def _probe(model: LanguageModel) -> _Probe:
    """Run the model over a few tokens, once per model; the same tokens in every row, one row per feature."""
    import torch

    if model.model in _probes:
        return _probes[model.model]
    vocabulary = int(model.model.get_input_embeddings().weight.shape[0])
    # Ids of the first half of the vocabulary: special and image tokens are mostly at the end.
    tokens = torch.arange(1, N_TOKENS + 1, device=model.device) * max(vocabulary // (2 * N_TOKENS + 2), 1)
    probe = _Probe([])

    def before(_module: Any, arguments: Any, named: dict[str, Any]) -> None:
        probe.runs.append(_Run(arguments, named))

    def after(_module: Any, _arguments: Any, output: Any) -> None:
        probe.runs[-1].output = output[0] if isinstance(output, tuple) else output

    def head(_module: Any, arguments: Any, output: Any) -> None:
        probe.head = arguments[0], output

    with ExitStack() as hooks, torch.inference_mode():
        for block in model.model.get_submodule(model.blocks.path):
            hooks.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(block.register_forward_hook(after).remove)
        hooks.callback(model.model.get_output_embeddings().register_forward_hook(head).remove)
        model.model(tokens.expand(N_FEATURES, -1), use_cache=False)
    _probes[model.model] = probe
    return probe


def _check_unembedding(probe: _Probe, unembedding: Matrix, name: str) -> None:
    if probe.head is None:
        raise SourceError(f"this {name} does not use its output layer; {MEND}")
    read, given = (tensor[0].double().cpu().numpy() for tensor in probe.head)
    made = read.astype(np.float32) @ unembedding.T
    # A bias is the same for all positions, so the comparison leaves it out.
    difference = given - made
    spread = difference - difference.mean(axis=0)
    if np.abs(spread).max() > SAME_LENGTH * max(np.abs(made - made.mean(axis=0)).max(), 1e-6):
        raise SourceError(
            f"the unembedding of this {name} is not the weight of its output layer (are the weights "
            f"tied or not?); promoted tokens would be wrong, so it is refused"
        )


class _Block:
    """The block that an attention or mlp SAE writes in, run by itself."""

    def __init__(self, model: LanguageModel, loaded: "LoadedSae") -> None:
        assert loaded.reading is not None
        self.model, self.loaded, self.number = model, loaded, loaded.block
        self.run = _probe(model).runs[self.number]
        self.module = model.model.get_submodule(f"{model.blocks.path}.{self.number}")
        label = f"the self-check of {_place(loaded)}"
        self.attention, self.mlp = (
            model.blocks.reading(model.model, Hook(point, self.number), label)
            for point in ("attn_out", "mlp_out")
        )
        self.written = loaded.reading.rebuilt
        self.tensors = self._read([self.attention, self.mlp, self.written])

    def check_identity(self) -> None:
        """Raise SourceError: input plus the modules' outputs is not the output of the block."""
        added = self.tensors[_end(self.attention)] + self.tensors[_end(self.mlp)]
        wanted = self.run.input + self.model.blocks.residual_multiplier * added
        if _far(wanted, self.run.output, self.run.output - self.run.input):
            raise SourceError(
                f"the self-check of {_place(self.loaded)} failed: in block {self.number} of this "
                f"{type(self.model.model).__name__}, the outputs of {self.attention.module} and "
                f"{self.mlp.module} do not add up to the change of the residual stream; {MEND}"
            )

    def moved(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """Return the movement of the stream when rows are added at the tensor the SAE writes, one token row
        each.

        Return (movement, (n_rows, n_tokens, d_model), for rows of their own length; total output of the
        module, which a norm after the module scales with the row).
        """
        import torch

        tensor = self.tensors[_end(self.written)]
        length = float(tensor.norm(dim=-1).median()) / float(np.median(np.linalg.norm(rows, axis=1)))
        addend = torch.from_numpy(rows * length)[:, None].to(tensor)
        held = self.tensors[_end(self.mlp)]
        changes: list[tuple[Reading, Callable[[torch.Tensor], torch.Tensor]]] = [
            (self.written, lambda given: given + addend)
        ]
        if self.loaded.site == "att":
            # The reaction of the mlp is not part of this feature's output.
            changes.append((self.mlp, lambda given: held))
        after = self._run(changes)
        added = self.tensors[_end(self.attention if self.loaded.site == "att" else self.mlp)]
        moved, whole = ((after - self.run.output) / length), added
        return moved.double().cpu().numpy(), whole.double().cpu().numpy()

    def _read(self, readings: list[Reading]) -> "dict[tuple[str, End], torch.Tensor]":
        kept: dict[tuple[str, End], torch.Tensor] = {}

        def keeper(reading: Reading) -> "Callable[[torch.Tensor], None]":
            def keep(tensor: "torch.Tensor") -> None:
                kept[_end(reading)] = tensor

            return keep

        self._run([(reading, keeper(reading)) for reading in {_end(one): one for one in readings}.values()])
        return kept

    def _run(self, changes: Any) -> "torch.Tensor":
        import torch

        with ExitStack() as hooks, torch.inference_mode():
            for reading, change in changes:
                module = self.model.model.get_submodule(reading.module)
                hooks.callback(on_tensor(module, reading.end, change).remove)
            output = self.module(*self.run.arguments, **self.run.named)
        given: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return given


def _check_directions(
    model: LanguageModel, loaded: "LoadedSae", features: Indices, moved: Matrix, whole: Matrix
) -> None:
    """Raise SourceError: the stream does not move along the stored directions, or by another length."""
    wanted = (loaded.directions[features] * loaded.norms[features, None]).astype(np.float64)
    wanted = np.broadcast_to(wanted[:, None], moved.shape)
    if loaded.writer.centred:
        moved = centred_rows(moved.reshape(-1, moved.shape[-1])).reshape(moved.shape)
    normed = loaded.writer.unknown_length(model) is not None
    if normed:
        # A norm divides by the length of its input, which also changes the component along the input itself.
        axis = whole / np.linalg.norm(whole, axis=-1, keepdims=True)
        moved, wanted = (one - (one * axis).sum(-1, keepdims=True) * axis for one in (moved, wanted))
    lengths = np.linalg.norm(moved, axis=-1), np.linalg.norm(wanted, axis=-1)
    cosine = float(((moved * wanted).sum(-1) / (lengths[0] * lengths[1])).min())
    name = f"the self-check of {_place(loaded)} failed: in this {type(model.model).__name__}"
    if not cosine >= SAME_DIRECTION:
        raise SourceError(
            f"{name}, the residual stream does not move along the stored direction of feature "
            f"{int(features[0])} (cosine {cosine:.4f}, below {SAME_DIRECTION}); {MEND}"
        )
    times = float((lengths[0] / lengths[1]).max())
    if not normed and abs(times - 1) > SAME_LENGTH:
        raise SourceError(
            f"{name}, the residual stream moves {times:.3g} times as far as the stored length of feature "
            f"{int(features[0])}; {MEND}"
        )


def _some_features(loaded: "LoadedSae") -> Indices:
    """Return N_FEATURES features with nonzero rows, spread over the SAE; none if it has fewer."""
    live = np.flatnonzero(loaded.norms > 0)
    places = np.linspace(0, len(live) - 1, N_FEATURES).astype(np.int64)
    return live[places] if len(live) else live


def _far(one: "torch.Tensor", other: "torch.Tensor", scale: "torch.Tensor | None" = None) -> bool:
    """Say whether two tensors differ by more than rounding, relative to the length of one, or of `scale`."""
    if one.shape != other.shape:
        return True
    length = (other if scale is None else scale).double().norm()
    # The rounding error of the whole stream, whose norm can be far larger than what a block adds.
    rounding = 1e-5 * other.double().norm()
    return bool((one.double() - other.double()).norm() > SAME_LENGTH * length + rounding)


def _end(reading: Reading) -> tuple[str, End]:
    return reading.module, reading.end


def _place(loaded: "LoadedSae") -> str:
    return f"{loaded.layer}/{loaded.site} ({loaded.sae_id} at {loaded.hook_name})"


def _is_precise(model: LanguageModel) -> bool:
    """Return whether the model can run, with 32 bits or more."""
    weight = model.model.get_output_embeddings().weight
    return bool(weight.device.type != "meta" and weight.element_size() >= 4)


def _has_hooks(model: LanguageModel) -> bool:
    return any(bool(module._forward_hooks or module._forward_pre_hooks) for module in model.model.modules())
