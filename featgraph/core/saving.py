"""How `SteeringVector.save` reaches `export`, a room above its own: export leaves its function here.

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
    """What the files change, where the format cannot hold the vector; the files say so themselves too."""
    notes: tuple[str, ...] = ()
    """What was left out and why."""


class SaveVector(Protocol):
    """What `export` leaves here."""

    def __call__(
        self, vector: Any, path: str | Path, format: str | None = None, *, approximate: bool = False
    ) -> Written:
        """Write a steering vector in the format named, or in the one that the path ends in."""


_save: list[SaveVector] = []


def set_save_vector(function: SaveVector) -> None:
    """Leave the function that saves steering vectors."""
    _save[:] = [function]


def save_vector() -> SaveVector:
    """Return the function that saves steering vectors."""
    return _save[0]
