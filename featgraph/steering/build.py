"""Features or lineages of a graph -> `SteeringVector`: which, where, and how much of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featgraph.core.keys import FeatureKey
from featgraph.steering.checks import check_added, check_changed, check_weights, checked
from featgraph.steering.members import Placed, placed
from featgraph.steering.schedules import compensation, scheduled
from featgraph.steering.settings import Point, Settings, SteeredFeature, SteeredModel
from featgraph.steering.units import length, stored
from featgraph.steering.vector import SteeringVector
from featgraph.store import Store, vectors
from featgraph.suite.graph_suite import GraphSuite

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector

Place = tuple[int, Point]
"""(block, point): the position in the model at which a vector is added."""


def from_features(store: Store, weights: Mapping[str, float], settings: Settings) -> SteeringVector:
    """Return the steering vector of some features; vectors at the same place are summed.

    weights: key -> factor of the scale; a negative one suppresses the feature. A feature shared by several
    lineages is rescaled, clamped or ablated once, with the setting that changes it most.

    Raises UsageError: no such feature, setting or span, a number that is not finite, a vector of zeros, or a
    feature that cannot be added where it writes.
    """
    settings = checked(settings)
    members = [
        member
        for key, weight in check_weights(weights).items()
        for member in _members(store, key, weight, settings)
    ]
    made = SteeringVector({}, tuple(members), settings, _model(store), suite=GraphSuite(store))
    if made.gated:
        check_changed(members, settings)
        return made if settings.mode == "add" else replace(made, members=_once(members, settings))
    added = _added(store, members)
    if settings.compensate:
        members, added = _compensated(members, added)
    check_added([(layer, values) for (layer, _), values in added.items()], settings.scale)
    return replace(
        made,
        layers={layer: values for (layer, point), values in added.items() if point == "out"},
        middles={layer: values for (layer, point), values in added.items() if point == "mid"},
        members=tuple(members),
    )


def _members(store: Store, key: str, weight: float, settings: Settings) -> list[SteeredFeature]:
    """Return what is steered for one feature."""
    line = placed(store, key, settings)
    scales = scheduled(settings, [step.layer for step in line], [step.cosine for step in line])
    return [_member(store, step, scale * weight, settings) for step, scale in zip(line, scales, strict=True)]


def _member(store: Store, step: Placed, coefficient: float, settings: Settings) -> SteeredFeature:
    feature, amount, target = stored(store, step.key), 0.0, None
    if settings.mode not in ("rescale", "ablate"):
        amount = coefficient * length(store, step, feature, settings.unit)
        target = amount / feature.norm if settings.gated else None
    return SteeredFeature(
        step.key,
        step.write_layer,
        coefficient,
        0.0 if settings.gated else amount,
        step.cosine,
        feature.release,
        feature.sae_id,
        feature.hook_name,
        feature.norm,
        feature.largest,
        step.point,
        target,
        feature.sae_number,
        str(store.manifest["saes"][feature.sae_number].get("sha256", "")),
    )


def _once(members: Sequence[SteeredFeature], settings: Settings) -> tuple[SteeredFeature, ...]:
    """Return one member per feature: the one that changes it most.

    That is the factor furthest from 1 (rescale), the value furthest from 0 (clamp), or the highest minimum
    (min-clamp).
    """

    def change(member: SteeredFeature) -> float:
        if settings.mode == "rescale":
            return abs(member.coefficient - 1)
        target = member.target or 0.0
        return abs(target) if settings.mode == "clamp" else target

    members_by_key: dict[str, SteeredFeature] = {}
    for member in members:
        before = members_by_key.get(member.key)
        if before is None or change(member) > change(before):
            members_by_key[member.key] = member
    return tuple(members_by_key.values())


def _added(store: Store, members: Iterable[SteeredFeature]) -> dict[Place, "Vector"]:
    """Return the sum of the weighted directions at each place, in the order of the forward pass."""
    import numpy as np

    vector_at: dict[Place, Vector] = {}
    for member in members:
        place, sae = (member.write_layer, member.point), store.saes[member.sae_number]
        [direction] = vectors.directions(store.vectors(sae), [FeatureKey.parse(member.key).idx])
        with np.errstate(over="ignore", invalid="ignore"):  # `check_added` refuses the result.
            vector = direction * np.float32(member.weight)
            vector_at[place] = vector_at[place] + vector if place in vector_at else vector
    return dict(sorted(vector_at.items(), key=lambda one: (one[0][0], one[0][1] == "out")))


def _compensated(
    members: Iterable[SteeredFeature], added: Mapping[Place, "Vector"]
) -> tuple[list[SteeredFeature], dict[Place, "Vector"]]:
    """Return members and vectors without the parts that earlier places already add."""
    import numpy as np

    factors = dict(zip(added, compensation(list(added.values())), strict=True))
    fewer = {
        place: (values.astype(np.float64) * factors[place]).astype(np.float32)
        for place, values in added.items()
    }
    return [
        replace(member, weight=member.weight * factors[member.write_layer, member.point])
        for member in members
    ], fewer


def _model(store: Store) -> SteeredModel:
    """Return the graph's model; its type is unknown if the graph was made from directions alone."""
    model: dict[str, Any] = store.manifest["model"]
    return SteeredModel(
        model["name"],
        model.get("model_type", ""),
        model["d_model"],
        model["n_layers"],
        model.get("sha256", ""),
    )
