"""Names for the kinds of arrays that cross module boundaries; shapes live in docstrings."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Measured values: directions, cosines, activations."""

Vector = NDArray[np.float32]
"""One vector of the residual stream, (d_model,)."""

Indices = NDArray[np.int64]
"""Indices of features, tokens or token rows."""

Counts = NDArray[np.int64]
"""Numbers of tokens."""

Sums = NDArray[np.float64]
"""Sums over tokens, in double precision, so that the order of batches does not change results."""
