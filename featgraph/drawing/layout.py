"""Where everything of a lineage picture goes: cards in columns, ribbons between them.

A link over several columns bends through places kept free in the columns between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featgraph.drawing.graph import LineageGraph, Link
from featgraph.drawing.order import Columns, Order, best_order
from featgraph.drawing.place import Extent, Pull, heights


@dataclass(frozen=True)
class Size:
    """How large cards and ribbons are, in units of the picture."""

    card_width: float
    card_height: float
    """Least height; a card grows with the ribbons at its sides."""
    below: float
    """Room for marks under a card that has any."""
    gap: float
    """Least room between two cards of a column."""
    column_gap: float
    """Least room between the cards of two columns; it grows where ribbons are steep, unless `stiff`."""
    ribbon: float
    """Width of the widest ribbon."""
    stack: float
    """Most height of the ribbons at one side of a card: all ribbons get narrower until they keep to it."""
    stiff: bool = False


@dataclass(frozen=True)
class Box:
    """Where a card stands: its left edge, top, width and height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height


@dataclass(frozen=True)
class Ribbon:
    """How a link runs."""

    link: Link
    width: float
    points: tuple[tuple[float, float], ...]
    """Where it leaves a column and enters the next, in turn: from (x, y) to (x, y), and so on."""


@dataclass(frozen=True)
class Layout:
    """A lineage picture with every place decided."""

    graph: LineageGraph
    boxes: Mapping[str, Box]
    """By key."""
    ribbons: Sequence[Ribbon]
    columns: Sequence[tuple[float, float]]
    """Left edge and width of the cards of each column of the graph."""
    order: tuple[tuple[str, ...], ...]
    """Keys of each column from top to bottom."""
    width: float
    height: float
    crossings: int
    """Pairs of links that cross between two columns."""
    ribbon: float
    """Width of a ribbon of value 1."""


def lay_out(
    graph: LineageGraph,
    size: Size,
    *,
    above: Mapping[str, float] | None = None,
    before: Sequence[Sequence[str]] = (),
) -> Layout:
    """Return where the cards and ribbons of a picture go, from (0, 0) to the right and down.

    above: by key, the room kept over a card. before: the order of an earlier picture of nearly the same, kept
    if it is nearly as good.
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
    """Nodes, and after them the places where links bend."""

    graph: LineageGraph
    column: list[int]
    joins: list[tuple[int, int, float]]
    """Upstream item, downstream item, weight: each link, or each part of one that bends."""
    steps: list[list[int]]
    """Of each link, its places in `joins`."""
    bent: list[Link]
    """Of each place where a link bends, the link."""

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
    """Where the ends of each join stand, above (negative) or below the lines of its two items."""

    leaves: list[float]
    enters: list[float]
    stack: list[float]
    """Of each item, the height of all ribbons on its fuller side."""

    @classmethod
    def of(cls, items: _Items, place: Sequence[int], scale: float) -> "_Ports":
        sources, targets, values = zip(*items.joins, strict=True) if items.joins else ((), (), ())
        stack = [0.0] * len(items.column)
        sides: list[list[float]] = []
        for ends, others in ((sources, targets), (targets, sources)):
            ports = [0.0] * len(items.joins)
            at_item: list[list[int]] = [[] for _ in items.column]
            # In the order of the other ends, so that ribbons at one card do not cross.
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
"""Room between two ribbons at a card."""


def _ribbon_scale(graph: LineageGraph, size: Size) -> float:
    """Return the width of a ribbon of value 1 with which the widest is as wide as it may be, or the fullest
    side of a card as high as it may be.
    """
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
"""Mean width of the ribbons at a card that has more than its stack has room for."""


def _pulls(items: _Items, ports: _Ports) -> tuple[list[list[Pull]], list[list[Pull]]]:
    """Return what pulls each item up and down the picture, from the column before and from the one after."""
    up: list[list[Pull]] = [[] for _ in items.column]
    down: list[list[Pull]] = [[] for _ in items.column]
    n_nodes = len(items.graph.nodes)
    for number, (src, dst, weight) in enumerate(items.joins):
        # A long link should run level between its ends; a bend in it shows more than one at a card.
        weight *= (1.0, 2.0, 8.0)[(src >= n_nodes) + (dst >= n_nodes)]
        shift = ports.leaves[number] - ports.enters[number]
        up[dst].append(Pull(src, shift, weight))
        down[src].append(Pull(dst, -shift, weight))
    return up, down


def _lefts(items: _Items, ports: _Ports, line: Sequence[float], size: Size) -> list[float]:
    """Return the left edge of each column: farther from the one before where ribbons are steep."""
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
    """Return an earlier order of the keys as one of these items: what is new stands below what was there."""
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
