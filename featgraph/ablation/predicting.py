"""How well the measures of an edge, all from observation alone, predict its ablation."""

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices
from featgraph.core.bootstrap import cluster_interval
from featgraph.core.keys import EDGE_KINDS
from featgraph.core.measures import FINDERS, names
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.store import Store

STRONG = 0.5
"""Mean activation change of a strong effect. Our choice: half of the activation is lost."""

MIN_TOKENS = 5
"""Fewest tokens of an edge that counts. Our choice: with fewer, its mean change says little."""

MEASURES = names("geometric", "statistical", "attributed")

_COLUMNS = {
    "kind": "VARCHAR",
    "found_by": "VARCHAR",
    "measure": "VARCHAR",
    "n": "INTEGER",
    "n_strong": "INTEGER",
    "auroc": "DOUBLE",
    "auroc_low": "DOUBLE",
    "auroc_high": "DOUBLE",
    "spearman": "DOUBLE",
    "spearman_low": "DOUBLE",
    "spearman_high": "DOUBLE",
}

_GROUPS = [
    *((kind, "any") for kind in (*EDGE_KINDS, "all")),
    *(("all", finder) for finder in FINDERS[:-1]),
]
"""Kinds of edges, and the searches that proposed them."""

_ABLATED = f"""
    select dst, kind, found_by, ablation_change, {", ".join(MEASURES)}
    from edge
    where ablation_n >= $least
    order by src, dst
"""


def predictions(store: Store, *, seed: int = 0) -> Result:
    """Return, for each kind of edge and each measure, how well it ranks the ablated edges.

    auroc: the probability that the measure is larger for an edge whose ablation removes STRONG or more of the
    downstream activation than for another. spearman: the rank correlation with the change. Both have 95 %
    intervals over clusters of edges into one feature. A measure leaves out the edges on which it is NULL.

    The last rows take the edges of each search alone: an edge with a low cosine is a candidate only
    because its ends fire together, and the other way round, so over all edges the two measures are opposed.

    Raises UsageError: none of the edges has been ablated on enough tokens.
    """
    rows = store.rows(_ABLATED, {"least": MIN_TOKENS})
    if not rows:
        raise UsageError(
            f"no edge of {store.path} has been ablated on {MIN_TOKENS} tokens or more; run `featgraph ablate "
            f'{store.path} --edges "SELECT src, dst FROM edge"` first'
        )
    dst, kinds, finders = (np.array([row[place] for row in rows]) for place in range(3))
    change, *measures = (
        np.array([row[place] for row in rows], dtype=np.float64) for place in range(3, len(rows[0]))
    )
    figures = []
    for kind, finder in _GROUPS:
        proposed = np.array([finder in ("any", *one.split(",")) for one in finders])
        chosen = ((kinds == kind) | (kind == "all")) & proposed
        for name, values in zip(MEASURES, measures, strict=True):
            known = chosen & ~np.isnan(values)
            if known.any():
                row = _figures(values[known], change[known], dst[known], seed)
                figures.append((kind, finder, name, *row))
    return Result.of(_COLUMNS, figures)


def _figures(
    values: NDArray[np.float64], change: NDArray[np.float64], dst: Indices, seed: int
) -> list[object]:
    """Return the figures of one measure."""
    from scipy.stats import rankdata

    strong = change >= STRONG

    def figures(places: Indices) -> NDArray[np.float64]:
        ranks = rankdata(values[places])
        return np.array([auroc(ranks, strong[places]), spearman(ranks, rankdata(change[places]))])

    whole = figures(np.arange(len(values)))
    low, high = cluster_interval(figures, dst, seed)
    ends = [
        None if np.isnan(one) else float(one) for each in zip(whole, low, high, strict=True) for one in each
    ]
    return [len(values), int(strong.sum()), *ends]


def auroc(ranks: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive entry scores above a negative one, NaN without both.

    ranks: of the scores. A tie counts half. Source: Hanley and McNeil 1982, by the Mann-Whitney statistic.

    >>> auroc(np.array([1.0, 2.5, 2.5, 4.0]), np.array([False, False, True, True]))
    0.875
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    return (float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the correlation of two rankings, NaN where either is all ties.

    Source: Spearman 1904; Pearson's correlation of mid-ranks.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.5
    """
    one, other = one - one.mean(), other - other.mean()
    spread = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / spread) if spread else float("nan")
