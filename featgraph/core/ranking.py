"""Ranking within groups: the place of each value in its group, and the k largest of each group."""

import numpy as np
from numpy.typing import NDArray

from featgraph.core.arrays import Indices, Matrix

PADDED = 2**21
"""Most entries of the padded table in which `largest` compares groups, 8 MB. Our choice."""


def group_then_falling(group: NDArray[np.integer], value: Matrix) -> NDArray[np.uint64]:
    """Return one integer per entry whose order is by group, then by descending value.

    One sort of integers is several times faster than a sort by two keys: the bits of a positive float sort
    like its value.

    group: integers from 0 to 2**32 - 1. value: float32, no NaN.
    """
    bits = (value + np.float32(0)).view(np.uint32)  # Adding 0 turns -0 into 0.
    falling = np.where(bits >> 31, bits, bits ^ 0x7FFFFFFF)
    return (group.astype(np.uint64) << np.uint64(32)) | falling


def run_starts(groups: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the index at which each run of equal values begins."""
    starts = np.ones(len(groups), dtype=np.bool_)
    starts[1:] = groups[1:] != groups[:-1]
    return starts


def ranks(group: Indices, value: Matrix, tie: Indices) -> Indices:
    """Return each entry's rank within its group, from 1: larger values first, then smaller ties."""
    key = group_then_falling(group, value)
    order = np.argsort(key)
    sorted_key = key[order]
    same = sorted_key[1:] == sorted_key[:-1]
    tied = np.flatnonzero(np.r_[same, False] | np.r_[False, same]) if same.any() else order[:0]
    order[tied] = order[tied][np.lexsort((tie[order[tied]], sorted_key[tied]))]
    sorted_group = group[order]
    starts = np.maximum.accumulate(np.where(run_starts(sorted_group), np.arange(len(order)), 0))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) - starts + 1
    return places


def largest(group: Indices, value: Matrix, tie: Indices, k: int) -> NDArray[np.intp]:
    """Return the indices of the k largest values of each group; ties go to the smaller `tie`."""
    if not len(group):
        return np.zeros(0, dtype=np.intp)
    # Integers of 16 bits are sorted in one pass over their digits.
    order = np.argsort(group.astype(np.uint16) if group.max() < 2**16 else group, kind="stable")
    is_start = run_starts(group[order])
    number, starts = np.cumsum(is_start) - 1, np.flatnonzero(is_start)
    width = int(np.diff(np.r_[starts, len(order)]).max())
    if width <= k:
        return order
    if len(starts) * width <= PADDED:
        padded = np.full((len(starts), width), -np.inf, dtype=np.float32)
        padded[number, np.arange(len(order)) - starts[number]] = value[order]
        least = np.partition(padded, width - k, axis=1)[:, width - k]
        order = order[value[order] >= least[number]]
    kept: NDArray[np.intp] = order[ranks(group[order], value[order], tie[order]) <= k]
    return kept
