"""Formulas of the evidence for an edge, from activations and weights.

Every function takes arrays with one entry per pair. u is the upstream feature, d the downstream one; a
feature is active on a token if its activation is not zero. A share of nothing is NaN.
"""

import numpy as np

from featgraph.core.arrays import Counts, Indices, Matrix, Sums
from featgraph.edges.candidates import cosines


def jaccard(n_u: Counts, n_d: Counts, n_both: Counts) -> Matrix:
    """Return tokens with both active / tokens with either active, 0 to 1.

    Source: arXiv 2410.08869 (Balcells et al.), Jaccard similarity of activations.

    >>> jaccard(np.array([4]), np.array([3]), np.array([2])).tolist()
    [0.4000000059604645]
    """
    return _share(n_both, n_u + n_d - n_both)


def necessity(n_d: Counts, n_both: Counts) -> Matrix:
    """Return P(u active | d active), 0 to 1. Source: arXiv 2410.08869, necessity."""
    return _share(n_both, n_d)


def sufficiency(n_u: Counts, n_both: Counts) -> Matrix:
    """Return P(d active | u active), 0 to 1. Source: arXiv 2410.08869, sufficiency."""
    return _share(n_both, n_u)


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


def _share(part: Counts, whole: Counts) -> Matrix:
    shares = np.full(len(part), np.nan, dtype=np.float32)
    some = whole > 0
    shares[some] = part[some] / whole[some]
    return shares
