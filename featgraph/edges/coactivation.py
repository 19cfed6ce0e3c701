"""Codes of two SAEs -> sums over tokens for pairs of features, and the candidates that they propose.

All pairs are counted, block by block of upstream features, so that neither the length of the text nor the
width of the SAEs shows in memory. Features that fire most come first; where they become so rare that most of
their pairs never meet, dense blocks give way to sparse ones. Tokens are regrouped into parts whose length
depends on the SAEs alone, so results are the same however the text was cut.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.activations.statistics import Moments
from featgraph.core.arrays import Counts, Indices, Matrix
from featgraph.edges.evidence import FORMULAS, PairStats
from featgraph.edges.pair_sums import EXACT, FINE, FINE_SUM, DenseBlock, Downstream, SparseBlock
from featgraph.edges.top_pairs import Pairs, TopPairs

Codes: TypeAlias = scipy.sparse.csr_matrix
"""Codes of one SAE on some tokens, (n_tokens, n_features)."""

Shards = Callable[[], Iterable[tuple[Codes, Codes]]]
"""Function that yields the codes of both SAEs from the start of the text, one shard at a time."""

Weigh = Callable[[Indices, Indices], Matrix]
"""Function from indices of sources and targets to the virtual weights of the pairs."""

PART = 20_000_000
"""Most codes of both SAEs in memory at once; about 20 bytes each. Our choice."""

BLOCK = 2**20
"""Pairs counted in one block, 20 bytes each: their sums stay in the cache while tokens are added. Our
choice."""

GROUP = 20
"""Blocks kept at once, 400 MB, if the text has several parts; each group reads the text again. Our choice."""

RARE = 0.1
"""Mean number of tokens a feature shares with another, above which dense blocks are faster; measured, see
tests/bench/README.md."""


@dataclass(frozen=True)
class CoActive(Pairs):
    """Sums of requested pairs and of candidates by co-activation, ordered by source, then target."""

    requested: NDArray[np.bool_]
    """Whether the caller requested each pair."""
    proposed: Mapping[str, NDArray[np.bool_]]
    """Finder -> mask of the pairs that are among the k largest of their source or target."""


@dataclass(frozen=True)
class Finder:
    """A measure by which pairs become candidates: the k largest of every source and of every target.

    Only pairs of positive value do: not one that fires together less than by chance, nor one in which the
    first feature suppresses the second.
    """

    name: str
    """One of `core.measures.FINDERS`."""
    k: int
    """Pairs per source and per target; 0 finds none."""
    value: Callable[[Pairs], Matrix]
    """The measure of some pairs, (n_pairs,)."""


class _Block(NamedTuple):
    """Upstream features in places `lo` to `hi`, most active first."""

    lo: int
    hi: int
    dense: bool


def count(
    shards: Shards,
    upstream: Moments,
    downstream: Moments,
    n_tokens: int,
    requested: tuple[Indices, Indices],
    finders: Sequence[Finder],
    min_support: int,
) -> CoActive:
    """Return the requested pairs and those that the finders propose, each summed over the whole text.

    shards: may be called several times. requested: sources and targets of pairs. finders: ties go to the
    smaller index. min_support: tokens with both active that a proposed pair has at least.
    """
    n_d = len(downstream.sum)
    finders = [finder for finder in finders if finder.k]
    order = np.argsort(-upstream.n_active, kind="stable")
    answers = _RequestedPairs(order, *requested)
    kept = [TopPairs(n_d, finder.k) for finder in finders]
    for block, sums in _counted(shards, order, upstream, downstream, n_tokens):
        answers.read(block, sums)
        if finders and upstream.n_active[order[block.lo]] >= min_support:
            row, dst = sums.at_least(max(min_support, 1))
            pairs = Pairs(order[block.lo + row], dst, *sums.at(row, dst))
            for finder, top in zip(finders, kept, strict=True):
                value = finder.value(pairs)
                positive = np.flatnonzero(value > 0)
                top.add(pairs.take(positive), value[positive])
    names = [finder.name for finder in finders]
    return _union(answers.pairs, dict(zip(names, (top.pairs() for top in kept), strict=True)), n_d)


def _counted(
    shards: Shards, order: Indices, upstream: Moments, downstream: Moments, n_tokens: int
) -> Iterator[tuple[_Block, DenseBlock | SparseBlock]]:
    """Yield every block with its sums over the whole text."""
    ends = upstream, downstream
    l0 = [float(end.n_active.sum()) / max(n_tokens, 1) for end in ends]
    n_part = _part_length(l0, [len(end.sum) for end in ends], n_tokens)
    text = _Text(shards, order, n_part, kept=n_tokens * sum(l0) <= PART)
    blocks = _blocks(upstream.n_active[order], l0[1], len(downstream.sum))
    size = 1 if text.kept else GROUP
    for start in range(0, len(blocks), size):
        group = blocks[start : start + size]
        sums = [_empty(block, len(downstream.sum), n_tokens) for block in group]
        lo = group[0].lo
        for rows, codes in text.parts(lo, group[-1].hi):
            for block, of_block in zip(group, sums, strict=True):
                of_block.add(rows[block.lo - lo : block.hi - lo], codes)
        yield from zip(group, sums, strict=True)


def _part_length(l0: list[float], n_features: list[int], n_tokens: int) -> int:
    """Return how many tokens are multiplied at once: few, so that caches hold them, if most pairs meet there.

    l0: codes per token; n_features: both of the upstream and the downstream SAE.
    """
    short = FINE / max(l0[1], 1)
    if short * np.prod(l0) >= FINE_SUM * np.prod(n_features):
        return max(1, int(min(short, EXACT - 1)))
    n_parts = max(1.0, np.ceil(n_tokens * sum(l0) / PART), np.ceil(n_tokens / (EXACT - 1)))
    return max(1, int(np.ceil(n_tokens / n_parts)))


def _blocks(n_active: Counts, l0: float, n_downstream: int) -> list[_Block]:
    """Cut the live features, most active first, into blocks of about BLOCK pairs that meet.

    l0: codes of the downstream SAE per token.
    """
    n_live, products = int((n_active > 0).sum()), n_active * l0
    dense = (products >= RARE * n_downstream) | (n_active >= EXACT)
    meeting = np.where(dense, n_downstream, np.minimum(products, n_downstream))
    blocks, lo = [], 0
    while lo < n_live:
        same = lo + int((dense[lo:n_live] == dense[lo]).sum())
        fits = lo + int(np.searchsorted(np.cumsum(meeting[lo:same]), BLOCK, side="right"))
        hi = max(fits, lo + 1)
        blocks.append(_Block(lo, hi, bool(dense[lo])))
        lo = hi
    return blocks


def _empty(block: _Block, n_downstream: int, n_tokens: int) -> DenseBlock | SparseBlock:
    n_rows = block.hi - block.lo
    if block.dense:
        return DenseBlock(n_rows, n_downstream, n_tokens)
    return SparseBlock(n_rows, n_downstream)


class _Text:
    """The codes of both SAEs in parts of `n_part` tokens, kept in memory if they are few."""

    def __init__(self, shards: Shards, order: Indices, n_part: int, *, kept: bool) -> None:
        self.shards, self.order, self.n_part, self.kept = shards, order, n_part, kept
        self._parts: list[tuple[Codes, Downstream]] = []

    def parts(self, lo: int, hi: int) -> Iterator[tuple[Codes, Downstream]]:
        """Yield the codes of the features in places `lo` to `hi`, transposed, and the downstream ones."""
        if not self.kept:
            for upstream, downstream in _regrouped(self.shards(), self.n_part):
                yield upstream[:, self.order[lo:hi]].T.tocsr(), Downstream(downstream)
            return
        if not self._parts:
            parts = _regrouped(self.shards(), self.n_part)
            self._parts = [(u.T.tocsr()[self.order], Downstream(d)) for u, d in parts]
        for flipped, codes in self._parts:
            yield flipped[lo:hi], codes


def _regrouped(shards: Iterable[tuple[Codes, Codes]], n_part: int) -> Iterator[tuple[Codes, Codes]]:
    """Yield the same rows in parts of n_part tokens, the last one shorter, without explicit zeros."""
    waiting: list[tuple[Codes, Codes]] = []
    n_waiting = 0
    for shard in shards:
        start, n_shard = 0, shard[0].shape[0]
        while start < n_shard:
            stop = min(start + n_part - n_waiting, n_shard)
            waiting.append((shard[0][start:stop], shard[1][start:stop]))
            n_waiting, start = n_waiting + stop - start, stop
            if n_waiting == n_part:
                yield _stacked(waiting)
                waiting, n_waiting = [], 0
    if waiting:
        yield _stacked(waiting)


def _stacked(parts: list[tuple[Codes, Codes]]) -> tuple[Codes, Codes]:
    upstream, downstream = (scipy.sparse.vstack(side, format="csr") for side in zip(*parts, strict=True))
    upstream.eliminate_zeros()
    downstream.eliminate_zeros()
    return upstream, downstream


class _RequestedPairs:
    """The pairs that the caller wants, in order of blocks, with their sums as far as these are counted."""

    def __init__(self, order: Indices, src: Indices, dst: Indices) -> None:
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        by_place = np.argsort(place[src], kind="stable")
        src, dst = src[by_place], dst[by_place]
        zeros = np.zeros(len(src))
        self.pairs = Pairs(src, dst, np.zeros(len(src), dtype=np.int64), zeros, zeros.copy())
        self.place = place[src]

    def read(self, block: _Block, sums: DenseBlock | SparseBlock) -> None:
        part = slice(*np.searchsorted(self.place, [block.lo, block.hi]))
        n_both, product, ratio = sums.at(self.place[part] - block.lo, self.pairs.dst[part])
        self.pairs.n_both[part], self.pairs.product[part], self.pairs.ratio[part] = n_both, product, ratio


def statistics(
    upstream: Moments, downstream: Moments, n_tokens: int, pairs: Pairs, weight: Matrix | None
) -> PairStats:
    """Return the sums of some pairs as formulas take them; weight: their virtual weights."""
    u, d, src, dst = upstream, downstream, pairs.src, pairs.dst
    return PairStats(
        n_tokens=n_tokens,
        n_u=u.n_active[src],
        n_d=d.n_active[dst],
        n_both=pairs.n_both,
        sum_u=u.sum[src],
        square_u=u.square[src],
        sum_d=d.sum[dst],
        square_d=d.square[dst],
        product=pairs.product,
        ratio=pairs.ratio,
        weight=weight,
    )


def finder(
    name: str,
    k: int,
    upstream: Moments,
    downstream: Moments,
    n_tokens: int,
    weigh: Weigh | None = None,
) -> Finder:
    """Return the search by one of FORMULAS; one that predicts causes needs virtual weights."""

    def value(pairs: Pairs) -> Matrix:
        weight = weigh(pairs.src, pairs.dst) if weigh else None
        measure = FORMULAS[name](statistics(upstream, downstream, n_tokens, pairs, weight))
        assert measure is not None, f"{name} needs virtual weights"
        return measure

    return Finder(name, k, value)


def _union(requested: Pairs, proposed: Mapping[str, Pairs], n_downstream: int) -> CoActive:
    """Return every pair once, with the searches that proposed it."""
    both = Pairs.joined([requested, *proposed.values()])
    key = both.src * n_downstream + both.dst
    distinct, first = np.unique(key, return_index=True)
    pairs = both.take(first)

    def among(some: Pairs) -> NDArray[np.bool_]:
        return np.isin(distinct, some.src * n_downstream + some.dst)

    return CoActive(
        pairs.src,
        pairs.dst,
        pairs.n_both,
        pairs.product,
        pairs.ratio,
        among(requested),
        {name: among(some) for name, some in proposed.items()},
    )
