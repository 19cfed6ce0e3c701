"""Files and texts from anywhere, read with bounds: how many bytes, how deeply nested, and only from files.

A file that goes on for ever (a device, a pipe) is refused before it is read, one that is too large is not
held in memory, and one that is nested deeper than Python's parsers go is an error like any other.
"""

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20
"""Most bytes of a file read as a whole; manifests, recipes, configurations and statements are far smaller."""

DEEPEST = 100
"""Most levels of nested lists and tables."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file.

    Raises OSError: it cannot be read. ValueError: it is not a regular file, or has more than `most` bytes.
    """
    with path.open("rb") as file:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most / 2**20:g} MB")
    return content


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return the content of a file as text in UTF-8, without a byte order mark.

    Raises OSError: it cannot be read. ValueError: as `read_bytes`, or it is not UTF-8.
    """
    return read_bytes(path, most).decode("utf-8-sig")


def json_value(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises ValueError: it is not JSON, or nested deeper than `DEEPEST`.
    """
    try:
        return _shallow(json.loads(text))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from error


def toml_value(text: str) -> dict[str, Any]:
    """Return the value of a TOML text.

    Raises ValueError: it is not TOML, or nested deeper than `DEEPEST`.
    """
    try:
        value: dict[str, Any] = _shallow(tomllib.loads(text))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from error
    return value


def _shallow(value: Any) -> Any:
    """Return a value; raise ValueError if it is nested deeper than `DEEPEST`."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        inner = (
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        )
        level, depth = [item for items in inner for item in items], depth + 1
    return value
