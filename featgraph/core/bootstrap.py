"""95 % confidence intervals by bootstrap: over prompts and seeds, and over clusters of dependent entries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices

LEVEL = 0.95

MEAN_RESAMPLES = 10_000
"""Resamples for a mean, all from one matrix product. Source: Efron and Tibshirani, An Introduction to the
Bootstrap (1993), section 13: at least 1000 for percentile intervals."""

RESAMPLES = 1000
"""Resamples for statistics computed separately for each resample. Source: as above."""

Values = NDArray[np.float64]
"""Values of one measure, (n_prompts, n_seeds); NaN if undefined, as for an empty text."""

Figures = NDArray[np.float64]
"""Statistics of one sample, (n_statistics,); NaN if undefined."""


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % confidence interval, and the number of values; NaN without values."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: Values, *, geometric: bool = False, seed: int = 0) -> Interval:
    """Return the mean of the finite values, and its percentile bootstrap interval.

    Rows and columns are resampled independently, because prompts and seeds are both samples; the interval is
    conservative. geometric: the values are logarithms; return exp(mean), the geometric mean.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007), section 3; percentiles as
    in Efron and Tibshirani (1993), section 13.3.

    >>> mean_interval(np.array([[1.0, 3.0], [np.nan, 2.0]])).value
    2.0
    """
    finite = np.isfinite(values)
    n = int(finite.sum())
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(seed)
    rows, columns = values.shape
    # A resample's mean depends only on how often each row and column is drawn.
    by_row = rng.multinomial(rows, np.full(rows, 1 / rows), MEAN_RESAMPLES).astype(np.float64)
    by_column = rng.multinomial(columns, np.full(columns, 1 / columns), MEAN_RESAMPLES).astype(np.float64)
    total = ((by_row @ np.where(finite, values, 0.0)) * by_column).sum(axis=1)
    weight = ((by_row @ finite.astype(np.float64)) * by_column).sum(axis=1)
    means = total[weight > 0] / weight[weight > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    ends = [float(np.mean(values[finite])), float(low), float(high)]
    value, low, high = np.exp(ends).tolist() if geometric else ends
    return Interval(value, low, high, n)


def cluster_interval(
    figures: Callable[[Indices], Figures], clusters: Indices, seed: int
) -> tuple[Figures, Figures]:
    """Return the lower and upper ends of the percentile bootstrap interval of each statistic.

    figures: computes the statistics from the indices of a resample's entries. clusters: entries of one
    cluster are dependent, so they are drawn together; NaN if there is only one cluster.

    Source: Efron and Tibshirani (1993), section 13.3; by clusters as in Cameron et al., Bootstrap-based
    improvements for inference with clustered errors (2008).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=clusters[order[0]] - 1))
    lengths = np.diff(starts, append=len(order))
    if len(starts) < 2:
        undefined = np.full(len(figures(order)), np.nan)
        return undefined, undefined
    resampled = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(starts), size=len(starts))
        ends = np.cumsum(lengths[drawn])
        within = np.arange(ends[-1]) - np.repeat(ends - lengths[drawn], lengths[drawn])
        resampled.append(figures(order[np.repeat(starts[drawn], lengths[drawn]) + within]))
    samples, tail = np.array(resampled), 50 * (1 - LEVEL)
    low, high = np.full((2, samples.shape[1]), np.nan)
    known = ~np.isnan(samples).all(axis=0)
    if known.any():
        low[known], high[known] = np.nanpercentile(samples[:, known], [tail, 100 - tail], axis=0)
    return low, high
