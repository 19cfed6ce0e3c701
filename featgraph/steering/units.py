"""Computes the length of a feature's vector at scale 1, in each unit."""

from dataclasses import dataclass

from featgraph.errors import UsageError
from featgraph.steering.members import Placed
from featgraph.steering.settings import Unit
from featgraph.store import Store
from featgraph.store.features import find_feature


@dataclass(frozen=True)
class Stored:
    """The stored facts about a feature and its SAE that set the length of its vector."""

    sae_number: int
    idx: int
    hook_name: str
    release: str
    sae_id: str
    norm: float
    largest: float | None
    """Largest activation; None for a dead feature, and in a graph without text."""
    density: float | None


def stored(store: Store, key: str) -> Stored:
    """Return the stored facts about a feature.

    Raises UsageError: there is no such feature, or it writes nothing.
    """
    found, sae = find_feature(store.saes, key)
    [row] = store.rows(_FEATURE, {"id": sae.first_id + found.idx, "number": sae.number})
    feature = Stored(sae.number, found.idx, *row)
    if feature.norm == 0:
        raise UsageError(f"{key!r} has a zero decoder row, so it writes nothing; steer with another feature")
    return feature


def length(store: Store, step: Placed, feature: Stored, unit: Unit) -> float:
    """Return the length of a feature's vector at scale 1, in the residual basis.

    Raises UsageError: the graph does not have the number that the unit needs.
    """
    if unit == "unit":
        return 1.0
    if unit == "raw":
        return feature.norm
    if unit == "residual":
        return _residual(store, step)
    if feature.density is None:
        raise UsageError(
            f"the graph was made without a text, so it has no largest activation of {step.key!r}; "
            "use unit raw or unit"
        )
    if feature.largest is None:
        raise UsageError(
            f"{step.key!r} never fired on the graph's text, so it has no largest activation; "
            "use unit raw or unit"
        )
    if feature.largest <= 0:
        raise UsageError(
            f"{step.key!r} fired on the graph's text with negative activations only (largest "
            f"{feature.largest:g}), which would reverse its direction; use unit raw or unit"
        )
    return feature.norm * feature.largest


def _residual(store: Store, step: Placed) -> float:
    """Return the root mean square norm of the residual stream after the block, on the graph's text.

    If the suite's SAEs read the stream without its mean over d_model, so is this norm.
    """
    reading = [sae.number for sae in store.saes if sae.site == "res" and sae.block == step.write_layer]
    rows = [row for row in store.rows(_RMS_LENGTH, {"numbers": reading}) if row[0] is not None]
    if not rows:
        raise UsageError(
            f"the graph has no norm of the residual stream after block {step.write_layer}, where "
            f"{step.key!r} writes: no residual SAE reads there, or the graph has no text; use another unit"
        )
    return float(rows[0][0])


_FEATURE = """
    select s.hook_name, s.release, s.sae_id, f.decoder_norm, f.max_activation, f.density
    from feature f, sae s
    where f.id = $id and s.number = $number
"""

_RMS_LENGTH = """
    select rms_length from sae where number in (select unnest($numbers::integer[])) and not isnan(rms_length)
"""
