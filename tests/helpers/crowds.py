"""Directions that are hard to tell apart, their candidates by definition, and forced ways to find them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from featgraph.core.arrays import Matrix
from featgraph.edges import tiles
from featgraph.edges.candidates import Candidates, cosines

Pairs = dict[tuple[int, int], tuple[int, int]]
"""(src, dst) -> (rank_out, rank_in)."""


@dataclass(frozen=True)
class Forced:
    """How products are made and in which pieces they are looked through."""

    dtype: str
    tile: int = 1024
    block: int = 16384
    group: int = 64
    held: int = 1 << 21


@contextmanager
def forced(how: Forced) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "fastest", lambda: (torch.device("cpu"), getattr(torch, how.dtype)))
        patch.setattr(tiles, "TILE", {"cpu": how.tile})
        for name in ("block", "group", "held"):
            patch.setattr(tiles, name.upper(), getattr(how, name))
        yield


def unit(rows: Matrix) -> Matrix:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Matrix = (rows / np.where(length > 0, length, 1)).astype(np.float32)
    return found


def unit_rows(rng: np.random.Generator, n: int, d: int) -> Matrix:
    return unit(rng.normal(size=(n, d)).astype(np.float32))


def crowds(seed: int, d: int) -> dict[str, tuple[Matrix, Matrix]]:
    """Two SAEs' directions each, 110 and 130 features."""
    rng = np.random.default_rng(seed)
    upstream, downstream = unit_rows(rng, 110, d), unit_rows(rng, 130, d)
    centre = unit_rows(rng, 5, d)
    few = np.concatenate([np.eye(d, dtype=np.float32), -np.eye(d, dtype=np.float32)])
    some = rng.integers(0, 2, (130, 1))
    return {
        "random": (upstream, downstream),
        "clustered": (
            unit(centre[rng.integers(0, 5, 110)] + 0.1 * upstream),
            unit(centre[:1] + 0.3 * downstream),
        ),
        "duplicated": (upstream[rng.integers(0, 9, 110)], downstream[rng.integers(0, 60, 130)]),
        "one direction": (upstream[:1].repeat(110, axis=0), upstream[:1].repeat(130, axis=0)),
        "beyond bfloat16": (upstream, unit(upstream[:1] + 1e-4 * downstream)),
        "beyond float32": (unit(upstream[:1] + 1e-7 * upstream), unit(upstream[:1] + 1e-7 * downstream)),
        "zero": (upstream * some[:110], (downstream * some).astype(np.float32)),
        "nothing but zero": (0 * upstream, 0 * downstream),
        "axes": (few[rng.integers(0, len(few), 110)], few[rng.integers(0, len(few), 130)]),
        "opposite": (upstream, -unit(upstream[:1] + 1e-3 * downstream)),
        "best last": (
            upstream[np.argsort(upstream @ centre[0])],
            downstream[np.argsort(downstream @ centre[0])],
        ),
        "one against many": (upstream[:1], downstream),
        "many against one": (upstream, downstream[:1]),
    }


def all_cosines(upstream: Matrix, downstream: Matrix) -> Matrix:
    src, dst = np.indices((len(upstream), len(downstream)))
    return cosines(upstream, downstream, src.ravel(), dst.ravel()).reshape(src.shape)


def by_definition(upstream: Matrix, downstream: Matrix, k: int) -> Pairs:
    """The kept pairs with their ranks among the kept, by sorting all."""
    cosine = all_cosines(upstream, downstream)
    near_source = np.argsort(-cosine, axis=1, kind="stable")
    near_target = np.argsort(-cosine, axis=0, kind="stable")
    kept = {(src, dst) for src, row in enumerate(near_source.tolist()) for dst in row[:k]}
    kept |= {(src, dst) for dst, column in enumerate(near_target.T.tolist()) for src in column[:k]}
    found: Pairs = {}
    out, into = [0] * len(upstream), [0] * len(downstream)
    for src, row in enumerate(near_source.tolist()):
        for dst in row:
            if (src, dst) in kept:
                out[src] += 1
                found[src, dst] = (out[src], 0)
    for dst, column in enumerate(near_target.T.tolist()):
        for src in column:
            if (src, dst) in kept:
                into[dst] += 1
                found[src, dst] = (found[src, dst][0], into[dst])
    return found


def as_dict(found: Candidates) -> Pairs:
    columns = (found.src, found.dst, found.rank_out, found.rank_in)
    return {(s, d): (o, i) for s, d, o, i in zip(*(column.tolist() for column in columns), strict=True)}
