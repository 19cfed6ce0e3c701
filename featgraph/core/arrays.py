"""Names for the kinds of arrays that cross module boundaries; shapes live in docstrings."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Measured values: directions, cosines, activations."""

Vector = NDArray[np.float32]
"""One vector of the residual stream, (d_model,)."""

Indices = NDArray[np.int64]
"""Places of features, tokens or pieces of text."""

Counts = NDArray[np.int64]
"""How many tokens."""

Sums = NDArray[np.float64]
"""Running sums, in double precision so that the order of batches does not show."""
