"""How well the measures of an edge, all had without an intervention, tell what an ablation of it finds."""

import numpy as np
from numpy.typing import NDArray

from featgraph.ablation.resampling import auroc, interval, midranks, order_codes, spearman
from featgraph.core.arrays import Indices
from featgraph.core.keys import EDGE_KINDS
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.store import Store

STRONG = 0.5
"""Mean activation change from which an effect is strong. Our choice: half of the activation is gone."""

MIN_TOKENS = 5
"""Fewest tokens of an edge that is taken. Our choice: below, its mean change says little."""

MEASURES = ("cosine", "pearson", "jaccard", "necessity", "sufficiency", "virtual_weight")

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
    *(("all", finder) for finder in ("cosine", "coactivation", "both")),
]
"""Kinds of edges, and what found them."""

_ABLATED = f"""
    select dst, kind, found_by, ablation_change, {", ".join(MEASURES)}
    from edge
    where ablation_n >= $least
    order by src, dst
"""


def predictions(store: Store, *, seed: int = 0) -> Result:
    """Return, for each kind of edge and each measure, how well it orders the edges that were ablated.

    auroc: the chance that it is larger for an edge whose removal takes away STRONG of the downstream
    activation or more than for one whose removal does not. spearman: its rank correlation with the change.
    Each with a 95 % interval, for which the edges into one feature are drawn together. Edges on which a
    measure is NULL are left out for it.

    The last rows take the edges apart by what found them: an edge whose cosine is low is only there because
    its ends fire together, and the other way round, so that over all edges the two stand against each other.

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
    found = []
    for kind, finder in _GROUPS:
        chosen = ((kinds == kind) | (kind == "all")) & ((finders == finder) | (finder == "any"))
        for name, values in zip(MEASURES, measures, strict=True):
            known = chosen & ~np.isnan(values)
            if known.any():
                figures = _figures(values[known], change[known], dst[known], seed)
                found.append((kind, finder, name, *figures))
    return Result.of(_COLUMNS, found)


def _figures(
    values: NDArray[np.float64], change: NDArray[np.float64], dst: Indices, seed: int
) -> list[object]:
    """Return the columns of one measure."""
    strong, scores, effects = change >= STRONG, order_codes(values), order_codes(change)

    def figures(places: Indices) -> NDArray[np.float64]:
        ranks = midranks(scores[places])
        return np.array([auroc(ranks, strong[places]), spearman(ranks, midranks(effects[places]))])

    whole = figures(np.arange(len(values)))
    low, high = interval(figures, dst, seed)
    ends = [
        None if np.isnan(one) else float(one) for each in zip(whole, low, high, strict=True) for one in each
    ]
    return [len(values), int(strong.sum()), *ends]
