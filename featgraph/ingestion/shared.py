"""Two SAEs on the tokens that count for both: those that are massive at neither site."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.activations.statistics import Moments
from featgraph.core.keys import SaeRange
from featgraph.ingestion.worker import Worker

Codes: TypeAlias = scipy.sparse.csr_matrix

Counted = tuple[Moments, Moments, int]
"""The moments of the upstream and the downstream SAE, and how many tokens they are over."""


def codes(worker: Worker, upstream: SaeRange, downstream: SaeRange) -> Iterator[tuple[Codes, Codes]]:
    """Yield the codes of both on the tokens that count for both, shard by shard."""
    ends = zip(worker.codes(upstream), worker.codes(downstream), strict=True)
    for shard, (up, down) in enumerate(ends):
        left_out = _left_out(worker, upstream, downstream, shard)
        yield (up[~left_out], down[~left_out]) if left_out.any() else (up, down)


def counted(worker: Worker, upstream: SaeRange, downstream: SaeRange) -> Counted:
    """Return the moments of both over the tokens that count for both, and how many these are."""
    known = worker.moments(upstream), worker.moments(downstream)
    n_left_out, same = 0, True
    for shard in range(worker.n_shards):
        left_out = _left_out(worker, upstream, downstream, shard)
        n_left_out += int(left_out.sum())
        for sae in (upstream, downstream):
            same &= bool((worker.massive(sae, shard) == left_out).all())
    n_tokens = worker.n_tokens - n_left_out
    if same:
        return *known, n_tokens
    moments = Moments(upstream.n_features), Moments(downstream.n_features)
    for pair in codes(worker, upstream, downstream):
        for summed, one in zip(moments, pair, strict=True):
            summed.update(one)
    return *moments, n_tokens


def _left_out(worker: Worker, upstream: SaeRange, downstream: SaeRange, shard: int) -> NDArray[np.bool_]:
    either: NDArray[np.bool_] = worker.massive(upstream, shard) | worker.massive(downstream, shard)
    return either
