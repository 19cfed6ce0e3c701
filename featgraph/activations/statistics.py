"""How often and how strongly each feature of one SAE fires, and how much variance the SAE explains.

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

from featgraph.core.arrays import Counts, Sums

if TYPE_CHECKING:
    import torch

Arrays = dict[str, NDArray[Any]]
"""A partial result as a file holds it."""


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
        """Return the arrays that a file holds."""
        return {"n_active": self.n_active, "sum": self.sum, "square": self.square, "max": self.max}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Moments":
        """Return the moments that `arrays` gave."""
        moments = Moments(0)
        moments.n_active, moments.sum = arrays["n_active"], arrays["sum"]
        moments.square, moments.max = arrays["square"], arrays["max"]
        return moments


class Reconstruction:
    """How much of one site's variance its SAE explains."""

    def __init__(self, d_model: int) -> None:
        self.n = 0
        self.error = 0.0
        self.square = 0.0
        self.sum: Sums = np.zeros(d_model)

    def update(self, activations: "torch.Tensor", reconstruction: "torch.Tensor") -> None:
        """Add one batch: activations and their reconstruction by the SAE, (n_tokens, d_model) each."""
        self.n += len(activations)
        self.error += float((activations - reconstruction).double().square().sum())
        self.square += float(activations.double().square().sum())
        self.sum += activations.double().sum(0).cpu().numpy()

    @property
    def explained_variance(self) -> float:
        """1 - squared error / variance around the mean, summed over dimensions.

        Source: arXiv 2406.04093 (Gao et al.), 1 - normalised MSE.
        """
        variance = self.square - float((self.sum**2).sum()) / self.n if self.n else 0.0
        return 1.0 - self.error / variance if variance > 0 else float("nan")

    @property
    def rms_length(self) -> float:
        """Root mean square length of the activations."""
        return math.sqrt(self.square / self.n) if self.n else float("nan")

    def merge(self, other: Self) -> "Reconstruction":
        """Return the sums over both texts."""
        both = Reconstruction(len(self.sum))
        both.n, both.sum = self.n + other.n, self.sum + other.sum
        both.error, both.square = self.error + other.error, self.square + other.square
        return both

    def arrays(self) -> Arrays:
        """Return the arrays that a file holds."""
        return {"n": np.array(self.n), "scalars": np.array([self.error, self.square]), "sum": self.sum}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Reconstruction":
        """Return the reconstruction that `arrays` gave."""
        reconstruction = Reconstruction(0)
        reconstruction.n, reconstruction.sum = int(arrays["n"]), arrays["sum"]
        reconstruction.error, reconstruction.square = (float(value) for value in arrays["scalars"])
        return reconstruction
