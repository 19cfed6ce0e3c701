"""Lays out a lineage picture: cards in columns, ribbons between them.

A link over several columns bends through places kept free in the columns between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featgraph.drawing.graph import LineageGraph, Link
from featgraph.drawing.order import Columns, Order, best_order
from featgraph.drawing.place import Extent, Pull, heights


@dataclass(frozen=True)
class Size:
    """Sizes of cards, gaps and ribbons, in units of the picture."""

    card_width: float
    card_height: float
    """Smallest height; a card is as high as the ribbons at its fuller side."""
    below: float
    """Height for the marks under a card, if it has any."""
    gap: float
    """Smallest distance between two cards of a column."""
    column_gap: float
    """Smallest distance between two columns; it grows if ribbons are steep, unless `stiff`."""
    ribbon: float
    """Width of the widest ribbon."""
    stack: float
    """Largest total height of the ribbons at one side of a card; all ribbons are scaled down to meet it."""
    stiff: bool = False


@dataclass(frozen=True)
class Box:
    """The rectangle of a card: left edge, top, width and height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + self.height


@dataclass(frozen=True)
class Ribbon:
    """A link with its width and path."""

    link: Link
    width: float
    points: tuple[tuple[float, float], ...]
    """Points (x, y) in pairs: the ribbon leaves a column at the first and enters the next one at the
    second."""


@dataclass(frozen=True)
class Layout:
    """The positions of all cards and ribbons of a lineage picture."""

    graph: LineageGraph
    boxes: Mapping[str, Box]
    """Key -> rectangle of its card."""
    ribbons: Sequence[Ribbon]
    columns: Sequence[tuple[float, float]]
    """Left edge and card width of each column."""
    order: tuple[tuple[str, ...], ...]
    """Keys of each column from top to bottom."""
    width: float
    height: float
    crossings: int
    """Number of pairs of links that cross."""
    ribbon: float
    """Width of a ribbon whose value is 1."""


def lay_out(
    graph: LineageGraph,
    size: Size,
    *,
    above: Mapping[str, float] | None = None,
    before: Sequence[Sequence[str]] = (),
) -> Layout:
    """Return the positions of the cards and ribbons of a picture; (0, 0) is the upper left corner.

    above: key -> free height above its card. before: the order of the keys in an earlier, similar picture,
    which is kept if it has nearly as few crossings as the best one.
    """
    items = _Items.of(graph)
    order, n_crossings = best_order(items.columns, _order_before(items, before))
    scale = _ribbon_scale(graph, size)
    place = [0] * len(items.column)
    for column in order:
        for number, item in enumerate(column):
            place[item] = number
    ports = _Ports.of(items, place, scale)
    half = [max(size.card_height, ports.stack[number] + 6) / 2 for number in range(len(graph.nodes))]
    over = above or {}
    extents = [
        Extent(high + over.get(node.key, 0.0), high + size.below)
        for node, high in zip(graph.nodes, half, strict=True)
    ]
    extents += [Extent(width / 2, width / 2) for width in (link.value * scale for link in items.bent)]
    up, down = _pulls(items, ports)
    line = heights(order, extents, up, down, size.gap)
    left = _lefts(items, ports, line, size)
    boxes = {
        node.key: Box(
            left[items.column[number]], line[number] - half[number], size.card_width, half[number] * 2
        )
        for number, node in enumerate(graph.nodes)
    }
    ribbons = [
        Ribbon(link, link.value * scale, tuple(_points(steps, items, ports, line, left, size)))
        for link, steps in zip(graph.links, items.steps, strict=True)
    ]
    bottom = max((at + extent.below for at, extent in zip(line, extents, strict=True)), default=0.0)
    return Layout(
        graph,
        boxes,
        ribbons,
        [(x, size.card_width) for x in left],
        tuple(tuple(graph.nodes[item].key for item in column if item < len(graph.nodes)) for column in order),
        left[-1] + size.card_width if left else 0.0,
        bottom,
        n_crossings,
        scale,
    )


@dataclass(frozen=True)
class _Items:
    """The nodes, followed by the bends of links that skip columns (dummy nodes of a layered drawing)."""

    graph: LineageGraph
    column: list[int]
    joins: list[tuple[int, int, float]]
    """(upstream item, downstream item, weight) of every link, or of every part of a link that bends."""
    steps: list[list[int]]
    """For each link, the indices of its parts in `joins`."""
    bent: list[Link]
    """The link of each bend."""

    @classmethod
    def of(cls, graph: LineageGraph) -> "_Items":
        numbers = {column: number for number, column in enumerate(graph.columns)}
        column = [numbers[node.layer, node.site] for node in graph.nodes]
        item = {node.key: number for number, node in enumerate(graph.nodes)}
        joins: list[tuple[int, int, float]] = []
        steps: list[list[int]] = []
        bent: list[Link] = []
        for link in graph.links:
            at, end = item[link.src], item[link.dst]
            steps.append([])
            for between in range(column[at] + 1, column[end] + 1):
                after = end if between == column[end] else len(column)
                if after == len(column):
                    column.append(between)
                    bent.append(link)
                steps[-1].append(len(joins))
                joins.append((at, after, link.value))
                at = after
        return cls(graph, column, joins, steps, bent)

    @property
    def columns(self) -> Columns:
        return Columns.of(self.column, self.joins)


