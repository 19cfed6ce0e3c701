"""Counts pairs that reach the threshold but are no candidates, because both ends have k nearer neighbours."""

import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.edges.candidates import Candidates, cosines

PRODUCTS = 2**24
"""Most cosines in memory at once, 64 MB. Our choice."""


def count_crowded(
    upstream: Matrix,
    downstream: Matrix,
    nearest: Candidates,
    joined: tuple[Indices, Indices],
    k: int,
    least: float,
) -> int:
    """Return the number of pairs with a cosine of at least `least` that have no edge.

    upstream, downstream: unit directions, (n, d_model). nearest: the k nearest of each feature.
    joined: sources and targets of the edges. Only features whose k-th nearest still reaches the cosine can
    have more such pairs, so only these are multiplied.
    """
    close = nearest.cosine >= least
    sources = _full(nearest.src[close], len(upstream), k)
    targets = _full(nearest.dst[close], len(downstream), k)
    if not len(sources) or not len(targets):
        return 0
    edges = np.sort(joined[0] * len(downstream) + joined[1])
    n, step = 0, max(1, PRODUCTS // len(targets))
    for start in range(0, len(sources), step):
        part = sources[start : start + step]
        # Slightly lower, because a product summed in another order may round differently; `cosines` decides.
        row, column = np.nonzero(upstream[part] @ downstream[targets].T >= least - 1e-5)
        src, dst = part[row], targets[column]
        keys = src * len(downstream) + dst
        place = np.minimum(np.searchsorted(edges, keys), max(len(edges) - 1, 0))
        free = edges[place] != keys if len(edges) else np.ones(len(keys), dtype=np.bool_)
        n += int((cosines(upstream, downstream, src[free], dst[free]) >= least).sum())
    return n


def _full(ends: Indices, n_features: int, k: int) -> Indices:
    """Return the features that occur k times or more."""
    full: Indices = np.flatnonzero(np.bincount(ends, minlength=n_features) >= k)
    return full
