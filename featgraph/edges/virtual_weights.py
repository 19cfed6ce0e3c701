"""Virtual weights between two SAEs: exact for stored pairs, from one product where many pairs are ranked."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.edges.evidence import virtual_weight

if TYPE_CHECKING:
    import torch

SPARSE = 1 / 40
"""Share of a block's pairs below which each is computed alone. On one core and in 2,304 dimensions a pair of
a product takes about 0.06 us, a pair alone 2.5 us."""

CELLS = 2**24
"""Virtual weights in memory at once, 64 MB."""


class VirtualWeights:
    """How strongly features of one SAE write into those of another, see `evidence.virtual_weight`."""

    def __init__(self, directions: Matrix, norms: Matrix, encoder: Matrix) -> None:
        """directions, norms, encoder: as `virtual_weight` takes them; they may be mapped from files."""
        self.directions, self.norms, self.encoder = directions, norms, encoder

    def exact(self, src: Indices, dst: Indices) -> Matrix:
        """Return the virtual weights of some pairs; each depends on its two features alone."""
        return virtual_weight(self.directions, self.norms, self.encoder, src, dst)

    def ranked(self, src: Indices, dst: Indices) -> Matrix:
        """Return the same to float32 rounding, fast where the pairs are many of few sources.

        The rounding depends on which sources come together, so these weights rank candidates, and are never
        stored.
        """
        import torch

        sources, row = np.unique(src, return_inverse=True)
        if len(src) <= SPARSE * len(sources) * len(self.encoder):
            return self.exact(src, dst)
        weights = np.empty(len(src), dtype=np.float32)
        step = max(1, CELLS // len(self.encoder))
        for start in range(0, len(sources), step):
            part = sources[start : start + step]
            inside = np.flatnonzero((row >= start) & (row < start + step))
            block = torch.from_numpy(self.directions[part]) @ self._columns
            weights[inside] = block.numpy()[row[inside] - start, dst[inside]]
        scaled: Matrix = weights * self.norms[src]
        return scaled

    @cached_property
    def _columns(self) -> "torch.Tensor":
        import torch

        return torch.tensor(np.asarray(self.encoder)).T
