"""A random sample of tokens for exhaustive removal, in which rare features have their support too.

Each token has a probability of being drawn: the larger of one that is the same for all and of SUPPORT over
the number of tokens on which its rarest feature fires. Estimates weight a token by 1 / probability, so they
stay those of the whole text.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices

SUPPORT = 16
"""Tokens on which each feature should be measured. Source: as for `measuring.TOKENS`."""

FOR_RARE = 0.5
"""Largest share of the sample that rare features ask for; the rest is drawn alike from all tokens. Our
choice: features that fire often keep at least half of their precision."""

_HALVINGS = 60
"""Steps of a bisection, after which it is exact in float64."""


def rarest(codes: Sequence[scipy.sparse.csr_matrix], n_active: Sequence[Counts]) -> NDArray[np.float64]:
    """Return, for each token, on how many tokens the rarest of its active features fires; inf without any.

    codes: of each SAE on the same tokens, (n_tokens, n_features). n_active: of each SAE's features on the
    whole text, (n_features,).
    """
    fewest = np.full(codes[0].shape[0], np.inf)
    for of_sae, counts in zip(codes, n_active, strict=True):
        starts = of_sae.indptr[:-1][np.diff(of_sae.indptr) > 0]
        if len(starts):
            least = np.minimum.reduceat(counts[of_sae.indices].astype(np.float64), starts)
            rows = np.flatnonzero(np.diff(of_sae.indptr))
            fewest[rows] = np.minimum(fewest[rows], least)
    return fewest


def probabilities(fewest: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the probability of drawing each token, which sum to n, or 1 each where there are no more than n.

    fewest: see `rarest`.
    """
    if n >= len(fewest):
        return np.ones(len(fewest))

    def of_rare(support: float) -> NDArray[np.float64]:
        return np.minimum(1.0, support / fewest)

    support = _largest(lambda most: bool(of_rare(most).sum() <= FOR_RARE * n), SUPPORT)
    own = of_rare(support)
    shared = _largest(lambda least: bool(np.maximum(own, least).sum() <= n), 1.0)
    drawn: NDArray[np.float64] = np.maximum(own, shared)
    return drawn


def draw(probability: NDArray[np.float64], seed: int) -> Indices:
    """Return the tokens that are drawn, ascending: a systematic sample, of the size that they sum to.

    Source: Madow, On the theory of systematic sampling II (1949).
    """
    ends = np.cumsum(probability)
    n = round(float(ends[-1]))
    # Sums of floats end near n, not at it.
    points = (np.arange(n) + np.random.default_rng(seed).random()) * (ends[-1] / max(n, 1))
    tokens: Indices = np.searchsorted(ends, points, side="right").clip(max=len(ends) - 1).astype(np.int64)
    return np.unique(tokens)


def _largest(holds: Callable[[float], bool], most: float) -> float:
    """Return the largest number up to `most` for which a condition holds that small ones fulfil."""
    if holds(most):
        return most
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
