"""Computes the scale at each layer of a span, and the compensation for earlier layers."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featgraph.errors import UsageError
from featgraph.steering.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featgraph.core.arrays import Vector


def scheduled(settings: Settings, layers: Sequence[int], cosines: Sequence[float | None]) -> list[float]:
    """Return the scale at each layer of a span, layers ascending.

    constant     s
    exponential  s exp(alpha l), l the layer's number
    linear       k l + b: from s at the first layer to `end` at the last; s where there is one layer
    cosine       s times the cosine of the edge that joins the layer to the seed's side, s at the seed

    Raises UsageError: a scale is too large for a number.
    Source: arXiv 2502.03032 v3, section 5.3, the first three; the last is ours.

    >>> scheduled(Settings(scale=4, schedule="linear"), [2, 3, 4], [None, 0.8, 0.6])
    [4.0, 2.5, 1.0]
    """
    scale = settings.scale
    if settings.schedule == "exponential":
        try:
            return [scale * math.exp(settings.alpha * layer) for layer in layers]
        except OverflowError as error:
            raise UsageError(
                f"the exponential schedule is infinite at layer {layers[-1]} with alpha {settings.alpha:g}; "
                "choose an alpha nearer to 0"
            ) from error
    if settings.schedule == "linear" and layers[-1] > layers[0]:
        slope = (settings.end - scale) / (layers[-1] - layers[0])
        return [scale + slope * (layer - layers[0]) for layer in layers]
    if settings.schedule == "cosine":
        return [scale if cosine is None else scale * cosine for cosine in cosines]
    return [float(scale)] * len(layers)


def compensation(vectors: Sequence["Vector"]) -> list[float]:
    """Return what each vector is multiplied by so that what earlier ones added along it is left out.

    vectors: in the order in which the model adds them. The residual stream carries what was added on, so
    with these factors it has moved along each vector by that vector's own length, not by the sum of all.

    Source: ours, after arXiv 2605.27819 (independent SAEs of several layers represent the same information).

    >>> import numpy as np
    >>> compensation([np.array([1, 0]), np.array([2, 0]), np.array([0, 3])])
    [1.0, 0.5, 1.0]
    """
    import numpy as np

    factors: list[float] = []
    carried: NDArray[np.float64] | None = None
    for vector in vectors:
        wanted = vector.astype(np.float64)
        square = float(wanted @ wanted)
        already = 0.0 if carried is None or square == 0 else float(carried @ wanted) / square
        factors.append(1 - already)
        carried = wanted * (1 - already) if carried is None else carried + wanted * (1 - already)
    return factors
