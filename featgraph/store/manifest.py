"""The manifest of a graph, as read: its parts of the right kinds; what it lacks is named when asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featgraph.errors import StoreError

_LARGEST = 2**31 - 1
"""Of whole numbers that are counts or widths."""

Kind = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _stem(value: Any) -> bool:
    """Say whether a value can be the name of a file without its ending: it leads to no other folder."""
    return isinstance(value, str) and not set(value) & set("/\\\0") and value.strip(".") == value != ""


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _or_null(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_KINDS: Mapping[str, Kind] = {
    "format_version": _number,
    "recipe": _table,
    "chosen": _table,
    "model": _table,
    "saes": _tables,
    "text": _or_null(_table),
    "settings": _table,
    "versions": _table,
    "vectors": _texts,
    "labels": _tables,
    "ablations": _tables,
    "steps": _tables,
}
"""Of each part of a manifest. Other parts are nobody's business."""

_INSIDE: Mapping[str, Mapping[str, Kind]] = {
    "recipe": {"name": _stem},
    "model": {
        "name": _text,
        "d_model": _number,
        "n_layers": _number,
        "model_type": _text,
        "sha256": _text,
        "parallel_residual": lambda value: isinstance(value, bool),
    },
    "saes": {
        "layer": _number,
        "site": _text,
        "release": _or_null(_text),
        "sae_id": _or_null(_text),
        "hook_name": _or_null(_text),
        "sha256": _text,
    },
    "text": {"n_tokens": _number, "n_pieces": _number, "sha256": _text},
    "labels": {"source": _text, "from": _text, "n": _number},
}
"""Of what stands in some of them."""


class Manifest(dict[str, Any]):
    """A table of a manifest; what it lacks is an error of the graph, not of the program."""

    def __init__(self, values: Mapping[str, Any], file: Path, place: str = "") -> None:
        super().__init__()
        self.file, self.place = file, place
        for name, value in values.items():
            self[name] = _wrapped(value, file, f"{place}{name}.")

    def __missing__(self, name: str) -> Any:
        raise StoreError(f"{self.file} has no {self.place + name!r}; build the graph again")


def checked(raw: Any, file: Path) -> Manifest:
    """Return a manifest whose parts are of the kinds that they should be.

    Raises ValueError: one is not, or there is no format version.
    """
    if not isinstance(raw, dict):
        raise ValueError("it is no table")
    if "format_version" not in raw:
        raise ValueError("'format_version'")
    _check(raw, _KINDS, "")
    for part, kinds in _INSIDE.items():
        found = raw.get(part)
        for number, table in enumerate(found if isinstance(found, list) else [found] if found else []):
            _check(table, kinds, f"{part}[{number}]." if isinstance(found, list) else f"{part}.")
    return Manifest(raw, file)


def _check(table: Mapping[str, Any], kinds: Mapping[str, Kind], place: str) -> None:
    for name, kind in kinds.items():
        if name in table and not kind(table[name]):
            raise ValueError(f"its {place + name} cannot be {str(table[name])[:40]!r}")


def _wrapped(value: Any, file: Path, place: str) -> Any:
    if isinstance(value, dict):
        return Manifest(value, file, place)
    return [_wrapped(item, file, place) for item in value] if isinstance(value, list) else value
