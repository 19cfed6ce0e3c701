"""Thresholds of measures of causes: exchanged sources, and the quantiles of what they reach."""

import numpy as np

from featgraph.edges.cause_nulls import WITHIN, effect_thresholds, exchanged_sources, null_thresholds


def test_a_source_is_exchanged_for_another_live_one_that_fires_about_as_often() -> None:
    rng = np.random.default_rng(0)
    n_active = rng.permutation(np.r_[np.zeros(5, dtype=np.int64), np.arange(1, 201)])
    src = rng.integers(0, len(n_active), 4000)
    src = src[n_active[src] > 0]
    other = exchanged_sources(src, n_active, rng)
    assert (other != src).all()
    assert (n_active[other] > 0).all()
    assert np.abs(n_active[other] - n_active[src]).max() == WITHIN


def test_of_two_live_sources_each_is_exchanged_for_the_other() -> None:
    src = np.array([0, 2, 2, 1])
    other = exchanged_sources(src, np.array([3, 0, 9]), np.random.default_rng(0))
    assert other.tolist() == [2, 0, 0, 1]


def test_unknown_values_do_not_count() -> None:
    assert null_thresholds(np.array([0.1, np.nan, 0.5])) == (0.5, 0.5)
    assert null_thresholds(np.full(5, np.nan)) is None


def test_thresholds_are_quantiles_over_pairs() -> None:
    values = np.random.default_rng(1).permutation(10_000) / 10_000
    low, high = null_thresholds(values) or (0, 0)
    assert (values >= low).mean() == 0.01
    assert (values >= high).mean() == 0.001


def test_planted_effects_stand_above_what_exchanged_sources_have() -> None:
    rng = np.random.default_rng(2)
    n = 400
    src, dst = np.divmod(np.arange(n * n), n)
    effect = rng.uniform(0, 0.05, n * n)
    planted = src == dst
    effect[planted] = 0.6
    low, high = effect_thresholds(src, dst, effect, np.full(n, 7), rng) or (0, 0)
    keep = ~planted
    bare = effect_thresholds(src[keep], dst[keep], effect[keep], np.full(n, 7), rng) or (0, 0)
    assert 0.04 < bare[0] <= bare[1] <= 0.05
    assert low <= high
