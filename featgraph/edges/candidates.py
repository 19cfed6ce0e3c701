"""Decoder directions -> exact top-k candidates, both ways, from one pass over a pair of SAEs.

A candidate is kept if it is among the k largest cosines of its source or of its target; a graph of
source-side candidates alone gets births, splits and merges wrong. Ties go to the smaller index.

`cosines` computes every cosine, from the two directions alone. `tiles` only proposes pairs.
"""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices, Matrix
from featgraph.core.ranking import ranks
from featgraph.edges import tiles
from featgraph.errors import FeatgraphError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Pairs of features of two SAEs, ordered by source, then target."""

    src: Indices
    """Index in the upstream SAE."""
    dst: Indices
    """Index in the downstream SAE."""
    cosine: Matrix
    rank_out: Indices
    """Rank among the source's candidates; 1 is the best."""
    rank_in: Indices
    """Rank among the target's candidates; 1 is the best."""

    def __len__(self) -> int:
        return len(self.src)


def candidates(upstream: Matrix, downstream: Matrix, k: int) -> Candidates:
    """Return the union of every source's and every target's k nearest by cosine.

    upstream: unit directions (n_source, d_model). downstream: unit directions (n_target, d_model).

    Source: arXiv 2502.03032 v3, section 3.2 (signed cosine of decoder rows); both ends are ours.
    """
    up, down = _Distinct(upstream), _Distinct(downstream)
    src, dst, cosine = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    with closing(tiles.possible_pairs(upstream, downstream, up.first, down.first, k)) as batches:
        for pairs in batches:
            cosine = np.concatenate([cosine, _exact(upstream, downstream, pairs)])
            src, dst = np.concatenate([src, pairs.src]), np.concatenate([dst, pairs.dst])
            kept = np.logical_or(*_nearest(src, dst, cosine, k))
            src, dst, cosine = src[kept], dst[kept], cosine[kept]
    out, into = _nearest(src, dst, cosine, k)
    of_source = _copied(up, down, src[out], dst[out], k)
    of_target = _copied(down, up, dst[into], src[into], k)
    src, dst = np.concatenate([of_source[0], of_target[1]]), np.concatenate([of_source[1], of_target[0]])
    cosine = np.concatenate([cosine[out][of_source[2]], cosine[into][of_target[2]]])
    _, once = np.unique(src * len(downstream) + dst, return_index=True)
    src, dst, cosine = src[once], dst[once], cosine[once]
    kept = np.logical_or(*_nearest(src, dst, cosine, k))
    src, dst, cosine = src[kept], dst[kept], cosine[kept]
    return Candidates(src, dst, cosine, ranks(src, cosine, dst), ranks(dst, cosine, src))


def cosines(upstream: Matrix, downstream: Matrix, src: Indices, dst: Indices) -> Matrix:
    """Return the cosine of each pair of unit directions, (n_pairs,).

    In float32, summed in an order that depends only on d_model, so that the cosine of a pair is the same to
    the last bit however the pair was found, and in either order.
    """
    import faiss

    n_pairs, d_model = len(src), upstream.shape[1]
    # FAISS reads the rows by address, so dtype and memory layout must be as it expects.
    ends = [np.ascontiguousarray(rows, dtype=np.float32) for rows in (upstream, downstream)]
    places = [np.ascontiguousarray(places, dtype=np.int64) for places in (src, dst)]
    for rows, index in zip(ends, places, strict=True):
        if n_pairs and not 0 <= index.min() <= index.max() < len(rows):
            raise IndexError(f"a pair names feature {index.max()} of an SAE of {len(rows)}")
    values = np.empty(n_pairs, dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for pair in zip(ends, places, strict=True) for array in pair]
    product = faiss.pairwise_indexed_inner_product  # type: ignore[attr-defined]
    product(d_model, n_pairs, *pointers, faiss.swig_ptr(values))
    return values


def best_cosine(n_features: int, group: Indices, value: Matrix) -> Matrix:
    """Return the largest value of each group, NaN for a group without candidates, (n_features,)."""
    best = np.full(n_features, -np.inf, dtype=np.float32)
    np.maximum.at(best, group, value)
    best[np.isneginf(best)] = np.nan
    return best


