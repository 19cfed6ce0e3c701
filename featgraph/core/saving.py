"""Lets `SteeringVector.save` call `export`, a room above it: export registers its function here.

`import featgraph` imports `export`, so the function is there before anybody holds a vector.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Written:
    """The files of one export."""

    paths: tuple[Path, ...]
    approximations: tuple[str, ...] = ()
    """Approximations of the vector that the format required; the files record them too."""
    notes: tuple[str, ...] = ()
    """Parts left out, with the reason."""


class SaveVector(Protocol):
    """A function that saves a steering vector; `export` registers its own."""

    def __call__(
        self, vector: Any, path: str | Path, format: str | None = None, *, approximate: bool = False
    ) -> Written:
        """Write a steering vector in the given format, by default that of the file extension."""


_save: list[SaveVector] = []


def set_save_vector(function: SaveVector) -> None:
    """Register the function that saves steering vectors."""
    _save[:] = [function]


def save_vector() -> SaveVector:
    """Return the registered function that saves steering vectors."""
    return _save[0]
