"""rustworkx: two PyDiGraphs whose node indices are the ids, because its searches take no filter.

One holds every edge with its cost, for best paths; the other the edges that pass. Making both is loading.
"""

import importlib
from pathlib import Path
from typing import Any

from peers import THRESHOLD, Rows, Shape, read_edges
from peers.counting import count_walks

rx: Any = importlib.import_module("rustworkx")


class RustworkX:
    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
        del scratch
        self.layers, n_features = shape.layers, shape.n_features
        edges = read_edges(graph, shape)
        src, dst, cost = (edges[column].tolist() for column in ("src", "dst", "cost"))
        self.every = rx.PyDiGraph(node_count_hint=n_features, edge_count_hint=len(src))
        self.every.add_nodes_from(range(n_features))
        self.every.extend_from_weighted_edge_list(list(zip(src, dst, cost, strict=True)))
        strong = read_edges(graph, shape, f">= {THRESHOLD}")
        src, dst, rank = (strong[column].tolist() for column in ("src", "dst", "rank_in"))
        self.passing = rx.PyDiGraph(node_count_hint=n_features, edge_count_hint=len(src))
        self.passing.add_nodes_from(range(n_features))
        self.passing.extend_from_weighted_edge_list(list(zip(src, dst, rank, strict=True)))

    def lineage(self, feature: int) -> list[int]:
        return [feature, *rx.descendants(self.passing, feature), *rx.ancestors(self.passing, feature)]

    def splits(self) -> Rows:
        found = []
        for start in self.passing.node_indices():
            n = sum([rank == 1 for _, _, rank in self.passing.out_edges(start)])
            if n >= 2:
                found.append((start, n))
        return found

    def children(self) -> Rows:
        found = []
        for start in self.passing.node_indices():
            best = [end for _, end, rank in self.passing.out_edges(start) if rank == 1]
            if len(best) >= 2:
                found.append((start, best))
        return found

    def best_path(self, first: int, last: int) -> list[int]:
        paths = rx.dijkstra_shortest_paths(self.every, first, target=last, weight_fn=float)
        return list(paths[last])

    def walks(self, layer: int) -> tuple[int, int]:
        return count_walks(self.layers[layer], self.passing.successor_indices)

    def close(self) -> None:
        return
