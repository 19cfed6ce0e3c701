"""Controls of a steering vector: vectors of the same strength in other directions.

random     a random direction in each layer's vector's place; gated: other features of the same SAEs
shuffled   the seeds stay, every other member is another feature of the same SAE: the edges are wrong
seed-only  the seeds at their own layers, as long as all the vectors together
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from featgraph.core.arrays import Vector
from featgraph.core.keys import FeatureKey
from featgraph.errors import UsageError
from featgraph.steering import SteeredFeature, SteeringVector, from_features
from featgraph.store import Store, vectors

Control = Literal["random", "shuffled", "seed-only"]
CONTROLS: tuple[Control, ...] = get_args(Control)

_ALIKE = 20
"""A gated control draws a feature's replacement from so many of the same SAE, those that add most nearly as
much
to the residual stream per token. Our choice: a few per cent of a small SAE."""


def control(
    store: Store, made: SteeringVector, weights: Mapping[str, float], which: Control, seed: int
) -> SteeringVector | None:
    """Return a control of a steering vector; None if it would equal the vector.

    The vectors of `random` and `shuffled` have the lengths of the original vectors, layer by layer; those of
    `seed-only` are scaled by one factor, so that the sum of the lengths is the same.
    In gated modes, each feature is replaced by one that adds about as much on the graph's text.

    Source: random and shuffled controls of matched norm, after arXiv 2410.08869 and the seed-only baseline of
    arXiv 2502.03032 v3, section 4.2; how they are matched is ours.
    """
    if which == "seed-only":
        return _seed_only(store, made, weights)
    rng = np.random.default_rng([seed, CONTROLS.index(which)])
    if which == "random" and not made.gated:
        return replace(
            made,
            layers={layer: _random(vector, rng) for layer, vector in made.layers.items()},
            middles={layer: _random(vector, rng) for layer, vector in made.middles.items()},
            members=(),
        )
    kept = set(weights) if which == "shuffled" else set()
    if all(member.key in kept for member in made.members):
        return None
    taken = {member.key for member in made.members}
    members = tuple(
        member if member.key in kept else _stand_in(store, member, taken, rng, alike=made.gated)
        for member in made.members
    )
    if made.gated:
        return replace(made, members=members)
    return replace(
        made,
        layers=_matched(_added(store, members, "out"), made.layers),
        middles=_matched(_added(store, members, "mid"), made.middles),
        members=members,
    )


def _seed_only(store: Store, made: SteeringVector, weights: Mapping[str, float]) -> SteeringVector | None:
    if made.settings.where == "single":
        return None
    settings = replace(made.settings, where="single", at=None, writers=None, compensate=False)
    alone = replace(from_features(store, weights, settings), suite=made.suite)
    if made.gated:
        return alone
    length = sum(_lengths(made)) / sum(_lengths(alone))
    return replace(
        alone,
        layers={layer: _times(vector, length) for layer, vector in alone.layers.items()},
        middles={layer: _times(vector, length) for layer, vector in alone.middles.items()},
    )


def _lengths(vector: SteeringVector) -> list[float]:
    return [float(np.linalg.norm(values)) for values in [*vector.layers.values(), *vector.middles.values()]]


def _times(vector: Vector, factor: float) -> Vector:
    return (vector * factor).astype(np.float32)


def _random(vector: Vector, rng: np.random.Generator) -> Vector:
    """Return a vector of the same length in a uniformly random direction."""
    drawn = rng.normal(size=vector.shape).astype(np.float32)
    return _times(drawn, float(np.linalg.norm(vector)) / float(np.linalg.norm(drawn)))


def _matched(unscaled: dict[int, Vector], wanted: dict[int, Vector]) -> dict[int, Vector]:
    """Return vectors scaled to the lengths of `wanted`, layer by layer."""
    matched = {}
    for layer, vector in unscaled.items():
        length = float(np.linalg.norm(vector))
        matched[layer] = _times(vector, float(np.linalg.norm(wanted[layer])) / length if length else 0.0)
    return matched


def _added(store: Store, members: Sequence[SteeredFeature], point: str) -> dict[int, Vector]:
    added: dict[int, Vector] = {}
    for member in members:
        if member.point == point:
            index = store.vectors(store.saes[member.sae_number])
            direction = vectors.directions(index, [FeatureKey.parse(member.key).idx])[0]
            before = added.get(member.write_layer, np.zeros_like(direction))
            added[member.write_layer] = before + direction * np.float32(member.weight)
    return added


def _stand_in(
    store: Store, member: SteeredFeature, taken: set[str], rng: np.random.Generator, *, alike: bool
) -> SteeredFeature:
    """Return a member with another feature of its SAE, one that fires and is not taken yet."""
    asked = {
        "number": member.sae_number,
        "key": member.key,
        "taken": sorted(taken),
        "most": _ALIKE if alike else None,
    }
    rows = store.rows(_OTHERS, asked)
    if not rows:
        raise UsageError(f"{member.key!r} has no replacement: no other feature of its SAE fires")
    key, norm, largest = rows[int(rng.integers(len(rows)))]
    taken.add(key)
    target = None if member.target is None else member.target * member.decoder_norm / norm
    return replace(member, key=key, decoder_norm=norm, max_activation=largest, target=target)


_OTHERS = """
    with fired as (
        select f.key, f.id, f.decoder_norm, f.max_activation,
            ln(f.density * f.mean_activation * f.decoder_norm) as adds
        from feature f join sae s on f.id between s.first_id and s.first_id + s.n_features - 1
        where s.number = $number and f.density > 0 and f.mean_activation > 0 and f.decoder_norm > 0
    )
    select o.key, o.decoder_norm, o.max_activation
    from fired o
    where o.key not in (select unnest($taken::varchar[]))
    order by abs(o.adds - coalesce((select m.adds from fired m where m.key = $key), o.adds)), o.id
    limit $most
"""
