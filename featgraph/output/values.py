"""One value at a time, as JSON and CSV write it."""

import json
import math
import struct
from collections.abc import Iterator
from decimal import Decimal

from featgraph.core.result import Result

_LARGEST_SINGLE = 3.4e38


def types(result: Result) -> list[str]:
    """Return DuckDB's type of each column, or empty text where it is not known."""
    return result.types or [""] * len(result.columns)


def json_rows(result: Result) -> Iterator[dict[str, object]]:
    """Yield each row as an object of JSON values."""
    singles = ["FLOAT" in kind and "DOUBLE" not in kind for kind in types(result)]
    for row in result.rows:
        values = (_json_value(value, single) for value, single in zip(row, singles, strict=True))
        yield dict(zip(result.columns, values, strict=True))


def _json_value(value: object, single: bool) -> object:
    """Return a value as JSON can hold it; `single` = floats came from 32 bits."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _shortest(value, single) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (list, tuple)):
        return [_json_value(item, single) for item in value]
    if isinstance(value, dict):
        return {str(name): _json_value(item, single) for name, item in value.items()}
    return str(value)


def _shortest(value: float, single: bool) -> float:
    """Return the float that prints shortest among those that are the same in 32 bits.

    >>> _shortest(0.800000011920929, True)
    0.8
    """
    for digits in (6, 7, 8) if single else ():
        candidate = float(f"{value:.{digits}g}")
        if abs(candidate) < _LARGEST_SINGLE and struct.pack("f", candidate) == struct.pack("f", value):
            return candidate
    return value


def csv_cell(value: object) -> object:
    """Return lists, structs and booleans as JSON text; NULL becomes an empty cell."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict, bool)) else value