def null_best_cosine(upstream: Matrix, downstream: Matrix, rng: np.random.Generator) -> Matrix:
    """Return each downstream feature's largest cosine to the upstream directions after a random rotation.

    The rotation keeps the angles between the upstream directions and destroys their relation to the other
    SAE, so the result is the best cosine by chance, (n_target,).

    Source: reference null of the maximum of n random cosines, sqrt(2 ln n / d) for independent directions;
    rotating real ones also holds where they crowd.
    """
    import torch

    d_model = upstream.shape[1]
    # The QR decomposition of torch is several times faster than that of numpy.
    orthogonal, triangular = torch.linalg.qr(torch.from_numpy(rng.standard_normal((d_model, d_model))))
    rotation = (orthogonal * triangular.diagonal().sign()).numpy().astype(np.float32)
    up, down = _Distinct(upstream), _Distinct(downstream)
    # (x R).y = x.(R y): rotate the side with fewer directions.
    if len(upstream) <= len(downstream):
        upstream = upstream @ rotation
    else:
        downstream = downstream @ rotation.T
    best = np.full(len(downstream), -1.0, dtype=np.float32)
    with closing(
        tiles.possible_pairs(upstream, downstream, up.first, down.first, 1, sources=False)
    ) as batches:
        for pairs in batches:
            np.maximum.at(best, pairs.dst, _exact(upstream, downstream, pairs))
    return best[down.first[down.group]]


class _Distinct:
    """The distinct directions of an SAE; dead features can share one, or have a zero direction.

    Equal directions have equal neighbours, so only one of them is compared.
    """

    def __init__(self, directions: Matrix) -> None:
        n_features, d_model = directions.shape
        same = np.arange(n_features)
        # Compare a few coordinates first: few unequal directions agree in them.
        _, alike, count = _equal(directions[:, :: max(1, d_model // 16)])
        doubtful = np.flatnonzero(count[alike] > 1)
        if len(doubtful):
            first, of, _ = _equal(directions[doubtful])
            same[doubtful] = doubtful[first[of]]
        self.first, self.group, self.count = np.unique(same, return_inverse=True, return_counts=True)
        self._ordered = np.argsort(self.group, kind="stable")
        self._starts = np.cumsum(self.count) - self.count

    def copy(self, group: Indices, place: Indices) -> Indices:
        """Return the feature with a given number, from 0, among those with the same direction."""
        features: Indices = self._ordered[self._starts[group] + place]
        return features


def _equal(rows: Matrix) -> tuple[Indices, Indices, Indices]:
    """Return the first row of each group of equal rows, the group of each row, and the group sizes."""
    rows = np.ascontiguousarray(rows)
    whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    _, first, kind, count = np.unique(whole, return_index=True, return_inverse=True, return_counts=True)
    return first, kind, count


def _copied(
    ends: _Distinct, others: _Distinct, end: Indices, other: Indices, k: int
) -> tuple[Indices, Indices, Indices]:
    """Expand pairs of directions to pairs of features, and return the original pair of each.

    All copies of one end are combined with the first k copies of the other; later copies cannot be among the
    k nearest, because the first k have the same cosine.
    """
    end, other = ends.group[end], others.group[other]
    few = np.minimum(others.count[other], k)
    pair = np.repeat(np.arange(len(end)), ends.count[end] * few)
    place = np.arange(len(pair)) - np.searchsorted(pair, pair)
    copy, copy_of_other = np.divmod(place, few[pair])
    return ends.copy(end[pair], copy), others.copy(other[pair], copy_of_other), pair


def _nearest(
    src: Indices, dst: Indices, cosine: Matrix, k: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two masks: pairs among the k nearest of their source, and of their target."""
    return ranks(src, cosine, dst) <= k, ranks(dst, cosine, src) <= k


def _exact(upstream: Matrix, downstream: Matrix, pairs: tiles.PossiblePairs) -> Matrix:
    """Return the cosines of pairs.

    Raises FeatgraphError: a cosine exceeds its upper bound, so neighbours may have been missed.
    """
    cosine = cosines(upstream, downstream, pairs.src, pairs.dst)
    beyond = cosine - pairs.bound
    if len(beyond) and beyond.max() > 0:
        worst = beyond.argmax()
        raise FeatgraphError(
            "products of directions are less exact on this machine than the search for neighbours needs: "
            f"a cosine is {cosine[worst]:.6f}, above its bound of {pairs.bound[worst]:.6f}; "
            "set CUDA_VISIBLE_DEVICES= to leave out GPUs"
        )
    return cosine
