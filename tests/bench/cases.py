"""What the peers are asked on one graph: the same cases for all, chosen by DuckDB alone."""

import random
from pathlib import Path

import duckdb
from peers import PATH_LAYERS, read_layers
from peers.with_duckdb import ByHand

Arguments = tuple[int, ...]

MEMBERS = range(20, 161)
"""Sizes of lineages that are asked for: small enough to read, large enough to need searching."""
N_LINEAGES = 10
N_PATHS = 5
START_LAYER = 8
"""Where walks and best paths start."""


def cases(graph: Path) -> dict[str, list[Arguments]]:
    """Return the arguments of each question, per method of a peer."""
    by_hand = ByHand(graph, graph)
    layers = read_layers(graph)
    try:
        return {
            "lineage": _features(by_hand, layers[len(layers) // 2]),
            "splits": [()],
            "children": [()],
            "best_path": _pairs(by_hand.connection, layers),
            "walks": [(START_LAYER,)],
        }
    finally:
        by_hand.close()


def _features(by_hand: ByHand, layer: range) -> list[Arguments]:
    """Return the first features of a layer whose lineage has a size in MEMBERS."""
    found: list[Arguments] = []
    for feature in layer:
        if len(by_hand.lineage(feature)) in MEMBERS:
            found.append((feature,))
        if len(found) == N_LINEAGES:
            break
    return found


def _pairs(connection: duckdb.DuckDBPyConnection, layers: list[range]) -> list[Arguments]:
    """Return features of START_LAYER, each with a random one that lies PATH_LAYERS below it on some path."""
    found: list[Arguments] = []
    chance = random.Random(0)
    for feature in layers[START_LAYER]:
        reached = [feature]
        for _ in range(PATH_LAYERS):
            statement = "select distinct dst from edge where src in (select unnest($reached)) order by dst"
            reached = [row[0] for row in connection.execute(statement, {"reached": reached}).fetchall()]
        if reached:
            found.append((feature, chance.choice(reached)))
        if len(found) == N_PATHS:
            break
    return found
