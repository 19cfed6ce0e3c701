"""In which order the items of each column stand, so that few links cross.

Barycentre sweeps over the whole picture, then sifting: each item is moved to the place in its column where it
causes the fewest crossings. Pure functions of numbers: the same input gives the same order.

Sources: Sugiyama, Tagawa and Toda (1981), layered drawings and barycentres; Matuszewski, Schoenfeld and
Molitor (1999), sifting; Barth, Juenger and Mutzel (2002), counting crossings with an accumulator tree.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Order = list[list[int]]
"""The items of each column, from top to bottom."""


@dataclass(frozen=True)
class Columns:
    """Items in columns, and links between items of neighbouring columns."""

    column: Sequence[int]
    """The column of each item."""
    up: Sequence[Sequence[tuple[int, float]]]
    """For each item, the items linked to it in the previous column, with weights."""
    down: Sequence[Sequence[tuple[int, float]]]
    """For each item, the items linked to it in the next column, with weights."""
    n_columns: int

    @classmethod
    def of(cls, column: Sequence[int], links: Sequence[tuple[int, int, float]]) -> "Columns":
        """Return the columns of items joined by links (upstream item, downstream item, weight)."""
        up: list[list[tuple[int, float]]] = [[] for _ in column]
        down: list[list[tuple[int, float]]] = [[] for _ in column]
        for src, dst, weight in links:
            down[src].append((dst, weight))
            up[dst].append((src, weight))
        return cls(column, up, down, 1 + max(column, default=-1))


STARTS = 8
"""Starting orders tried for a small picture; fewer for a large one, where each takes longer. Our choice."""

SWEEPS = 12
"""Most sweeps of an order, forward or backward. Our choice."""


def best_order(graph: Columns, first: Order | None = None) -> tuple[Order, int]:
    """Return an order with few crossings, and its number of crossings.

    first: an earlier order, kept unless another has a fifth fewer crossings, so that a picture that changes
    a little keeps its look.
    """
    if first is not None and not (n_kept := crossings(graph, first)):
        return first, n_kept
    n_links = max(1, sum(map(len, graph.down)))
    best, fewest = _swept(graph, _walk(graph, 0))
    for number in range(1, max(2, min(STARTS, 1600 // n_links))):
        if not fewest:
            return best, fewest
        order, n_crossings = _swept(graph, _walk(graph, number))
        if n_crossings < fewest:
            best, fewest = order, n_crossings
    best, fewest = _sifted(graph, best, fewest)
    if fewest:
        shaken = _shaken(graph, best, 2)
        order, n_crossings = _sifted(graph, shaken, crossings(graph, shaken))
        if n_crossings < fewest:
            best, fewest = order, n_crossings
    if first is not None:
        kept, n_kept = _sifted(graph, first, n_kept)
        if fewest >= n_kept * 0.8:
            return kept, n_kept
    return best, fewest


def crossings(graph: Columns, order: Order) -> int:
    """Return the number of pairs of links that cross."""
    return sum(_between(graph, order[place], order[place + 1]) for place in range(len(order) - 1))


def _between(graph: Columns, above: Sequence[int], below: Sequence[int]) -> int:
    """Return the number of pairs of links that cross between two neighbouring columns."""
    place = {item: number for number, item in enumerate(below)}
    ends: list[int] = []
    for item in above:
        ends += sorted(place[other] for other, _ in graph.down[item])
    size = len(below)
    tree = [0] * (size + 1)
    n_crossings = 0
    for seen, end in enumerate(ends):
        at, passed = end + 1, 0
        while at:
            passed += tree[at]
            at &= at - 1
        n_crossings += seen - passed
        at = end + 1
        while at <= size:
            tree[at] += 1
            at += at & -at
    return n_crossings


def _walk(graph: Columns, number: int) -> Order:
    """Return the items in the order of a depth-first walk along the links, so that lines stay together.

    Walk 0 goes downstream and walk 1 upstream, strongest neighbour first; later walks take neighbours in
    pseudo-random order, the same in every run.
    """
    n_items = len(graph.column)
    ahead, behind = (graph.up, graph.down) if number % 2 else (graph.down, graph.up)
    chance = _chances(number, n_items) if number > 1 else None
    order: Order = [[] for _ in range(graph.n_columns)]
    seen = [False] * n_items
    items = list(range(n_items)) if chance is None else sorted(range(n_items), key=chance.__getitem__)
    for start in [*(item for item in items if not behind[item]), *items]:
        stack = [start]
        while stack:
            item = stack.pop()
            if seen[item]:
                continue
            seen[item] = True
            order[graph.column[item]].append(item)
            if chance is None:
                stack += [other for other, _ in sorted(ahead[item], key=lambda link: (link[1], -link[0]))]
            else:
                stack += sorted((other for other, _ in ahead[item]), key=chance.__getitem__)
    return order


def _chances(seed: int, n: int) -> list[int]:
    """Return n pseudo-random numbers from a linear congruential generator.

    Source: multiplier and increment of Press et al., Numerical Recipes (1992), section 7.1.
    """
    state, numbers = seed, []
    for _ in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        numbers.append(state)
    return numbers


def _swept(graph: Columns, start: Order) -> tuple[Order, int]:
    """Return the best of an order swept, and of that drawn together and swept again."""
    swept, n_swept = _sweep(graph, start)
    if not n_swept:
        return swept, n_swept
    again, n_again = _sweep(graph, _shaken(graph, swept, 4))
    return (again, n_again) if n_again < n_swept else (swept, n_swept)


def _sweep(graph: Columns, start: Order) -> tuple[Order, int]:
    """Sort every column by the barycentres of its neighbours in the previous or next column, while it
    helps."""
    order = [list(items) for items in start]
    best, fewest = start, crossings(graph, start)
    stale = 0
    for sweep in range(SWEEPS):
        if not fewest or stale == 4:
            break
        forth = sweep % 2 == 0
        neighbours = graph.up if forth else graph.down
        places = range(1, len(order)) if forth else range(len(order) - 2, -1, -1)
        place = _places(graph, order)
        for at in places:
            order[at] = _by_barycentre(order[at], neighbours, place, reverse=stale % 2 == 1)
            for number, item in enumerate(order[at]):
                place[item] = number
        n_crossings = crossings(graph, order)
        if n_crossings < fewest:
            best, fewest, stale = [list(items) for items in order], n_crossings, 0
        else:
            stale += 1
    return best, fewest


def _shaken(graph: Columns, start: Order, rounds: int) -> Order:
    """Sort every column by the barycentres of all neighbours, as relative positions in their columns.

    This aligns distant columns, and leaves local minima in which sweeps end.
    """
    order = [list(items) for items in start]
    height = [0.0] * len(graph.column)
    for items in order:
        for number, item in enumerate(items):
            height[item] = (number + 0.5) / len(items)
    links = [[*up, *down] for up, down in zip(graph.up, graph.down, strict=True)]
    total = [sum(weight for _, weight in of_item) for of_item in links]
    for turn in range(rounds):
        for items in order if turn % 2 == 0 else reversed(order):
            centre = {
                item: sum(height[other] * weight for other, weight in links[item]) / total[item]
                if links[item]
                else height[item]
                for item in items
            }
            items.sort(key=centre.__getitem__)
            for number, item in enumerate(items):
                height[item] = (number + 0.5) / len(items)
    return order


def _places(graph: Columns, order: Order) -> list[int]:
    """Return the position of each item in its column."""
    place = [0] * len(graph.column)
    for items in order:
        for number, item in enumerate(items):
            place[item] = number
    return place


def _by_barycentre(
    items: list[int],
    neighbours: Sequence[Sequence[tuple[int, float]]],
    place: Sequence[int],
    *,
    reverse: bool,
) -> list[int]:
    """Return a column sorted by the mean position of each item's neighbours; items without neighbours stay.

    reverse: reverse ties, which a further sweep may then separate.
    """
    centres = {}
    for item in items:
        links = neighbours[item]
        if links:
            centres[item] = sum(place[other] * weight for other, weight in links) / sum(
                weight for _, weight in links
            )
    free = [item for item in items if item in centres]
    if reverse:
        free.reverse()
    free.sort(key=centres.__getitem__)
    moved = iter(free)
    return [next(moved) if item in centres else item for item in items]


def _sifted(graph: Columns, start: Order, n_crossings: int) -> tuple[Order, int]:
    """Move each item to the best nearby position in its column, until that helps little (sifting).

    Nearby is the whole column in a picture of up to 200 items, and less in a larger one.
    """
    order = [list(items) for items in start]
    place = _places(graph, order)
    reach = max(4, 40_000 // max(1, len(place)))
    for _ in range(8):
        before = n_crossings
        for items in order:
            for item in sorted(items, key=lambda item: (-len(graph.up[item]) - len(graph.down[item]), item)):
                n_crossings += _sift(graph, items, item, place, reach)
        if n_crossings > before * 0.995:
            break
    return order, n_crossings


def _sift(graph: Columns, items: list[int], item: int, place: list[int], reach: int) -> int:
    """Move one item to the best position in its column; return the change of the number of crossings."""
    sides = [
        (neighbours, sorted(place[other] for other, _ in neighbours[item]))
        for neighbours in (graph.up, graph.down)
        if neighbours[item]
    ]
    if not sides:
        return 0
    at = place[item]
    best, least = at, 0
    for step in (-1, 1):
        change = 0
        stop = max(-1, at - reach - 1) if step == -1 else min(len(items), at + reach + 1)
        for passed in range(at + step, stop, step):
            for neighbours, mine in sides:
                for end, _ in neighbours[items[passed]]:
                    over = len(mine) - bisect_right(mine, place[end])
                    under = bisect_left(mine, place[end])
                    change += (under - over) * step
            if change < least:
                best, least = passed, change
    if best != at:
        items.insert(best, items.pop(at))
        for number in range(min(at, best), max(at, best) + 1):
            place[items[number]] = number
    return least
