"""Two SAEs -> the cosine from which a match says something, and the one that means the same feature."""

import numpy as np

from featgraph.core.arrays import Matrix
from featgraph.core.keys import SAME_FEATURE
from featgraph.edges.candidates import null_best_cosine

NULL_QUANTILE = 0.999
"""`threshold_low` is the cosine that one feature in a thousand reaches by chance; the share is our choice."""

NULL_DRAWS = 4096
"""Best cosines drawn by chance per SAE, so that about four lie above the quantile. A small SAE is rotated
several times; of a large one, a sample of features is rotated once. Our choice."""

MOST_ROTATIONS = 4
"""Most rotations: draws from the same few features of a small SAE are not independent. Our choice."""


def thresholds(upstream: Matrix, own: Matrix, rng: np.random.Generator) -> tuple[float, float]:
    """Return (low, high) for one SAE: `low` from the null of its best upstream cosines, `high` at least 0.5.

    upstream, own: unit directions (n, d_model) of live features; the upstream ones are those of the previous
    residual SAE, or its own where there is none.

    Source: arXiv 2502.03032 v3, section 3.3 for 0.5; the null is ours (see `matching.null_best_cosine`).
    """
    if not len(own) or not len(upstream):
        return SAME_FEATURE, SAME_FEATURE
    if len(own) > NULL_DRAWS:
        own = own[np.sort(rng.choice(len(own), NULL_DRAWS, replace=False))]
    rotations = min(-(-NULL_DRAWS // len(own)), MOST_ROTATIONS)
    null = np.concatenate([null_best_cosine(upstream, own, rng) for _ in range(rotations)])
    # Rounded to four digits, because further ones depend on the number of threads.
    low = round(float(np.quantile(null, NULL_QUANTILE, method="higher")), 4)
    return low, max(low, SAME_FEATURE)
