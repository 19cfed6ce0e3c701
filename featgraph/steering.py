"""Features or a lineage -> `SteeringVector`: what to add to the residual stream, and adding it.

Owns where a feature writes between blocks and how long its vector is. Files are the business of `formats`.
Layer b always means out(b), the residual stream after block b, counted from 0.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from featgraph.errors import SourceError, UsageError, nearest
from featgraph.flow import Step, span, strongest_written
from featgraph.lookup import find_feature
from featgraph.model import block_of
from featgraph.store import Store

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

Unit = Literal["raw", "unit", "max-act"]
"""What scale 1 means: the decoder row as trained, at length 1, or times the feature's largest activation."""

PARALLEL = ("cohere", "gpt_neox", "gptj", "phi")
"""Model types whose attention and mlp read the same residual, so that both write out(b) exactly.

GPT-NeoX can be configured otherwise; `parallel_residual` in the manifest's `model` overrules this list.
Source: the blocks of these models in transformers 5."""


@dataclass(frozen=True)
class SteeredFeature:
    """One feature of a steering vector: where it came from and how it went in."""

    key: str
    write_layer: int
    """The block after which its direction is added; not always the layer in the key."""
    weight: float
    """What its unit direction was multiplied by."""
    cosine: float | None
    """Of the edge that joins it to the seed's side of the span; None for a feature that was asked for."""
    release: str
    sae_id: str
    hook_name: str
    decoder_norm: float
    max_activation: float | None
    """None for a feature that never fired on the graph's text."""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """One additive vector per layer, with its provenance."""

    layers: dict[int, "Vector"] = field(repr=False)
    """By block b, ascending: float32 (d_model,), added to out(b) at every position."""
    members: tuple[SteeredFeature, ...]
    scale: float
    unit: Unit
    model_name: str
    model_type: str
    """As transformers names the architecture, such as llama."""
    d_model: int

    @contextmanager
    def apply(self, model: "torch.nn.Module") -> Iterator[None]:
        """Add the vectors to a transformers causal language model while the `with` block runs.

        Every position is steered, of the prompt and of what is generated. The model is as before afterwards,
        also when the block raises.

        Raises SourceError: the model is of another width, has too few blocks, or keeps them elsewhere.
        """
        blocks = self._blocks(model)
        with ExitStack() as hooks:
            for layer, vector in self.layers.items():
                handle = blocks[layer].register_forward_hook(_adding(vector))
                hooks.callback(handle.remove)
            yield

    def between(self, first: int, last: int) -> "SteeringVector":
        """Return the part that writes after blocks `first` to `last`, both included.

        Raises UsageError: nothing is left.
        """
        layers = {layer: vector for layer, vector in self.layers.items() if first <= layer <= last}
        if not layers:
            there = ", ".join(map(str, self.layers))
            raise UsageError(f"no vector in layers {first} to {last}; this one writes after block {there}")
        members = tuple(member for member in self.members if member.write_layer in layers)
        return replace(self, layers=layers, members=members)

    def _blocks(self, model: Any) -> Any:
        from featgraph.suite.hooks import block_list

        blocks = model.get_submodule(block_list(model))
        width = model.config.get_text_config().hidden_size
        this, last = f"this {type(model).__name__}", max(self.layers)
        mend = f"apply it to {self.model_name} ({self.model_type}, d_model {self.d_model})"
        if width != self.d_model:
            raise SourceError(f"{this} has d_model {width}, but the vector has {self.d_model}; {mend}")
        if last >= len(blocks):
            raise SourceError(
                f"{this} has blocks 0 to {len(blocks) - 1}, but the vector writes after block {last}; {mend}"
            )
        return blocks


def from_features(
    store: Store, keys: Sequence[str], *, lineage: bool, scale: float, unit: str
) -> SteeringVector:
    """Return one additive vector per layer; features that write at the same layer add up.

    lineage: take the span of one seed instead of the seed alone. scale: multiplies every vector, negative
    suppresses. unit: what scale 1 means, see `Unit`.

    Raises UsageError: no such feature, unit or span, or a feature that writes at no out(b) exactly.
    """
    chosen_unit = _parse_unit(unit)
    steps = _span_of(store, keys) if lineage else _each(store, keys)
    layers: dict[int, Vector] = {}
    members = []
    for step in steps:
        member, vector = _steer(store, step, scale, chosen_unit)
        before = layers.get(member.write_layer)
        layers[member.write_layer] = vector if before is None else before + vector
        members.append(member)
    model = store.manifest["model"]
    ascending = dict(sorted(layers.items()))
    return SteeringVector(
        ascending, tuple(members), scale, chosen_unit, model["name"], model["model_type"], model["d_model"]
    )