@dataclass(frozen=True)
class _Ports:
    """Vertical offsets of the ends of each join from the middle lines of its items; negative is above."""

    leaves: list[float]
    enters: list[float]
    stack: list[float]
    """For each item, the total height of the ribbons on its fuller side."""

    @classmethod
    def of(cls, items: _Items, place: Sequence[int], scale: float) -> "_Ports":
        sources, targets, values = zip(*items.joins, strict=True) if items.joins else ((), (), ())
        stack = [0.0] * len(items.column)
        sides: list[list[float]] = []
        for ends, others in ((sources, targets), (targets, sources)):
            ports = [0.0] * len(items.joins)
            at_item: list[list[int]] = [[] for _ in items.column]
            # Sorted by their other ends, so that the ribbons at one card do not cross.
            for join in sorted(range(len(ends)), key=[place[other] for other in others].__getitem__):
                at_item[ends[join]].append(join)
            for item, joins in enumerate(at_item):
                high = sum(values[join] * scale for join in joins) + _BETWEEN * max(0, len(joins) - 1)
                stack[item] = max(stack[item], high)
                top = -high / 2
                for join in joins:
                    ports[join] = top + values[join] * scale / 2
                    top += values[join] * scale + _BETWEEN
            sides.append(ports)
        leaves, enters = sides
        return cls(leaves, enters, stack)


_BETWEEN = 1.0
"""Distance between two ribbons at a card."""


def _ribbon_scale(graph: LineageGraph, size: Size) -> float:
    """Return the largest width of a ribbon of value 1 that keeps `size.ribbon` and `size.stack`."""
    side: dict[tuple[str, bool], list[float]] = {}
    for link in graph.links:
        side.setdefault((link.src, True), []).append(link.value)
        side.setdefault((link.dst, False), []).append(link.value)
    limits = [
        max(size.stack - _BETWEEN * (len(values) - 1), _THINNEST * len(values)) / sum(values)
        for values in side.values()
    ]
    return min([size.ribbon / max((link.value for link in graph.links), default=1.0), *limits])


_THINNEST = 0.5
"""Smallest mean width of the ribbons at a card, even if they exceed its stack."""


def _pulls(items: _Items, ports: _Ports) -> tuple[list[list[Pull]], list[list[Pull]]]:
    """Return, for each item, the pulls of its links from the previous and from the next column."""
    up: list[list[Pull]] = [[] for _ in items.column]
    down: list[list[Pull]] = [[] for _ in items.column]
    n_nodes = len(items.graph.nodes)
    for number, (src, dst, weight) in enumerate(items.joins):
        # A long link should run level between its ends: a bend between cards is more visible than one at a
        # card.
        weight *= (1.0, 2.0, 8.0)[(src >= n_nodes) + (dst >= n_nodes)]
        shift = ports.leaves[number] - ports.enters[number]
        up[dst].append(Pull(src, shift, weight))
        down[src].append(Pull(dst, -shift, weight))
    return up, down


def _lefts(items: _Items, ports: _Ports, line: Sequence[float], size: Size) -> list[float]:
    """Return the left edge of each column; columns with steep ribbons between them are farther apart."""
    n_columns = len(items.graph.columns)
    steepest = [0.0] * max(0, n_columns - 1)
    for number, (src, dst, _) in enumerate(items.joins):
        rise = abs(line[src] + ports.leaves[number] - line[dst] - ports.enters[number])
        steepest[items.column[src]] = max(steepest[items.column[src]], rise)
    left = [0.0] if n_columns else []
    for rise in steepest:
        wider = 0.0 if size.stiff else min(size.column_gap, rise * 0.12)
        left.append(left[-1] + size.card_width + size.column_gap + wider)
    return left


def _points(
    steps: Sequence[int],
    items: _Items,
    ports: _Ports,
    line: Sequence[float],
    left: Sequence[float],
    size: Size,
) -> list[tuple[float, float]]:
    points = []
    for number in steps:
        src, dst, _ = items.joins[number]
        points.append((left[items.column[src]] + size.card_width, line[src] + ports.leaves[number]))
        points.append((left[items.column[dst]], line[dst] + ports.enters[number]))
    return points


def _order_before(items: _Items, before: Sequence[Sequence[str]]) -> Order | None:
    """Return an earlier order of keys as an order of these items; new items come last in their column."""
    if not any(before):
        return None
    rank = {key: number for column in before for number, key in enumerate(column)}
    nodes = items.graph.nodes
    order: Order = [[] for _ in items.graph.columns]
    for item, place in enumerate(items.column):
        order[place].append(item)

    def earlier(item: int) -> tuple[float, int]:
        if item < len(nodes):
            return rank.get(nodes[item].key, float("inf")), item
        link = items.bent[item - len(nodes)]
        return rank.get(link.src, float("inf")), item

    for column in order:
        column.sort(key=earlier)
    return order
