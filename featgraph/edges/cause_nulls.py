"""Default thresholds of measures of causes: what an unrelated source that fires as often reaches.

The source of each pair is exchanged for another that fires about as often, which keeps how much there is to
carry and breaks what carries it. Every pair counts, not the best of each target: among a thousand exchanged
sources of one target some are causes of it, and their best would stand for them.
"""

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices

LOW_QUANTILE, HIGH_QUANTILE = 0.99, 0.999
"""Share of pairs whose value by chance is smaller; `high` is the default of `min`. Our choice: one in a
thousand, as `calibration` takes for the cosine, and ten times as many."""

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


def null_thresholds(values: NDArray[np.floating]) -> tuple[float, float] | None:
    """Return (low, high) from the measure that pairs reach by chance; None where no value is known.

    values: of each pair with its source exchanged, (n_pairs,), NaN where not known.

    Source: ours; quantiles of a null, as in `calibration.thresholds`.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [LOW_QUANTILE, HIGH_QUANTILE], method="higher")
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
    return null_thresholds(values)
