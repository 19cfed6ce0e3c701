"""Checks whether a file format can hold a steering vector: exactly, approximately or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featgraph.errors import UsageError
from featgraph.export.formats import FORMATS, ExportFormat
from featgraph.steering.checks import check_added, check_changed, finite

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector
    from featgraph.steering import SteeringVector


@dataclass(frozen=True)
class _Loss:
    """One property of a vector that a format cannot hold."""

    what: str
    """The property of the vector that the format cannot express."""
    instead: str
    """The approximation in the file."""
    hint: str
    """How to avoid the loss."""


def fit(
    vector: "SteeringVector", format: str, *, approximate: bool
) -> tuple["SteeringVector", tuple[str, ...]]:
    """Return the steering vector that a format can hold, and a description of each approximation.

    approximate: allow approximations.

    Raises UsageError: the vector is not valid, or the format cannot hold it.
    """
    export_format = FORMATS[format]
    check(vector)
    if vector.gated and not (export_format.gated or _clamps(vector, export_format)):
        raise UsageError(
            f"{_gated(vector)} depends on SAE activations at each token, which {format} cannot hold; "
            "use --format json, a plan for `featgraph steer --plan`"
        )
    losses = list(_losses(vector, format, export_format))
    if losses and not approximate:
        hints = [
            *dict.fromkeys(loss.hint for loss in losses),
            "take the closest approximation with --approximate",
        ]
        what = "; ".join(loss.what for loss in losses)
        raise UsageError(f"{format} cannot hold this vector: {what}; {', or '.join(hints)}")
    if vector.middles and not export_format.middles:
        vector = replace(vector, layers=_merged(vector), middles={})
    _check_reach(vector, export_format)
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
        raise UsageError(f"the vector has no features, and {_gated(vector)} needs their activations")


def _gated(vector: "SteeringVector") -> str:
    settings = vector.settings
    return "positions firing" if settings.mode == "add" else f"mode {settings.mode}"


def _clamps(vector: "SteeringVector", export_format: ExportFormat) -> bool:
    return export_format.clamps and vector.settings.mode == "clamp" and vector.settings.positions == "all"


def _losses(vector: "SteeringVector", format: str, export_format: ExportFormat) -> Iterator[_Loss]:
    if vector.middles and not export_format.middles:
        keys = [member.key for member in vector.members if member.point == "mid"]
        blocks = ", ".join(map(str, vector.middles))
        yield _Loss(
            f"{_named(keys)} is added between attention and mlp of block {blocks}, and {export_format.tool} "
            "adds after blocks only",
            "here it is added after the block, so the block's mlp does not see it",
            "leave att features out",
        )
    if vector.settings.positions not in export_format.positions:
        yield _Loss(
            f"it steers {vector.settings.positions} tokens, and {format} does not say which",
            "here it steers all tokens",
            "steer with --positions all",
        )
    if vector.gated and not export_format.gated:
        yield _Loss(
            "it sets the activation of an SAE feature",
            f"here {export_format.tool} sets the length of the residual stream along the feature's decoder "
            "row, which other features share",
            "use --format json",
        )
    n_blocks = len(vector.write_layers)
    if export_format.one_block and n_blocks > 1:
        yield _Loss(
            f"it writes after {n_blocks} blocks, and {export_format.tool} holds one in a file: versions up "
            "to 0.4.9.1 add the last vector of a file at all of its blocks",
            "here each block has a file of its own, and a run with one steers there alone",
            "choose one with --layers",
        )


def _merged(vector: "SteeringVector") -> "dict[int, Vector]":
    """Return block -> vector, with the vectors between attention and mlp moved to the block's output."""
    merged = dict(vector.layers)
    for layer, values in vector.middles.items():
        merged[layer] = merged[layer] + values if layer in merged else values
    return dict(sorted(merged.items()))


def _check_reach(vector: "SteeringVector", export_format: ExportFormat) -> None:
    last = vector.model.n_layers - 1 - export_format.unreachable
    for block in vector.layers:
        if export_format.first_block <= block <= last:
            continue
        keys = [member.key for member in vector.members if member.write_layer == block]
        left = [other for other in vector.layers if export_format.first_block <= other <= last]
        hint = f"leave it out with --layers {min(left)}-{max(left)}, or use" if left else "use"
        raise UsageError(
            f"{_named(keys)} writes after block {block}, and {export_format.why_unreachable}; "
            f"{hint} --format safetensors"
        )


def _named(keys: list[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(keys))) or "the vector"
