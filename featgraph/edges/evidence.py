"""Formulas of the evidence for an edge, from activations and weights.

Every function takes arrays with one entry per pair. u is the upstream feature, d the downstream one; a
feature is active on a token if its activation is not zero. A share of nothing is NaN.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices, Matrix, Sums
from featgraph.edges.candidates import cosines


@dataclass(frozen=True)
class PairStats:
    """The sums over the text that formulas take, one entry per pair."""

    n_tokens: int
    n_u: Counts
    """Tokens on which u is active."""
    n_d: Counts
    n_both: Counts
    sum_u: Sums
    """Sum of u over tokens."""
    square_u: Sums
    """Sum of u squared."""
    sum_d: Sums
    square_d: Sums
    product: Sums
    """Sum of u times d."""
    ratio: Sums
    """Sum of u / d over tokens on which both are active."""
    weight: Matrix | None
    """Virtual weights; None where they are not known."""


def jaccard(n_u: Counts, n_d: Counts, n_both: Counts) -> Matrix:
    """Return tokens with both active / tokens with either active, 0 to 1.

    Source: arXiv 2410.08869 (Balcells et al.), Jaccard similarity of activations.

    >>> jaccard(np.array([4]), np.array([3]), np.array([2])).tolist()
    [0.4000000059604645]
    """
    return _share(n_both, n_u + n_d - n_both).astype(np.float32)


def necessity(n_d: Counts, n_both: Counts) -> Matrix:
    """Return P(u active | d active), 0 to 1. Source: arXiv 2410.08869, necessity."""
    return _share(n_both, n_d).astype(np.float32)


def sufficiency(n_u: Counts, n_both: Counts) -> Matrix:
    """Return P(d active | u active), 0 to 1. Source: arXiv 2410.08869, sufficiency."""
    return _share(n_both, n_u).astype(np.float32)


def pearson(n_tokens: int, sum_u: Sums, square_u: Sums, sum_d: Sums, square_d: Sums, product: Sums) -> Matrix:
    """Return the correlation of two features' activations over all tokens, inactive ones as zero, -1 to 1.

    sum_u, square_u, product: sums over tokens of u, of u squared, of u times d. NaN for a feature that
    never varies.

    Source: arXiv 2410.08869, Pearson correlation of activations.
    """
    covariance = n_tokens * product - sum_u * sum_d
    spread = (n_tokens * square_u - sum_u**2) * (n_tokens * square_d - sum_d**2)
    defined = spread > 0
    correlation = np.full(len(product), np.nan)
    correlation[defined] = covariance[defined] / np.sqrt(spread[defined])
    clipped: Matrix = np.clip(correlation, -1.0, 1.0).astype(np.float32)
    return clipped


def virtual_weight(
    directions_u: Matrix, norms_u: Matrix, encoder_d: Matrix, src: Indices, dst: Indices
) -> Matrix:
    """Return the change of d's pre-activation per unit of u's activation, along the residual stream.

    directions_u, norms_u: unit decoder rows of one SAE in the residual basis, (n_source, d_model), and their
    lengths. encoder_d: W_enc columns of the other, as rows, (n_target, d_model). src, dst: the pairs.

    The effect of the block between them on u's write is left out.

    Source: arXiv 2406.11944 (Dunefsky et al.), section 4, the input-invariant term.
    """
    weights: Matrix = cosines(directions_u, encoder_d, src, dst) * norms_u[src]
    return weights


def twera(weight: Matrix, sum_d: Sums, product: Sums) -> Matrix:
    """Return V E[u d] / E[d], with both means over all tokens, in units of d's pre-activation.

    weight: virtual weights V. The mean of V u over tokens, weighted by d's activation: the part of d's
    pre-activation that u carries, where u may be silent. NaN for a feature that never fires.

    Source: Anthropic, "Circuit Tracing" (2025), target-weighted expected residual attribution.

    >>> twera(np.array([2.0]), np.array([4.0]), np.array([6.0])).tolist()
    [3.0]
    """
    return _product(weight, _share(product, sum_d))


def attribution(weight: Matrix, ratio: Sums, n_both: Counts) -> Matrix:
    """Return V mean(u / d) over tokens on which both are active: the share of d that removing u would take.

    weight: virtual weights V. ratio: sums of u / d over these tokens. NaN for features that never meet.

    Source: arXiv 2406.11944 (Dunefsky et al.), section 4, input-dependent attribution, relative to d.

    >>> attribution(np.array([2.0]), np.array([0.5]), np.array([4])).tolist()
    [0.25]
    """
    return _product(weight, _share(ratio, n_both))


def _product(weight: Matrix, mean: NDArray[np.float64]) -> Matrix:
    attributed: Matrix = (weight.astype(np.float64) * mean).astype(np.float32)
    return attributed


def _share(part: Counts | Sums, whole: Counts | Sums) -> NDArray[np.float64]:
    shares = np.full(len(part), np.nan)
    some = whole != 0
    shares[some] = part[some] / whole[some]
    return shares


def _weighted(formula: Callable[[Matrix, PairStats], Matrix]) -> Callable[[PairStats], Matrix | None]:
    """Return a formula that has no value where virtual weights are not known."""
    return lambda pairs: None if pairs.weight is None else formula(pairs.weight, pairs)


FORMULAS: Mapping[str, Callable[[PairStats], Matrix | None]] = {
    "jaccard": lambda p: jaccard(p.n_u, p.n_d, p.n_both),
    "necessity": lambda p: necessity(p.n_d, p.n_both),
    "sufficiency": lambda p: sufficiency(p.n_u, p.n_both),
    "pearson": lambda p: pearson(p.n_tokens, p.sum_u, p.square_u, p.sum_d, p.square_d, p.product),
    "attribution": _weighted(lambda weight, p: attribution(weight, p.ratio, p.n_both)),
    "twera": _weighted(lambda weight, p: twera(weight, p.sum_d, p.product)),
}
"""Every measure that an ingest takes from the text, by its column. `core/measures.py` defines the columns."""
