"""The files of a build directory by which steps pass on results; each is written whole or not at all."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from featgraph.core.files import atomic_file

Arrays = dict[str, NDArray[Any]]


class StepFiles:
    """The files of one build directory; names are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def arriving(self, name: str) -> Iterator[Path]:
        """Yield where to write; the file has its name only once it is complete and on the disk."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target, fsync=True) as partial:
            yield partial

    def save_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as one .npz file."""
        with self.arriving(name) as path, path.open("wb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]

    def arrays(self, name: str) -> Arrays:
        """Return the named arrays of a .npz file."""
        with np.load(self.root / name) as arrays:
            return dict(arrays)

    def save_matrix(self, name: str, matrix: NDArray[Any]) -> None:
        """Write one array as an .npy file."""
        with self.arriving(name) as path, path.open("wb") as handle:
            np.save(handle, matrix)

    def matrix(self, name: str) -> NDArray[Any]:
        """Return one array, mapped from its .npy file."""
        matrix: NDArray[Any] = np.load(self.root / name, mmap_mode="r")
        return matrix

    def save_json(self, name: str, values: Mapping[str, object]) -> None:
        """Write named values as JSON."""
        with self.arriving(name) as path:
            path.write_text(json.dumps(values), encoding="utf-8")

    def json(self, name: str) -> dict[str, Any]:
        """Return the values of a JSON file."""
        values: dict[str, Any] = json.loads((self.root / name).read_text(encoding="utf-8"))
        return values

    def save_rows(self, name: str, rows: pa.Table) -> None:
        """Write rows as Parquet."""
        with self.arriving(name) as path:
            pyarrow.parquet.write_table(rows, path, compression="zstd")
