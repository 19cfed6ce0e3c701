"""A toy graph that a human can check: 3 layers, 4 features per SAE, all three sites.

Residual features are linked so that every event happens once:

    0/res/0 -> 1/res/0 -> 2/res/0     persists all the way (cosine 1)
    0/res/1 -> 1/res/1 and 1/res/2    splits (both children have it as best parent, cosine 0.8)
    1/res/1 and 1/res/2 -> 2/res/1    merge (cosine 0.8)
    0/res/2                           dies after layer 0
    1/res/3                           is born at layer 1, written by 1/mlp/0 (cosine 0.9)
    2/res/3                           is born at layer 2, unexplained
    0/res/3, 2/res/2                  dead: never fire

Edges are written out below, not computed, so that the file can be read against the queries.
"""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from featgraph import store
from featgraph.core.arrays import Matrix
from featgraph.core.keys import SaeRange
from featgraph.store import vectors
from helpers.new_graph import replacing

D_MODEL = 6
N_FEATURES = 4
N_TOKENS = 100
THRESHOLD_LOW, THRESHOLD_HIGH = 0.3, 0.5
DEAD = {"0/res/3", "2/res/2"}

EDGES: list[tuple[str, str, str, float]] = [
    ("0/res/0", "1/res/0", "res_res", 1.0),
    ("0/res/1", "1/res/1", "res_res", 0.8),
    ("0/res/1", "1/res/2", "res_res", 0.8),
    ("0/res/2", "1/res/3", "res_res", 0.4),
    ("0/res/0", "1/res/3", "res_res", 0.1),
    ("1/res/0", "2/res/0", "res_res", 1.0),
    ("1/res/1", "2/res/1", "res_res", 0.8),
    ("1/res/2", "2/res/1", "res_res", 0.8),
    ("1/res/3", "2/res/3", "res_res", 0.3),
    ("1/res/0", "2/res/1", "res_res", 0.6),
    ("1/mlp/0", "1/res/3", "mlp_res", 0.9),
    ("1/mlp/1", "1/res/0", "mlp_res", 0.3),
    ("1/mlp/2", "1/res/0", "mlp_res", 0.1),
    ("1/att/0", "1/res/1", "att_res", 0.4),
    ("2/att/3", "2/res/0", "att_res", 0.26),
    ("0/mlp/1", "0/res/0", "mlp_res", 0.7),
]
LABELS = {
    "0/res/0": "cat",
    "1/res/0": "cat, cats",
    "2/res/0": "cats promotes purr",
    "1/res/3": "sun",
    "1/mlp/0": "sun, sunny",
}


def saes() -> list[SaeRange]:
    places = [(layer, site) for layer in range(3) for site in ("att", "mlp", "res")]
    return [
        SaeRange(number, layer, site, number * N_FEATURES, N_FEATURES)  # type: ignore[arg-type]
        for number, (layer, site) in enumerate(places)
    ]


def ids() -> dict[str, int]:
    return {str(sae.key(idx)): sae.first_id + idx for sae in saes() for idx in range(N_FEATURES)}


def directions(sae: SaeRange) -> Matrix:
    """Unit rows that do not depend on anything but the SAE's place."""
    rows = np.random.default_rng(sae.number).normal(size=(N_FEATURES, D_MODEL)).astype(np.float32)
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def build_toy(path: Path) -> Path:
    """Write the toy as a graph directory at `path`, through the same store as a real build."""
    with replacing(path) as build:
        for sae in saes():
            vectors.save(store.vectors_file(build, sae), directions(sae))
        connection = store.create_database(build)
        fill(connection)
        store.finish_database(connection)
        manifest: dict[str, Any] = {
            "recipe": {"name": "toy"},
            "model": {"name": "toy", "model_type": "llama", "d_model": D_MODEL, "n_layers": 3},
            "saes": [{"sha256": f"sha of {sae.name}"} for sae in saes()],
        }
        store.write_manifest(build, manifest)
    return path


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    number = ids()
    for sae in saes():
        connection.execute(
            "insert into sae values "
            "(?, ?, ?, ?, ?, ?, 'toy', ?, 'jumprelu', ?, null, ?, "
            "2.0, 0, null, 0.9, 0.01, 8.0, null, null, null, ?, ?)",
            [
                sae.number,
                sae.layer,
                sae.site,
                sae.first_id,
                sae.n_features,
                f"model.layers.{sae.layer}",
                sae.name,
                D_MODEL,
                sum(key in DEAD for key in number if key.startswith(f"{sae.layer}/{sae.site}/")),
                THRESHOLD_LOW,
                THRESHOLD_HIGH,
            ],
        )
    best: dict[tuple[str, str], float] = {}
    for _, dst, kind, cosine in EDGES:
        best[dst, kind] = max(cosine, best.get((dst, kind), -1.0))
    for key, place in number.items():
        layer, site, idx = key.split("/")
        dead = key in DEAD
        scores = [
            best.get((key, f"{writer}_res")) if site == "res" else None for writer in ("res", "mlp", "att")
        ]
        connection.execute(
            "insert into feature values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null)",
            [
                place,
                key,
                int(layer),
                site,
                int(idx),
                0.0 if dead else 0.25,
                None if dead else 1.5,
                None if dead else 4.0,
                2.0,
                0.75,
                *scores,
                [] if dead else [f"token{idx}", f"other{idx}"],
                [f"next{idx}", f"then{idx}"],
            ],
        )
    for src, dst, kind, cosine in sorted(EDGES, key=lambda edge: (number[edge[0]], number[edge[1]])):
        connection.execute(
            "insert into edge values (?, ?, ?, ?, ?, ?, 10, 0.25, 0.5, 0.4, 0.6, 1.25, 0.5, 0.75, "
            "null, null, null, null, null, null, 'cosine')",
            [number[src], number[dst], kind, cosine, _rank(src, kind, 0, dst), _rank(dst, kind, 1, src)],
        )
    for named, text in LABELS.items():
        connection.execute("insert into label values (?, 'tokens', ?)", [number[named], text])
        connection.execute(
            "insert into example values (?, 1, 4.0, 1, ['a', ' b', ' c'], [0.0, 4.0, 1.0])", [number[named]]
        )
    for setting, value in {"n_tokens": str(N_TOKENS), "recipe": "toy", "model": "toy"}.items():
        connection.execute("insert into meta values (?, ?)", [setting, value])


def _rank(end: str, kind: str, side: int, other: str) -> int:
    """Place of an edge among those of one end: by cosine, ties by id of the other end."""
    number = ids()
    mine = [edge for edge in EDGES if edge[2] == kind and edge[side] == end]
    mine.sort(key=lambda edge: (-edge[3], number[edge[1] if side == 0 else edge[0]]))
    others = [edge[1] if side == 0 else edge[0] for edge in mine]
    return 1 + others.index(other)
