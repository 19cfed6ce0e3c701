"""Pairs of features of two SAEs that may be among the nearest, from products tile by tile; none is missed.

A product only bounds the exact cosine: it lies within a margin. `candidates.py` decides which pairs are
nearest, so neither tiles nor hardware can change a result. Memory holds one tile of the product per thread
and one block of the downstream SAE.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.edges.products import Rounded, fastest, margin, prepared, rounded, rounding

if TYPE_CHECKING:
    from torch import Tensor

TILE = {"cpu": 512, "cuda": 8192}
"""Device -> upstream features multiplied at once by each thread. Our choice."""

BLOCK = 16384
"""Downstream features multiplied at once. On a CPU a tile is 16 MiB in bfloat16, 32 MiB in float32."""

GROUP = 64
"""Products per group; at first, only the largest of a group is checked. Our choice."""

HELD = 1 << 21
"""Most pairs collected until bounds are tighter, and most pairs yielded at once. Our choice."""


class PossiblePairs(NamedTuple):
    """Pairs that may be among the nearest, unordered."""

    src: Indices
    """Feature of the upstream SAE."""
    dst: Indices
    """Feature of the downstream SAE."""
    bound: Matrix
    """Upper bound of the cosine, (n_pairs,)."""


def possible_pairs(
    upstream: Matrix, downstream: Matrix, src: Indices, dst: Indices, k: int, *, sources: bool = True
) -> Generator[PossiblePairs]:
    """Yield pairs that include the k nearest of every target and, by default, of every source.

    upstream, downstream: unit directions, (n_source, d_model) and (n_target, d_model). src, dst: indices of
    the features to compare. Nearest by float32 cosine, however ties are broken. Each pair is yielded once;
    all are yielded at the end, unless very many have similar cosines. Exhaust or close it: it changes torch's
    settings meanwhile.
    """
    import torch

    if not len(src) or not len(dst) or k < 1:
        return
    device, dtype = fastest()
    lowest = -torch.inf if sources else torch.inf
    out = _Bounds(torch.full((len(src), min(k, len(dst))), lowest, device=device), Lock())
    into = _Bounds(torch.full((len(dst), min(k, len(src))), -torch.inf, device=device), Lock())
    held: list[PossiblePairs] = []
    step = TILE[device.type]
    with prepared(device) as run:
        for left in range(0, len(dst), BLOCK):
            block = slice(left, left + BLOCK)
            columns = rounded(downstream, dst[block], dtype, device, run)

            def search(top: int, columns: Rounded = columns, block: slice = block) -> list[PossiblePairs]:
                rows = rounded(upstream, src[top : top + step], dtype, device)
                pairs = _tile(rows, columns, out.part(slice(top, top + step)), into.part(block))
                return [PossiblePairs(p.src + top, p.dst + block.start, p.bound) for p in pairs]

            for pairs in run(search, range(0, len(src), step)):
                held += pairs
                if sum(len(p.src) for p in held) > HELD:
                    yield from _promising(held, src, dst, out, into)
                    held = []
        if held:
            yield from _promising(held, src, dst, out, into)


@dataclass(frozen=True)
class _Bounds:
    """Lower bounds of the k largest cosines of each feature, raised by several threads."""

    best: "Tensor"
    """Bounds, (n_features, k), descending."""
    lock: Lock

    def part(self, features: slice) -> "_Bounds":
        """Return a view of the bounds of some features."""
        return _Bounds(self.best[features], self.lock)

    def raised(self, values: "Tensor") -> "Tensor":
        """Merge further lower bounds, (n_features, n); return the bound of each feature's k-th largest
        cosine."""
        import torch

        k = self.best.shape[1]
        largest = values.topk(min(k, values.shape[1]), dim=1).values
        with self.lock:
            self.best[:] = torch.cat([self.best, largest], dim=1).topk(k, dim=1).values
            return self.best[:, -1].clone()

    def last(self) -> Matrix:
        """Return the bound of each feature's k-th largest cosine, (n_features,)."""
        with self.lock:
            last: Matrix = self.best[:, -1].cpu().numpy().copy()
        return last


