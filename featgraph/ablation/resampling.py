"""How well a number orders things, and how far such a figure may be trusted, by drawing the data again."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices

DRAWS = 1000
"""Bootstrap samples. Source: Efron and Tibshirani 1993, section 13.3, of the order of 1,000 for intervals."""

LEVEL = 0.95

Values = NDArray[np.float64]
Figures = NDArray[np.float64]
"""Some figures of one sample, NaN where it does not define them."""


def order_codes(values: Values) -> Indices:
    """Return whole numbers in the same order as values, equal where they are equal.

    Found once, they make the ranks of every sample of the values cheap.
    """
    codes: Indices = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return codes


def midranks(codes: Indices) -> Values:
    """Return the rank of each entry, from 1, equal ones at the middle of their ranks.

    >>> midranks(np.array([7, 0, 7])).tolist()
    [2.5, 1.0, 2.5]
    """
    counts = np.bincount(codes)
    ranks: Values = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks


def auroc(ranks: Values, positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive one scores above a negative one, NaN without both.

    ranks: of the scores. A tie counts half. Source: Hanley and McNeil 1982, by the Mann-Whitney statistic.

    >>> auroc(np.array([1.0, 2.5, 2.5, 4.0]), np.array([False, False, True, True]))
    0.875
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    return (float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def spearman(one: Values, other: Values) -> float:
    """Return the correlation of two rankings, NaN where either is all ties.

    Source: Spearman 1904; Pearson's correlation of mid-ranks.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.5
    """
    one, other = one - one.mean(), other - other.mean()
    spread = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / spread) if spread else float("nan")


def interval(figures: Callable[[Indices], Figures], clusters: Indices, seed: int) -> tuple[Figures, Figures]:
    """Return the ends of the 95 % percentile interval of each figure.

    figures: of the entries whose places it is given. clusters: entries of one value are drawn together,
    because they are not independent; NaN where all are of one.

    Source: Efron and Tibshirani 1993, section 13.3; drawn by clusters as in Cameron et al. 2008.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=clusters[order[0]] - 1))
    lengths = np.diff(starts, append=len(order))
    if len(starts) < 2:
        nothing = np.full(len(figures(order)), np.nan)
        return nothing, nothing
    drawn = []
    for _ in range(DRAWS):
        groups = rng.integers(len(starts), size=len(starts))
        ends = np.cumsum(lengths[groups])
        within = np.arange(ends[-1]) - np.repeat(ends - lengths[groups], lengths[groups])
        drawn.append(figures(order[np.repeat(starts[groups], lengths[groups]) + within]))
    found, tail = np.array(drawn), 50 * (1 - LEVEL)
    low, high = np.full((2, found.shape[1]), np.nan)
    known = ~np.isnan(found).all(axis=0)
    if known.any():
        low[known], high[known] = np.nanpercentile(found[:, known], [tail, 100 - tail], axis=0)
    return low, high
