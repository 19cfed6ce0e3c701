"""Features or lineages of a graph -> `SteeringVector`: which, where, and how much of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from featgraph import vectors
from featgraph.errors import UsageError, nearest
from featgraph.lookup import find_feature
from featgraph.sources import Sources
from featgraph.steering import vector as vocabulary
from featgraph.steering.members import Placed, placed
from featgraph.steering.schedules import compensated, scheduled
from featgraph.steering.vector import Settings, SteeredFeature, SteeredModel, SteeringVector
from featgraph.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


@dataclass(frozen=True)
class _Row:
    """What the graph says of one feature."""

    slab: int
    hook_name: str
    release: str
    sae_id: str
    norm: float
    largest: float | None


def from_features(store: Store, weights: Mapping[str, float], settings: Settings) -> SteeringVector:
    """Return the steering vector of some features; what writes at the same place adds up.

    weights: by key, multiplies the scale; negative suppresses what a positive scale promotes.

    Raises UsageError: no such feature, setting or span, a number that is not finite, a vector of zeros, or a
    feature that cannot be added where it writes.
    """
    check_settings(settings)
    if not weights:
        raise UsageError("a steering vector needs at least one feature key, such as 12/res/3456")
    members, directions = [], []
    for key, weight in weights.items():
        _finite(f"the weight of {key}", weight)
        line = placed(store, key, settings)
        layers, cosines = [step.layer for step in line], [step.cosine for step in line]
        for step, coefficient in zip(line, scheduled(settings, layers, cosines), strict=True):
            member, direction = _member(store, step, coefficient * weight, settings)
            members.append(member)
            directions.append(direction)
    made = SteeringVector({}, tuple(members), settings, _model(store), sources=Sources(store))
    if made.gated:
        return made
    made = replace(
        made, layers=_added(members, directions, "out"), middles=_added(members, directions, "mid")
    )
    if settings.compensate:
        made = replace(made, layers=compensated(made.layers))
    _check_added(made)
    return made


def check_settings(settings: Settings) -> None:
    """Raise UsageError: a word that is none of those known, a number not finite, settings that clash."""
    for name in ("mode", "unit", "where", "schedule", "positions"):
        value, known = getattr(settings, name), get_args(getattr(vocabulary, name.capitalize()))
        if value not in known:
            raise UsageError(
                f"no {name} {value!r}{nearest(str(value), known) or ';'} {name} is one of {', '.join(known)}"
            )
    for name in ("scale", "alpha", "end"):
        _finite(name, getattr(settings, name))
    if settings.where == "per-layer" and settings.at is None:
        raise UsageError("where per-layer needs the layer: at")
    if settings.where == "single" and (settings.at is not None or settings.writers is not None):
        raise UsageError("where single has no span, so it takes neither at nor writers")
    if settings.compensate and settings.gated:
        raise UsageError(
            "compensate is for vectors known before the model runs: mode add, positions not firing"
        )


def _member(
    store: Store, step: Placed, coefficient: float, settings: Settings
) -> tuple[SteeredFeature, "Vector"]:
    key, slab = find_feature(store.slabs, step.key)
    [found] = store.rows(_FEATURE, {"id": slab.first_id + key.idx, "slab": slab.slab})
    row = _Row(slab.slab, *found)
    amount = (
        0.0 if settings.mode in ("rescale", "ablate") else coefficient * _length(store, step, row, settings)
    )
    member = SteeredFeature(
        step.key,
        step.write_layer,
        coefficient,
        0.0 if settings.gated else amount,
        step.cosine,
        row.release,
        row.sae_id,
        row.hook_name,
        row.norm,
        row.largest,
        step.point,
        amount / row.norm if settings.gated and settings.mode not in ("rescale", "ablate") else None,
        slab.slab,
        str(store.manifest["saes"][slab.slab].get("sha256", "")),
    )
    direction: Vector = vectors.directions(store.vectors(slab), [key.idx])[0]
    return member, direction


def _length(store: Store, step: Placed, row: _Row, settings: Settings) -> float:
    """Return how long a feature's vector is at scale 1."""
    if settings.unit == "unit":
        return 1.0
    if settings.unit == "raw":
        return row.norm
    if settings.unit == "residual":
        return _residual_length(store, step)
    if row.largest is None:
        raise UsageError(
            f"{step.key!r} never fired on the graph's text, so it has no largest activation; "
            "use unit raw or unit"
        )
    return row.norm * row.largest


def _residual_length(store: Store, step: Placed) -> float:
    """Return the root mean square length of the residual stream after a block, on the graph's text."""
    reading = [slab.slab for slab in store.slabs if slab.site == "res" and slab.block == step.write_layer]
    rows = store.rows(_RMS_LENGTH, {"slabs": reading})
    if not rows or rows[0][0] is None:
        raise UsageError(
            f"the graph does not know how long the residual stream after block {step.write_layer} is, where "
            f"{step.key!r} writes: no residual SAE reads there, or it has no text; use another unit"
        )
    return float(rows[0][0])


def _added(
    members: Iterable[SteeredFeature], directions: Iterable["Vector"], point: str
) -> dict[int, "Vector"]:
    """Return the sum of weighted directions at each block, ascending."""
    import numpy as np

    found: dict[int, Vector] = {}
    for member, direction in zip(members, directions, strict=True):
        if member.point == point:
            vector = direction * np.float32(member.weight)
            before = found.get(member.write_layer)
            found[member.write_layer] = vector if before is None else before + vector
    return dict(sorted(found.items()))


def _check_added(made: SteeringVector) -> None:
    import numpy as np

    for layer, values in [*made.layers.items(), *made.middles.items()]:
        if not np.isfinite(values).all():
            raise UsageError(
                f"the vector of layer {layer} has NaN or infinite values at scale "
                f"{made.settings.scale:g}; choose a finite, smaller one"
            )
    if not any(values.any() for values in [*made.layers.values(), *made.middles.values()]):
        raise UsageError(
            f"every vector is 0 at scale {made.settings.scale:g}, so nothing is steered; choose another"
        )


def _finite(name: str, value: float) -> None:
    if not abs(value) < float("inf"):
        raise UsageError(f"{name} is {value}; a finite number is needed")


def _model(store: Store) -> SteeredModel:
    model: dict[str, Any] = store.manifest["model"]
    return SteeredModel(
        model["name"], model["model_type"], model["d_model"], model["n_layers"], model.get("sha256", "")
    )


_FEATURE = """
    select s.hook_name, s.release, s.sae_id, f.decoder_norm, f.max_activation
    from feature f, sae s
    where f.id = $id and s.slab = $slab
"""

_RMS_LENGTH = "select rms_length from sae where slab in (select unnest($slabs::integer[]))"