def write_layer(site: str, layer: int, hook_name: str, *, parallel: bool) -> int | None:
    """Return the block b such that a decoder direction writes out(b) exactly, -1 for the embedding output.

    None where there is no such block: attention of sequential blocks writes between attention and mlp.
    An SAE of `resid_pre` at block b reads out(b - 1); the block is the one that its hook names, if it does.

    >>> write_layer("res", 12, "blocks.11.hook_resid_post", parallel=False)
    11
    >>> write_layer("res", 5, "blocks.5.hook_resid_pre", parallel=False)
    4
    """
    if site == "att" and not parallel:
        return None
    return block_of(layer, hook_name)


def _adding(vector: "Vector") -> Any:
    """Return a forward hook that adds a vector to a block's output, which may be the head of a tuple."""
    import torch

    addend = torch.from_numpy(vector)

    def hook(block: torch.nn.Module, arguments: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        steered = hidden + addend.to(hidden.device, hidden.dtype)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return hook


def _parse_unit(unit: str) -> Unit:
    for known in get_args(Unit):
        if unit == known:
            found: Unit = known
            return found
    units = get_args(Unit)
    raise UsageError(f"no unit {unit!r}{nearest(unit, units) or ';'} units are {', '.join(units)}")


def _each(store: Store, keys: Sequence[str]) -> list[Step]:
    if not keys:
        raise UsageError("a steering vector needs at least one feature key, such as 12/res/3456")
    found = [find_feature(store.slabs, key)[0] for key in keys]
    return [Step(str(key), key.layer, None) for key in found]


def _span_of(store: Store, keys: Sequence[str]) -> Sequence[Step]:
    if len(keys) != 1:
        raise UsageError(
            f"a lineage has one seed, but {len(keys)} features were given: {', '.join(keys)}; "
            "give one, or steer without lineage"
        )
    steps = span(store, keys[0], min=None)
    if not steps:
        raise UsageError(f"{keys[0]!r} writes no residual feature, so has no span; steer without lineage")
    return steps


def _steer(store: Store, step: Step, scale: float, unit: Unit) -> tuple[SteeredFeature, "Vector"]:
    """Return one feature's part in a steering vector and its vector."""
    from featgraph import vectors

    key, slab = find_feature(store.slabs, step.key)
    feature = slab.first_id + key.idx
    [row] = store.rows(_FEATURE, {"id": feature, "slab": slab.slab})
    hook_name, release, sae_id, norm, largest = row
    where = _where(store, step.key, feature, hook_name)
    weight = scale * _length(step.key, unit, norm, largest)
    direction = vectors.directions(store.vectors(slab), [key.idx])[0]
    member = SteeredFeature(step.key, where, weight, step.cosine, release, sae_id, hook_name, norm, largest)
    return member, direction * weight


def _length(key: str, unit: Unit, norm: float, largest: float | None) -> float:
    """Return how long a feature's vector is at scale 1."""
    if unit == "unit":
        return 1.0
    if unit == "raw":
        return norm
    if largest is None:
        raise UsageError(
            f"{key!r} never fired on the graph's text, so it has no largest activation; use unit raw or unit"
        )
    return norm * largest


def _where(store: Store, key: str, feature: int, hook_name: str) -> int:
    """Return the block after which a feature writes; refuse one that writes after none."""
    layer, site, _ = key.split("/")
    model = store.manifest["model"]
    parallel = bool(model.get("parallel_residual", model["model_type"] in PARALLEL))
    block = write_layer(site, int(layer), hook_name, parallel=parallel)
    if block is None:
        raise UsageError(
            f"{key!r} writes between attention and mlp of block {layer}, which in a {model['model_type']} is "
            f"the output of no block; {_instead(store, feature)}"
        )
    if block < 0:
        raise UsageError(
            f"{key!r} reads the residual stream before the first block, which is the output of no block; "
            "steer with features of later layers"
        )
    return block


def _instead(store: Store, feature: int) -> str:
    written = strongest_written(store, feature)
    if written is None:
        return "it writes no residual feature that could stand for it"
    return f"steer with '{written.key}', the residual feature it writes most (cosine {written.cosine:.2f})"


_FEATURE = """
    select s.hook_name, s.release, s.sae_id, f.decoder_norm, f.max_activation
    from feature f, sae s
    where f.id = $id and s.slab = $slab
"""
