"""Whether a file format can hold a steering vector: exactly, nearly, or not at all, and what mends it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featgraph.errors import UsageError
from featgraph.export.conventions import CONVENTIONS, Convention
from featgraph.steering.checks import check_added, check_changed, finite

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector
    from featgraph.steering.vector import Vector


@dataclass(frozen=True)
class _Loss:
    """One thing of a vector that a format cannot hold."""

    what: str
    """What the vector does and the format cannot say."""
    instead: str
    """What the file does in its place."""
    mend: str


def fit(
    vector: "SteeringVector", format: str, *, approximate: bool
) -> tuple["SteeringVector", tuple[str, ...]]:
    """Return a steering vector as a format can hold it, and in words what that changes.

    approximate: write what comes nearest, where something does.

    Raises UsageError: its numbers cannot be steered with, or the format cannot hold it.
    """
    convention = CONVENTIONS[format]
    check(vector)
    if vector.gated and not (convention.gated or _clamps(vector, convention)):
        raise UsageError(
            f"{_gated(vector)} looks at what SAEs find at each token, which {format} cannot hold; "
            "use --format json, a plan for `featgraph steer --plan`"
        )
    losses = list(_losses(vector, format, convention))
    if losses and not approximate:
        mends = [*dict.fromkeys(loss.mend for loss in losses), "take what comes nearest with --approximate"]
        what = "; ".join(loss.what for loss in losses)
        raise UsageError(f"{format} cannot hold this vector: {what}; {', or '.join(mends)}")
    if vector.middles and not convention.middles:
        vector = replace(vector, layers=_merged(vector), middles={})
    _check_reach(vector, convention)
    return vector, tuple(f"{loss.what}; {loss.instead}" for loss in losses)


def check(vector: "SteeringVector") -> None:
    """Raise UsageError: a vector names no block of its model, or holds nothing that can be added to it."""
    n_layers, d_model = vector.model.n_layers, vector.model.d_model
    for block in vector.write_layers:
        if not 0 <= block < n_layers:
            raise UsageError(
                f"the vector writes after block {block}, but {vector.model.name} has blocks 0 to "
                f"{n_layers - 1}; leave it out with --layers 0-{n_layers - 1}"
            )
    added = [*vector.layers.items(), *vector.middles.items()]
    for layer, values in added:
        if values.shape != (d_model,):
            raise UsageError(
                f"the vector of layer {layer} has {values.size} numbers, but d_model of "
                f"{vector.model.name} is {d_model}"
            )
    for member in vector.members:
        for name in ("coefficient", "weight"):
            finite(f"the {name} of {member.key}", getattr(member, name))
    if not vector.gated:
        check_added(added, vector.settings.scale)
    elif vector.members:
        check_changed(vector.members, vector.settings)
    else:
        raise UsageError(f"there are no features, and {_gated(vector)} steers by their activations")


def _gated(vector: "SteeringVector") -> str:
    settings = vector.settings
    return "positions firing" if settings.mode == "add" else f"mode {settings.mode}"


def _clamps(vector: "SteeringVector", convention: Convention) -> bool:
    return convention.clamps and vector.settings.mode == "clamp" and vector.settings.positions == "all"


def _losses(vector: "SteeringVector", format: str, convention: Convention) -> Iterator[_Loss]:
    if vector.middles and not convention.middles:
        keys = [member.key for member in vector.members if member.point == "mid"]
        blocks = ", ".join(map(str, vector.middles))
        yield _Loss(
            f"{_named(keys)} is added between attention and mlp of block {blocks}, and {convention.reader} "
            "adds after blocks only",
            "here it is added after the block, so the block's mlp does not see it",
            "leave att features out",
        )
    if vector.settings.positions not in convention.positions:
        yield _Loss(
            f"it steers {vector.settings.positions} tokens, and {format} does not say which",
            "here it steers all tokens",
            "steer with --positions all",
        )
    if vector.gated and not convention.gated:
        yield _Loss(
            "it sets the activation that an SAE finds",
            f"here {convention.reader} sets the length of the residual stream along the feature's decoder "
            "row, which other features share",
            "use --format json",
        )
    n_blocks = len(vector.write_layers)
    if convention.lone and n_blocks > 1:
        yield _Loss(
            f"it writes after {n_blocks} blocks, and {convention.reader} holds one in a file: versions up to "
            "0.4.9.1 add the last vector of a file at all of its blocks",
            "here each block has a file of its own, and a run with one steers there alone",
            "choose one with --layers",
        )


def _merged(vector: "SteeringVector") -> "dict[int, Vector]":
    """Return the vectors with what goes between attention and mlp added after the block instead."""
    found = dict(vector.layers)
    for layer, values in vector.middles.items():
        found[layer] = found[layer] + values if layer in found else values
    return dict(sorted(found.items()))


def _check_reach(vector: "SteeringVector", convention: Convention) -> None:
    last = vector.model.n_layers - 1 - convention.unreachable
    for block in vector.layers:
        if convention.first <= block <= last:
            continue
        keys = [member.key for member in vector.members if member.write_layer == block]
        left = [other for other in vector.layers if convention.first <= other <= last]
        mend = f"leave it out with --layers {min(left)}-{max(left)}, or use" if left else "use"
        raise UsageError(
            f"{_named(keys)} writes after block {block}, and {convention.why}; {mend} --format safetensors"
        )


def _named(keys: list[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(keys))) or "the vector"
