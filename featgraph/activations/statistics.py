"""Statistics of one SAE's features: firing counts, moments, explained variance.

Both are sums over tokens, gathered batch by batch, so memory does not grow with the text. They are plain
arrays that a file can hold. The tokens that a feature fires on are in `top_tokens.py`, its strongest contexts
in `contexts.py`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from featgraph.core.arrays import Counts, Indices, Sums

if TYPE_CHECKING:
    import torch

Arrays = dict[str, NDArray[Any]]
"""Name -> array of a partial result, as stored in a file."""


class Moments:
    """Per-feature counts, sums, sums of squares and largest activations of one SAE."""

    def __init__(self, n_features: int) -> None:
        self.n_active: Counts = np.zeros(n_features, dtype=np.int64)
        self.sum: Sums = np.zeros(n_features)
        self.square: Sums = np.zeros(n_features)
        self.max: Sums = np.zeros(n_features)

    def update(self, codes: scipy.sparse.csr_matrix) -> None:
        """Add one batch, (n_tokens, n_features)."""
        n_features, values = len(self.sum), codes.data.astype(np.float64)
        active = codes.indices if values.all() else codes.indices[values != 0]
        self.n_active += np.bincount(active, minlength=n_features)
        self.sum += np.bincount(codes.indices, weights=values, minlength=n_features)
        self.square += np.bincount(codes.indices, weights=values**2, minlength=n_features)
        np.maximum.at(self.max, codes.indices, values)

    def arrays(self) -> Arrays:
        """Return the moments as arrays for a file."""
        return {"n_active": self.n_active, "sum": self.sum, "square": self.square, "max": self.max}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Moments":
        """Return the moments from the arrays of `arrays`."""
        moments = Moments(0)
        moments.n_active, moments.sum = arrays["n_active"], arrays["sum"]
        moments.square, moments.max = arrays["square"], arrays["max"]
        return moments


BLOCKS = 10
"""Groups of token rows for the jackknife error of the explained variance. A row belongs to one group as a
whole, because its tokens are correlated. Our choice."""


class Reconstruction:
    """Sums from which the explained variance of one SAE is computed."""

    def __init__(self, d_model: int) -> None:
        self.n: Counts = np.zeros(BLOCKS, dtype=np.int64)
        self.error: Sums = np.zeros(BLOCKS)
        self.square: Sums = np.zeros(BLOCKS)
        self.sum: Sums = np.zeros((BLOCKS, d_model))

    def update(
        self, activations: "torch.Tensor", reconstruction: "torch.Tensor", row: Indices | None = None
    ) -> None:
        """Add one batch of activations, (n_tokens, d_model), and their reconstructions.

        row: token row of each token.
        """
        block = np.zeros(len(activations), dtype=np.int64) if row is None else row % BLOCKS
        wanted = activations.double().cpu().numpy()
        error = (wanted - reconstruction.double().cpu().numpy()) ** 2
        self.n += np.bincount(block, minlength=BLOCKS)
        self.error += np.bincount(block, weights=error.sum(axis=1), minlength=BLOCKS)
        self.square += np.bincount(block, weights=(wanted**2).sum(axis=1), minlength=BLOCKS)
        for number in np.unique(block):
            self.sum[number] += wanted[block == number].sum(axis=0)

    @property
    def explained_variance(self) -> float:
        """1 - squared error / variance around the mean, summed over dimensions; NaN if the variance is 0.

        Source: arXiv 2406.04093 (Gao et al.), 1 - normalised MSE.
        """
        return self._explained(np.ones(BLOCKS, dtype=np.bool_))

    @property
    def explained_variance_se(self) -> float:
        """Standard error of the explained variance; NaN if one group has all tokens.

        Source: the delete-a-group jackknife, Efron and Tibshirani, An Introduction to the Bootstrap, 11.5.
        """
        filled = self.n > 0
        values = np.array(
            [self._explained(filled & (np.arange(BLOCKS) != b)) for b in np.flatnonzero(filled)]
        )
        n = len(values)
        if n < 2 or np.isnan(values).any():
            return float("nan")
        return math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))

    def _explained(self, blocks: NDArray[np.bool_]) -> float:
        """Return the explained variance over some groups."""
        n, total = int(self.n[blocks].sum()), self.sum[blocks].sum(axis=0)
        variance = float(self.square[blocks].sum()) - float((total**2).sum()) / n if n else 0.0
        return 1.0 - float(self.error[blocks].sum()) / variance if variance > 0 else float("nan")

    @property
    def rms_length(self) -> float:
        """Root mean square length of the activations."""
        n = int(self.n.sum())
        return math.sqrt(float(self.square.sum()) / n) if n else float("nan")

    def merge(self, other: Self) -> "Reconstruction":
        """Return the sums over both texts."""
        merged = Reconstruction(self.sum.shape[1])
        for name, values in self.arrays().items():
            setattr(merged, name, values + getattr(other, name))
        return merged

    def arrays(self) -> Arrays:
        """Return the sums as arrays for a file."""
        return {"n": self.n, "error": self.error, "square": self.square, "sum": self.sum}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Reconstruction":
        """Return the sums from the arrays of `arrays`."""
        held = Reconstruction(0)
        held.n, held.sum, held.error, held.square = (arrays[name] for name in ("n", "sum", "error", "square"))
        return held
