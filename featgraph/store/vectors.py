"""The FAISS side: one index of unit decoder directions per SAE; ids are places within the SAE.

Inner product on unit vectors is cosine. Exact flat indexes: at these sizes approximation buys nothing.
"""

from pathlib import Path

import faiss
import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.errors import StoreError

_MAPPED = faiss.IO_FLAG_MMAP_IFC
"""Leaves the vectors of a flat index on disk until they are read, as IO_FLAG_MMAP does not."""


def save(path: Path, directions: Matrix) -> None:
    """Write unit directions (n_features, d_model) as a FAISS index."""
    index = faiss.IndexFlatIP(directions.shape[1])
    index.add(np.ascontiguousarray(directions, dtype=np.float32))
    with path.open("wb") as file:  # FAISS's own writer does not say when the disk is full
        file.write(faiss.serialize_index(index).data)


def load(path: Path) -> faiss.Index:
    """Read an index, on the GPU if this FAISS has one.

    Raises StoreError: the file is absent or not a FAISS index.
    """
    index = _read(path)
    if getattr(faiss, "get_num_gpus", int)() > 0:
        return faiss.index_cpu_to_all_gpus(index)
    return index


def count(path: Path) -> int:
    """Return how many directions an index holds, without reading them.

    Raises StoreError: the file is absent or not a FAISS index.
    """
    return int(_read(path, _MAPPED).ntotal)


def directions(path: Path, ids: list[int] | None = None) -> Matrix:
    """Return the unit directions at `ids`, or all of them, as (n, d_model)."""
    index = _read(path, _MAPPED)
    if ids is None:
        every: Matrix = index.reconstruct_n(0, index.ntotal)
        return every
    return np.stack([index.reconstruct(place) for place in ids])


def search(path: Path, queries: Matrix, k: int) -> tuple[Matrix, Indices]:
    """Return the cosines and ids (n_queries, k) of the features nearest to each unit query row."""
    index = load(path)
    cosines, ids = index.search(np.ascontiguousarray(queries, dtype=np.float32), min(k, index.ntotal))
    return cosines, ids


def _read(path: Path, flags: int = 0) -> faiss.Index:
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        graph = path.parent.parent
        raise StoreError(
            f"cannot read {path}: not a FAISS index, or damaged; "
            f"build the graph again with `featgraph ingest RECIPE -o {graph}`"
        ) from error
