"""Decoder directions -> exact top-k candidates, both ways, from one pass over a pair of SAEs.

A candidate is kept if it is among the k largest cosines of its source or of its target; a graph of
source-side candidates alone gets births, splits and merges wrong. Ties go to the smaller index.
"""

from dataclasses import dataclass

import numpy as np

from featgraph.arrays import Indices, Matrix

TILE = 4096
"""Source rows multiplied at once; memory stays at two SAEs' directions and one tile."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of features of two SAEs, ordered by source, then target."""

    src: Indices
    """Index in the upstream SAE."""
    dst: Indices
    """Index in the downstream SAE."""
    cosine: Matrix
    rank_out: Indices
    """1 = best of the source's candidates."""
    rank_in: Indices
    """1 = best of the target's candidates."""

    def __len__(self) -> int:
        return len(self.src)


def candidates(upstream: Matrix, downstream: Matrix, k: int) -> Candidates:
    """Return the union of every source's and every target's k nearest by cosine.

    upstream: unit directions (n_source, d_model). downstream: unit directions (n_target, d_model).

    Source: arXiv 2502.03032 v3, section 3.2 (signed cosine of decoder rows); both ends are ours.
    """
    by_source: list[tuple[Indices, Indices, Matrix]] = []
    by_target: tuple[Indices, Indices, Matrix] = (_none(), _none(), np.zeros(0, dtype=np.float32))
    for start in range(0, len(upstream), TILE):
        cosines = upstream[start : start + TILE] @ downstream.T
        row, column, value = largest(cosines, k)
        by_source.append((row + start, column, value))
        column, row, value = largest(np.ascontiguousarray(cosines.T), k)
        both = (
            np.concatenate([by_target[0], column]),
            np.concatenate([by_target[1], row + start]),
            np.concatenate([by_target[2], value]),
        )
        kept = ranks(both[0], both[2], both[1]) <= k
        by_target = (both[0][kept], both[1][kept], both[2][kept])
    src = np.concatenate([found[0] for found in by_source] + [by_target[1]])
    dst = np.concatenate([found[1] for found in by_source] + [by_target[0]])
    cosine = np.concatenate([found[2] for found in by_source] + [by_target[2]])
    _, unique = np.unique(src * len(downstream) + dst, return_index=True)
    src, dst, cosine = src[unique], dst[unique], cosine[unique]
    return Candidates(src, dst, cosine, ranks(src, cosine, dst), ranks(dst, cosine, src))


def largest(cosines: Matrix, k: int) -> tuple[Indices, Indices, Matrix]:
    """Return (row, column, value) of the k largest entries of each row, ties to the smaller column."""
    k = min(k, cosines.shape[1])
    at_least = np.partition(cosines, cosines.shape[1] - k, axis=1)[:, cosines.shape[1] - k]
    row, column = np.nonzero(cosines >= at_least[:, None])
    value = cosines[row, column]
    kept = ranks(row, value, column) <= k
    return row[kept], column[kept], value[kept]


def ranks(group: Indices, value: Matrix, tie: Indices) -> Indices:
    """Return each entry's place, from 1, within its group: larger values first, then smaller ties."""
    order = np.lexsort((tie, -value, group))
    sorted_group = group[order]
    opens = np.r_[True, sorted_group[1:] != sorted_group[:-1]]
    starts = np.maximum.accumulate(np.where(opens, np.arange(len(order)), 0))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(len(order)) - starts + 1
    return found


def best_cosine(n_features: int, group: Indices, value: Matrix) -> Matrix:
    """Return the largest value of each group, NaN for a group without candidates, (n_features,)."""
    best = np.full(n_features, -np.inf, dtype=np.float32)
    np.maximum.at(best, group, value)
    best[np.isneginf(best)] = np.nan
    return best


def null_best_cosine(upstream: Matrix, downstream: Matrix, rng: np.random.Generator) -> Matrix:
    """Return each downstream feature's largest cosine to the upstream directions after a random rotation.

    The rotation keeps how the directions lie among themselves and breaks every relation to the other SAE,
    so this is how well a feature matches by chance, (n_target,).

    Source: reference null of the maximum of n random cosines, sqrt(2 ln n / d) for independent directions;
    rotating real ones also holds where they crowd.
    """
    d_model = upstream.shape[1]
    gaussian = rng.standard_normal((d_model, d_model))
    orthogonal, triangular = np.linalg.qr(gaussian)
    rotation = (orthogonal * np.sign(np.diag(triangular))).astype(np.float32)
    rotated = upstream @ rotation
    best = np.full(len(downstream), -1.0, dtype=np.float32)
    for start in range(0, len(rotated), TILE):
        np.maximum(best, (rotated[start : start + TILE] @ downstream.T).max(axis=0), out=best)
    return best


def _none() -> Indices:
    return np.zeros(0, dtype=np.int64)
