"""How the scale of steering goes over the layers of a span, and what earlier layers have added already."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featgraph.steering.vector import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


def scheduled(settings: Settings, layers: Sequence[int], cosines: Sequence[float | None]) -> list[float]:
    """Return the scale at each layer of a span, layers ascending.

    constant     s
    exponential  s exp(alpha l), l the layer's number
    linear       from s at the first layer to `end` at the last, straight; s where there is one layer
    cosine       s times the cosine of the edge that joins the layer to the seed's side, s at the seed

    Source: arXiv 2502.03032 v3, section 5.3, the first three; the last is ours.

    >>> scheduled(Settings(scale=4, schedule="linear"), [2, 3, 4], [None, 0.8, 0.6])
    [4.0, 2.5, 1.0]
    """
    scale = settings.scale
    if settings.schedule == "exponential":
        return [scale * math.exp(settings.alpha * layer) for layer in layers]
    if settings.schedule == "linear" and len(layers) > 1:
        slope = (settings.end - scale) / (layers[-1] - layers[0])
        return [scale + slope * (layer - layers[0]) for layer in layers]
    if settings.schedule == "cosine":
        return [scale if cosine is None else scale * cosine for cosine in cosines]
    return [float(scale)] * len(layers)


def compensated(layers: dict[int, "Vector"]) -> dict[int, "Vector"]:
    """Return the vectors less what those of earlier layers have already added along each, layers ascending.

    The residual stream carries what was added on. With it, out(b) has moved along the vector of layer b by
    that vector's own length, not by the sum of all.

    Source: ours, after arXiv 2605.27819 (independent SAEs of several layers represent the same information).

    >>> import numpy as np
    >>> found = compensated({0: np.array([1, 0]), 1: np.array([2, 0]), 2: np.array([0, 3])})
    >>> [vector.tolist() for vector in found.values()]
    [[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]]
    """
    import numpy as np

    found: dict[int, Vector] = {}
    carried: NDArray[np.float64] | None = None
    for layer, vector in layers.items():
        wanted = vector.astype(np.float64)
        square = float(wanted @ wanted)
        already = 0.0 if carried is None or square == 0 else float(carried @ wanted) / square
        added = wanted * (1 - already)
        carried = added if carried is None else carried + added
        found[layer] = added.astype(np.float32)
    return found
