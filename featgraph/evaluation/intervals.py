"""Means with 95 % confidence intervals, by bootstrap over prompts and seeds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
"""Bootstrap samples. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13: at
least 1000 for percentile intervals."""

LEVEL = 0.95

Values = NDArray[np.float64]
"""One measure, (n_prompts, n_seeds); NaN where there is none, as of an empty text."""


@dataclass(frozen=True)
class Interval:
    """A mean, where it lies with 95 % confidence, and of how many values it is; NaN of none."""

    value: float
    low: float
    high: float
    n: int


def interval(values: Values, *, geometric: bool = False, seed: int = 0) -> Interval:
    """Return the mean of what is there, and its percentile bootstrap interval.

    Rows and columns are drawn with replacement, each on its own: prompts and seeds are both samples. Such an
    interval is rather too wide than too narrow. geometric: the values are logarithms, the mean is taken of
    them, and what is returned is its exponential.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007), section 3; percentiles as
    in Efron and Tibshirani (1993), section 13.3.

    >>> interval(np.array([[1.0, 3.0], [np.nan, 2.0]])).value
    2.0
    """
    there = np.isfinite(values)
    n = int(there.sum())
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(seed)
    rows, columns = values.shape
    # How often each row and column is drawn, which is all that a resample's mean depends on.
    by_row = rng.multinomial(rows, np.full(rows, 1 / rows), RESAMPLES).astype(np.float64)
    by_column = rng.multinomial(columns, np.full(columns, 1 / columns), RESAMPLES).astype(np.float64)
    total = ((by_row @ np.where(there, values, 0.0)) * by_column).sum(axis=1)
    weight = ((by_row @ there.astype(np.float64)) * by_column).sum(axis=1)
    means = total[weight > 0] / weight[weight > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    found = [float(np.mean(values[there])), float(low), float(high)]
    value, low, high = np.exp(found).tolist() if geometric else found
    return Interval(value, low, high, n)
