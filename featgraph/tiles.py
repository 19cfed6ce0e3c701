"""Which pairs of two SAEs' features may be nearest, from their products, tile by tile; none is missed.

All that is concluded from a product is that the exact cosine lies within a margin of it. Which pairs are
nearest is for `matching` to say, so that neither tiles nor hardware can change a result.

No more is held than one tile of the product and one block of the downstream SAE as it is multiplied.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from featgraph.arrays import Indices, Matrix
from featgraph.products import Rounded, fastest, margin, rounded, rounding, true_sums

if TYPE_CHECKING:
    from torch import Tensor

TILE = {"cpu": 1024, "cuda": 8192}
"""Upstream features multiplied at once."""

BLOCK = 16384
"""Downstream features multiplied at once. On a CPU a tile is 32 MiB in bfloat16, 64 MiB in float32."""

GROUP = 64
"""Products of which only the largest is looked at first."""

HELD = 1 << 21
"""Pairs held back until bounds are better, and the most that a step handles at once."""


class Near(NamedTuple):
    """Pairs that may be among the nearest, in no order."""

    src: Indices
    """Feature of the upstream SAE."""
    dst: Indices
    """Feature of the downstream SAE."""
    most: Matrix
    """Which the cosine cannot exceed, (n_pairs,)."""


def near(
    upstream: Matrix, downstream: Matrix, src: Indices, dst: Indices, k: int, *, sources: bool = True
) -> Generator[Near]:
    """Yield pairs among which are the k nearest of every target and, unless told otherwise, of every source.

    upstream, downstream: unit directions, (n_source, d_model) and (n_target, d_model). src, dst: the features
    that take part. Nearest by float32 cosine, whatever breaks ties. Each pair comes once, and all come at the
    end unless very many are about as good. To be exhausted or closed: torch is set up for it meanwhile.
    """
    import torch

    if not len(src) or not len(dst) or k < 1:
        return
    device, dtype = fastest()
    out = _Bounds(torch.full((len(src), min(k, len(dst))), -torch.inf if sources else torch.inf, device=device))
    into = _Bounds(torch.full((len(dst), min(k, len(src))), -torch.inf, device=device))
    held: list[Near] = []
    with set_up(device) as pool:
        for left in range(0, len(dst), BLOCK):
            columns = rounded(downstream, dst[left : left + BLOCK], dtype, device, pool.map)

            def tile(top: int, left: int = left, columns: Rounded = columns) -> list[Near]:
                rows = rounded(upstream, src[top : top + TILE[device.type]], dtype, device)
                return list(_tile(rows, columns, out.part(top, len(rows.rows)), into.part(left, len(columns.rows))))

            for batches in pool.map(tile, range(0, len(src), TILE[device.type])):
def _tile(tile: "Tensor", rows: Rounded, columns: Rounded, out: "Tensor", into: "Tensor") -> Iterator[Near]:
    """Yield the pairs of a tile that may be among the nearest of either end, once each; raise the bounds."""
    import torch

    by_row = _Groups(tile, out, rows.margin(columns))
    by_column = _Groups(tile.T, into, columns.margin(rows))
    if by_row.count + by_column.count < tile.numel() // 2:
        row, column, value = by_row.reaching()
        column_too, row_too, value_too = by_column.reaching()
        new = value_too < by_row.least[row_too]
        row, column = torch.cat([row, row_too[new]]), torch.cat([column, column_too[new]])
        yield _pairs(rows, columns, row, column, torch.cat([value, value_too[new]]))
        return
    # So many are about as good that groups spare nothing, and that not all can be held at once.
    step = max(1, HELD // tile.shape[1])
    for top in range(0, len(tile), step):
        part = tile[top : top + step]
        least = torch.minimum(by_row.least[top : top + step, None], by_column.least)
        row, column = (part >= least).nonzero(as_tuple=True)
        yield _pairs(rows, columns, row + top, column, part[row, column])


def _pairs(rows: Rounded, columns: Rounded, row: "Tensor", column: "Tensor", product: "Tensor") -> Near:
    """Return pairs with what their cosines cannot exceed."""
    d_model = rows.rows.shape[1]
    off = margin(d_model, rows.norm[row], rows.lost[row], columns.norm[column], columns.lost[column])
    most = product.float() + rounding(product.dtype) * product.float().abs() + off
    return Near(row.cpu().numpy(), column.cpu().numpy(), most.cpu().numpy())


class _Groups:
    """Products in groups, a few of a row each, and what a row's products must reach to be promising.

    Only the largest of each group are looked at first. The k-th largest of those cannot exceed the k-th
    largest product, and a group whose largest does not reach the bound holds nothing that does.
    """

    def __init__(self, products: "Tensor", best: "Tensor", margin: "Tensor") -> None:
        """best: lower bounds of each row's k largest cosines so far, (n_rows, k); raised in place.

        margin: by how much the products of each row may be off, (n_rows,).
        """
        import torch

        size, dtype = GROUP, products.dtype
        while size > 1 and products.shape[1] < 8 * best.shape[1] * size:
            size //= 2
        if short := -products.shape[1] % size:
            products = torch.nn.functional.pad(products, (0, short), value=-torch.inf)
        self.size = size
        self.groups = products.unflatten(1, (-1, size))
        # The same either way, but several times faster along memory.
        along = self.groups.is_contiguous()
        largest = self.groups.amax(2) if along else self.groups.permute(1, 2, 0).amax(1).T
        bound = largest.float() - rounding(dtype) * largest.float().abs() - margin[:, None]
        best[:] = torch.cat([best, bound], dim=1).topk(best.shape[1], dim=1).values
        # Rounding keeps order, so that what a product must reach may be rounded like one. Padding never does.
        self.least = (best[:, -1] - margin).to(dtype).clamp(min=torch.finfo(dtype).min)
        self.row, self.group = (largest >= self.least[:, None]).nonzero(as_tuple=True)
        self.count = size * len(self.row)
        """How many products lie in groups that hold a promising one."""

    def reaching(self) -> "tuple[Tensor, Tensor, Tensor]":
        """Return row, column and product of all that reach their row's bound."""
        cells = self.groups[self.row, self.group]
        cell, place = (cells >= self.least[self.row, None]).nonzero(as_tuple=True)
        return self.row[cell], self.group[cell] * self.size + place, cells[cell, place]


def _promising(held: list[Near], src: Indices, dst: Indices, out: "Tensor", into: "Tensor") -> Iterator[Near]:
    """Yield those pairs that may still be among the nearest of either end, by what is known by now."""
    row, column, most = (np.concatenate(part) for part in zip(*held, strict=True))
    out_bound, into_bound = out[:, -1].cpu().numpy(), into[:, -1].cpu().numpy()
    kept = np.flatnonzero((most >= out_bound[row]) | (most >= into_bound[column]))
    for start in range(0, len(kept), HELD):
        part = kept[start : start + HELD]
        yield Near(src[row[part]], dst[column[part]], most[part])
