"""The tables of one TOML file, checked: every complaint names the file, the line where it can, and the key.

`reader.py` says which keys a recipe has and which go together.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featgraph.core.bounded import read_text, toml_value
from featgraph.core.files import os_reason
from featgraph.errors import RecipeError, nearest

Kinds = Mapping[str, type | tuple[type, ...]]
"""Key of a table -> allowed type or types of its value."""

_NAMES: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def shortened(number: int) -> str:
    """Return a number for a message; a very long one as its number of digits.

    >>> shortened(10**12), shortened(10**30)
    ('1,000,000,000,000', 'a number of 31 digits')
    """
    digits = str(number)
    return f"{number:,}" if len(digits) < 20 else f"a number of {len(digits)} digits"


class RecipeFile:
    """The content of one recipe file, with the line of each key."""

    def __init__(self, path: Path) -> None:
        """Raise RecipeError: the file cannot be read, or is not TOML."""
        self.path = path
        try:
            self.text = read_text(path)
        except (OSError, ValueError) as error:
            raise RecipeError(f"cannot read recipe {path}: {os_reason(error)}") from error
        try:
            self.raw = toml_value(self.text)
        except ValueError as error:
            message = str(error)
            if "escape" in message or "hex" in message.lower():
                message += "; write a path with \\ in single quotes: path = 'C:\\data'"
            place = re.search(r"line (\d+)", message)
            line = int(place[1]) if place else len(self.text.splitlines())
            raise RecipeError(f"{path}:{line}: not valid TOML: {message[:1].lower()}{message[1:]}") from error

    def check(self, raw: Mapping[str, Any], where: str, keys: Kinds, *, required: tuple[str, ...]) -> None:
        """Raise RecipeError: `raw`, the table at `where`, has an unknown key, a wrong value, or a missing
        key."""
        prefix = f"{where}." if where else ""
        for key, value in raw.items():
            if key not in keys:
                hint = nearest(key, keys)
                known = "" if hint else f"; known keys: {', '.join(keys)}"
                raise self.error(prefix + key, f"unknown key {prefix + key!r}{hint}{known}")
            self.kind(prefix + key, value, keys[key])
        for key in required:
            if key not in raw:
                raise self.error(where, f"missing key {prefix + key!r}")

    def kind(self, key: str, value: Any, wanted: type | tuple[type, ...]) -> None:
        """Raise RecipeError: a value is of another type; true and false are not numbers."""
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            names = " or ".join(_NAMES[one] for one in kinds)
            raise self.error(key, f"{key!r} must be {names}, not {value!r}")

    def at_least(self, raw: Mapping[str, Any], where: str, least: int, *keys: str) -> None:
        """Raise RecipeError: one of these numbers is given and smaller than `least`."""
        for key in keys:
            if key in raw and raw[key] < least:
                name = f"{where}.{key}" if where else key
                raise self.error(name, f"{name!r} must be at least {least}, not {raw[key]}")

    def at_most(self, raw: Mapping[str, Any], where: str, **most: int) -> None:
        """Raise RecipeError: one of these numbers is given and larger than its limit."""
        for key, limit in most.items():
            if key in raw and raw[key] > limit:
                name = f"{where}.{key}" if where else key
                raise self.error(name, f"{name!r} must be at most {limit:,}, not {shortened(raw[key])}")

    def error(self, key: str, message: str) -> RecipeError:
        """Return the error about a key, with file and line in front."""
        return RecipeError(f"{self.path}:{self.line(key)}: {message}")

    def line(self, key: str) -> int:
        """Return the line of a dotted key or table header, else of the nearest enclosing table, else 1."""
        table, _, last = key.rpartition(".")
        header, inside = "", 1
        for number, line in enumerate(self.text.splitlines(), 1):
            if opened := re.match(r"\s*\[([^\[\]]+)\]", line):
                header = opened[1].strip()
                if header == key:
                    return number
                inside = number if header == table else inside
            elif header == table and re.match(rf"\s*[\"']?{re.escape(last)}[\"']?\s*=", line):
                return number
        return inside
