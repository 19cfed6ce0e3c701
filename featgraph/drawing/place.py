"""Computes the heights of the items in ordered columns, so that links are as level as possible.

Each column in turn takes the heights at which its links are as level as possible (weighted least squares), in
its order and with room between its items; so forth and back, until the columns agree.

Source: Best and Chakravarti (1990), isotonic regression by pooling adjacent violators.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from featgraph.drawing.order import Order

SWEEPS = 24
"""Times that every column is placed. The last third looks at both sides at once, the first at one in turn."""

_STAY = 1e-3
"""Weight of an item's present height; links weigh about 1, so it matters only to items without links."""


class Pull(NamedTuple):
    """The height that a link asks of one of its ends."""

    item: int
    """The item at the other end."""
    shift: float
    """How much lower this item is than the other one if the link is horizontal."""
    weight: float


@dataclass(frozen=True)
class Extent:
    """The height of an item above and below its middle line."""

    above: float
    below: float


def heights(
    order: Order,
    extents: Sequence[Extent],
    up: Sequence[Sequence[Pull]],
    down: Sequence[Sequence[Pull]],
    gap: float,
) -> list[float]:
    """Return the distance of each item's middle line from the top of the picture.

    up, down: for each item, its links from the previous and to the next column. gap: smallest distance
    between neighbours in a column.
    """
    height = [0.0] * len(extents)
    apart: list[list[float]] = []
    for items in order:
        least = [0.0]
        for above, below in pairwise(items):
            least.append(least[-1] + extents[above].below + gap + extents[below].above)
        apart.append(least)
        for item, at in zip(items, least, strict=True):
            height[item] = at - least[-1] / 2
    both = [[*of_up, *of_down] for of_up, of_down in zip(up, down, strict=True)]
    places = list(range(len(order)))
    for sweep in range(SWEEPS):
        pulls = both if sweep >= SWEEPS * 2 // 3 else down if sweep % 2 else up
        for place in reversed(places) if sweep % 2 else places:
            _settle(order[place], apart[place], pulls, height)
    top = min((height[item] - extents[item].above for items in order for item in items), default=0.0)
    return [at - top for at in height]


def _settle(
    items: Sequence[int], apart: Sequence[float], pulls: Sequence[Sequence[Pull]], height: list[float]
) -> None:
    """Move the items of one column as close to the heights that their links ask for as the gaps allow."""
    wanted: list[tuple[float, float]] = []
    for item, least in zip(items, apart, strict=True):
        total, weights = height[item] * _STAY, _STAY
        for pull in pulls[item]:
            total += (height[pull.item] + pull.shift) * pull.weight
            weights += pull.weight
        wanted.append((total / weights - least, weights))
    for item, at, least in zip(items, rising(wanted), apart, strict=True):
        height[item] = at + least


def rising(wanted: Sequence[tuple[float, float]]) -> list[float]:
    """Return the non-decreasing numbers closest to the wanted ones in weighted least squares.

    Source: isotonic regression by pooling adjacent violators, Barlow et al. (1972).

    wanted: (number, weight).

    >>> rising([(1.0, 1.0), (3.0, 1.0), (2.0, 1.0)])
    [1.0, 2.5, 2.5]
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in wanted:
        n_in = 1
        while pools and pools[-1][0] > value:
            before, weight_before, n_before = pools.pop()
            value = (value * weight + before * weight_before) / (weight + weight_before)
            weight += weight_before
            n_in += n_before
        pools.append((value, weight, n_in))
    return [value for value, _, n_in in pools for _ in range(n_in)]
