"""What scale 1 means: how long a feature's vector is then."""

from dataclasses import dataclass

from featgraph.errors import UsageError
from featgraph.steering.members import Placed
from featgraph.steering.settings import Unit
from featgraph.store import Store
from featgraph.store.features import find_feature


@dataclass(frozen=True)
class Stored:
    """What the graph says of one feature and of its SAE."""

    sae_number: int
    idx: int
    hook_name: str
    release: str
    sae_id: str
    norm: float
    largest: float | None
    """Of its activations; None for a dead feature, and in a graph without a text."""
    density: float | None


def stored(store: Store, key: str) -> Stored:
    """Return what the graph says of a feature.

    Raises UsageError: there is no such feature, or it writes nothing.
    """
    found, sae = find_feature(store.saes, key)
    [row] = store.rows(_FEATURE, {"id": sae.first_id + found.idx, "number": sae.number})
    feature = Stored(sae.number, found.idx, *row)
    if feature.norm == 0:
        raise UsageError(
            f"{key!r} has a decoder row of zeros, so it writes nothing; steer with another feature"
        )
    return feature


def length(store: Store, step: Placed, feature: Stored, unit: Unit) -> float:
    """Return how long a feature's vector is at scale 1, in the basis of the residual stream.

    Raises UsageError: the graph does not know it.
    """
    if unit == "unit":
        return 1.0
    if unit == "raw":
        return feature.norm
    if unit == "residual":
        return _residual(store, step)
    if feature.density is None:
        raise UsageError(
            f"the graph was made without a text, so it knows no largest activation of {step.key!r}; "
            "use unit raw or unit"
        )
    if feature.largest is None:
        raise UsageError(
            f"{step.key!r} never fired on the graph's text, so it has no largest activation; "
            "use unit raw or unit"
        )
    if feature.largest <= 0:
        raise UsageError(
            f"{step.key!r} fired on the graph's text with negative activations only, the largest "
            f"{feature.largest:g}, which would turn its direction round; use unit raw or unit"
        )
    return feature.norm * feature.largest


def _residual(store: Store, step: Placed) -> float:
    """Return the root mean square length of the residual stream after the block, on the graph's text.

    Of a suite whose SAEs read the stream less its mean over d_model, the length is without that mean too.
    """
    reading = [sae.number for sae in store.saes if sae.site == "res" and sae.block == step.write_layer]
    rows = [row for row in store.rows(_RMS_LENGTH, {"numbers": reading}) if row[0] is not None]
    if not rows:
        raise UsageError(
            f"the graph does not know how long the residual stream after block {step.write_layer} is, where "
            f"{step.key!r} writes: no residual SAE reads there, or it has no text; use another unit"
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
