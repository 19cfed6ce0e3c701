"""The FAISS side: one index of unit decoder directions per SAE; ids are places within the SAE.

Inner product on unit vectors is cosine. Exact flat indexes: at these sizes approximation buys nothing.
"""

import os
import struct
from pathlib import Path

import faiss
import numpy as np

from featgraph.core.arrays import Indices, Matrix
from featgraph.errors import StoreError
from featgraph.store.layout import readable, rebuild_hint

_HEADER = struct.Struct("<4siqqq?iQ")
"""How a flat index begins: kind, width, vectors, two words without meaning, trained, metric, numbers.

Source: `write_index_header` and `IndexFlat` in faiss/impl/index_write.cpp; tests hold it against FAISS."""

_CHUNK = 4096
"""Directions whose lengths are taken at once."""

_LENGTH_ERROR = 1e-4
"""Of a squared length: many times what float32 rounds, far less than what a flipped bit does."""

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

    Raises StoreError: the file is absent or not a flat index of inner products.
    """
    index = _read(path)
    if getattr(faiss, "get_num_gpus", int)() > 0:
        return faiss.index_cpu_to_all_gpus(index)
    return index


def shape(path: Path) -> tuple[int, int]:
    """Return how many directions an index holds, and how wide they are, without handing the file to FAISS.

    Raises StoreError: the file is absent or not a flat index of inner products, whole.
    """
    with readable(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(_HEADER.size)
    if len(begin) < _HEADER.size:
        raise _damaged(path, "it is cut short")
    kind, d, n, _, _, is_trained, metric, n_numbers = _HEADER.unpack(begin)
    if kind != b"IxFI" or metric != faiss.METRIC_INNER_PRODUCT or is_trained != 1:
        raise _damaged(path, "it is no flat index of inner products")
    if d < 1 or n < 0 or n_numbers != n * d or size != _HEADER.size + 4 * n * d:
        raise _damaged(path, f"its {size:,} bytes are not those of {n:,} directions of {d:,} numbers")
    return int(n), int(d)


def check(path: Path, n_features: int, d_model: int) -> None:
    """Refuse an index that does not hold the directions of one SAE: so many, so wide, of length 1 or 0.

    Raises StoreError: it does not.
    """
    n, d = shape(path)
    if (n, d) != (n_features, d_model):
        raise _damaged(path, f"it holds {n:,} directions of {d:,} numbers, not {n_features:,} of {d_model:,}")
    rows = (
        np.memmap(path, dtype="<f4", mode="r", offset=_HEADER.size, shape=(n, d)) if n else np.zeros((0, d))
    )
    for first in range(0, n, _CHUNK):
        squares = np.square(rows[first : first + _CHUNK], dtype=np.float64).sum(axis=1)
        odd = np.flatnonzero(~((np.abs(squares - 1) < _LENGTH_ERROR) | (squares == 0)))
        if len(odd):
            length = float(np.sqrt(squares[odd[0]]))
            raise _damaged(path, f"direction {first + int(odd[0])} has length {length:.4g}, not 1")


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
    shape(path)
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise _damaged(path, "FAISS cannot read it") from error


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(f"cannot read {path}: {reason}; {rebuild_hint(path.parent.parent)}")