def _tile(rows: Rounded, columns: Rounded, out: _Bounds, into: _Bounds) -> Iterator[PossiblePairs]:
    """Yield the pairs of a tile that may be among the nearest of either end, once each; raise the bounds."""
    import torch

    tile = rows.rows @ columns.rows.T
    by_row = _Groups(tile, out, rows.margin(columns))
    by_column = _Groups(tile.T, into, columns.margin(rows))
    if by_row.count + by_column.count < tile.numel() // 2:
        row, column, product = by_row.reaching()
        column_too, row_too, product_too = by_column.reaching()
        new = product_too < by_row.least[row_too]
        row, column = torch.cat([row, row_too[new]]), torch.cat([column, column_too[new]])
        yield _pairs(rows, columns, row, column, torch.cat([product, product_too[new]]))
        return
    # With so many similar pairs, groups save no work, and all pairs at once would need much memory.
    step = max(1, HELD // tile.shape[1])
    for top in range(0, len(tile), step):
        part = tile[top : top + step]
        least = torch.minimum(by_row.least[top : top + step, None], by_column.least)
        row, column = (part >= least).nonzero(as_tuple=True)
        yield _pairs(rows, columns, row + top, column, part[row, column])


def _pairs(
    rows: Rounded, columns: Rounded, row: "Tensor", column: "Tensor", product: "Tensor"
) -> PossiblePairs:
    """Return pairs with the upper bounds of their cosines."""
    d_model = rows.rows.shape[1]
    off = margin(d_model, rows.norm[row], rows.lost[row], columns.norm[column], columns.lost[column])
    bound = product.float() + rounding(product.dtype) * product.float().abs() + off
    # int32 suffices for positions in a tile, and needs half the memory of int64.
    return PossiblePairs(row.int().cpu().numpy(), column.int().cpu().numpy(), bound.cpu().numpy())


class _Groups:
    """Products of a tile in groups of one row, and the smallest product that may be among a row's nearest.

    At first, only the largest product of each group is checked. The k-th largest of those cannot exceed the
    k-th largest product, and a group whose largest product is below the bound has no product above it.
    """

    def __init__(self, products: "Tensor", bounds: _Bounds, margin: "Tensor") -> None:
        """bounds: of the rows; raised here. margin: error bound of the products of each row."""
        import torch

        size, dtype, k = GROUP, products.dtype, bounds.best.shape[1]
        while size > 1 and products.shape[1] < 2 * k * size:
            size //= 2
        if short := -products.shape[1] % size:
            products = torch.nn.functional.pad(products, (0, short), value=-torch.inf)
        self.size = size
        self.groups = products.unflatten(1, (-1, size))
        # The result is the same for either axis, but the contiguous one is several times faster.
        along = self.groups.is_contiguous()
        largest = self.groups.amax(2) if along else self.groups.permute(1, 2, 0).amax(1).T
        exact = largest.float() - rounding(dtype) * largest.float().abs() - margin[:, None]
        # Rounding preserves order, so the bound may be rounded like a product.
        self.least = (bounds.raised(exact) - margin).to(dtype)
        self.row, self.group = (largest >= self.least[:, None]).nonzero(as_tuple=True)
        self.count = size * len(self.row)
        """Number of products in groups with a promising product."""

    def reaching(self) -> "tuple[Tensor, Tensor, Tensor]":
        """Return row, column and value of all products at or above their row's bound."""
        cells = self.groups[self.row, self.group]
        cell, place = (cells >= self.least[self.row, None]).nonzero(as_tuple=True)
        return self.row[cell], self.group[cell] * self.size + place, cells[cell, place]


def _promising(
    held: list[PossiblePairs], src: Indices, dst: Indices, out: _Bounds, into: _Bounds
) -> Iterator[PossiblePairs]:
    """Yield the pairs that may be among the nearest of either end by the current bounds."""
    row, column, bound = (np.concatenate(part) for part in zip(*held, strict=True))
    kept = np.flatnonzero((bound >= out.last()[row]) | (bound >= into.last()[column]))
    for start in range(0, len(kept), HELD):
        part = kept[start : start + HELD]
        yield PossiblePairs(src[row[part]], dst[column[part]], bound[part])
