"""Default thresholds of measures of causes: what an unrelated source that fires as often reaches.

The source of each pair is exchanged for another that fires about as often, which keeps how much there is to
carry and breaks what carries it. As for the cosine, the best value of each target counts, since a walk
follows the best.
"""

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices

LOW_QUANTILE, HIGH_QUANTILE = 0.99, 0.999
"""Share of targets whose best value by chance is smaller; `high` is the default of `min`. Our choice: the
quantile from which `calibration` takes the cosine's, and one at ten times its errors."""

WITHIN = 32
"""A source is exchanged for one at most so many places away by firing rate. Our choice: in an SAE of
1,024 features, their rates differ by a few per cent, and there are enough to draw from."""


def exchanged_sources(src: Indices, n_active: Counts, rng: np.random.Generator) -> Indices:
    """Return, for each source, another live feature that fires about as often.

    src: indices of upstream features, (n_pairs,). n_active: tokens on which each upstream feature is active,
    (n_u,); those that never are stay where they are, as do all where fewer than two are live.
    """
    live = np.flatnonzero(n_active)
    if len(live) < 2:
        return src
    order = live[np.argsort(n_active[live], kind="stable")]
    place = np.full(len(n_active), -1)
    place[order] = np.arange(len(order))
    most = min(WITHIN, len(order) - 1)
    steps = rng.integers(1, most + 1, len(src)) * rng.choice([-1, 1], len(src))
    wanted = place[src] + steps
    outside = (wanted < 0) | (wanted >= len(order))
    wanted = np.where(outside, place[src] - steps, wanted)
    wanted = np.where((wanted < 0) | (wanted >= len(order)), (place[src] + 1) % len(order), wanted)
    exchanged: Indices = np.where(place[src] < 0, src, order[wanted]).astype(src.dtype)
    return exchanged


def null_thresholds(dst: Indices, values: NDArray[np.floating]) -> tuple[float, float] | None:
    """Return (low, high) from what pairs reach by chance; None where no value is known.

    dst: target of each pair, (n_pairs,). values: its measure by chance, (n_pairs,), NaN where not known.

    Source: ours, as the cosine's null in `calibration.thresholds`.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    targets, place = np.unique(dst[known], return_inverse=True)
    best = np.full(len(targets), -np.inf)
    np.maximum.at(best, place, values[known])
    low, high = np.quantile(best, [LOW_QUANTILE, HIGH_QUANTILE], method="higher")
    return round(float(low), 4), round(float(high), 4)


def effect_thresholds(
    src: Indices,
    dst: Indices,
    effect: NDArray[np.floating],
    n_active: Counts,
    rng: np.random.Generator,
) -> tuple[float, float] | None:
    """Return (low, high) of `effect` for one pair of SAEs from all pairs that exhaustive removal measured.

    src, dst, effect: of each measured pair, (n_pairs,), by index within the SAEs. n_active: tokens on which
    each upstream feature is active, (n_u,). The null of a pair is the effect on the same target of a source
    that fires as often, 0 where the two were never active together; one that is itself a pair here counts
    with what it has, so the thresholds err on the high side.
    """
    width = int(dst.max(initial=0)) + 1
    pairs = src.astype(np.int64) * width + dst
    order = np.argsort(pairs)
    asked = exchanged_sources(src, n_active, rng).astype(np.int64) * width + dst
    place = np.searchsorted(pairs[order], asked).clip(max=max(len(pairs) - 1, 0))
    values = np.where(pairs[order][place] == asked, effect[order][place], 0.0) if len(pairs) else effect
    return null_thresholds(dst, values)
