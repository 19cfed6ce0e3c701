"""networkx: two DiGraphs, because a filtered view is much slower to search than a graph of what passes.

One holds every edge with its cost, for best paths; the other the edges that pass. Making both is loading.
"""

from pathlib import Path

import networkx as nx

from peers import THRESHOLD, Rows, Shape, UnavailableError, read_edges
from peers.counting import count_walks

BYTES_PER_FEATURE, BYTES_PER_EDGE = 1300, 450
"""What the load takes at its peak, measured and rounded up."""


class NetworkX:
    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
        del scratch
        self.layers = shape.layers
        edges = read_edges(graph, shape)
        n_features = sum(map(len, self.layers.values()))
        needed = BYTES_PER_FEATURE * n_features + BYTES_PER_EDGE * len(edges["src"])
        free = _free_memory()
        if needed > free:
            raise UnavailableError(f"needs {needed / 1e9:.0f} GB of memory; {free / 1e9:.0f} GB are free")
        src, dst, cost = (edges[column].tolist() for column in ("src", "dst", "cost"))
        self.every = nx.DiGraph()
        self.every.add_edges_from((a, b, {"cost": paid}) for a, b, paid in zip(src, dst, cost, strict=True))
        strong = read_edges(graph, shape, f">= {THRESHOLD}")
        src, dst, rank = (strong[column].tolist() for column in ("src", "dst", "rank_in"))
        self.passing = nx.DiGraph()
        for ids in self.layers.values():
            self.passing.add_nodes_from(ids)
        self.passing.add_edges_from(
            (a, b, {"rank_in": place}) for a, b, place in zip(src, dst, rank, strict=True)
        )

    def lineage(self, feature: int) -> list[int]:
        return [feature, *nx.descendants(self.passing, feature), *nx.ancestors(self.passing, feature)]

    def splits(self) -> Rows:
        found = []
        for start, neighbours in self.passing.adjacency():
            n = sum([edge["rank_in"] == 1 for edge in neighbours.values()])
            if n >= 2:
                found.append((start, n))
        return found

    def children(self) -> Rows:
        found = []
        for start, neighbours in self.passing.adjacency():
            best = [end for end, edge in neighbours.items() if edge["rank_in"] == 1]
            if len(best) >= 2:
                found.append((start, best))
        return found

    def best_path(self, first: int, last: int) -> list[int]:
        """Search from both ends, by far networkx' fastest way to one path."""
        path: list[int] = nx.bidirectional_dijkstra(self.every, first, last, weight="cost")[1]
        return path

    def walks(self, layer: int) -> tuple[int, int]:
        return count_walks(self.layers[layer], self.passing.successors)

    def close(self) -> None:
        return


def _free_memory() -> int:
    """Return the bytes that can be had without swapping; without Linux' word for it, no limit."""
    table = Path("/proc/meminfo")
    if not table.is_file():
        return 1 << 62
    fields = dict(line.split(":") for line in table.read_text(encoding="ascii").splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
