"""DuckDB's errors as featgraph's: one sentence, with its place in the text that the user wrote."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from featgraph.core.limits import OutOfMemory
from featgraph.errors import FeatgraphError, QueryError, StoreError, nearest
from featgraph.query.language.source_map import SourceMap
from featgraph.query.language.walks import TOO_MANY
from featgraph.query.verbs import VERBS
from featgraph.store.store import too_large

TABLES = ("sae", "threshold", "feature", "edge", "pair", "example", "label", "meta")


class TooManyRows(Exception):
    """The answer has more rows than allowed."""


class UnfitValue(Exception):
    """A value of the answer has no Python type."""


@dataclass(frozen=True)
class StatementRun:
    """A statement and what runs in its place."""

    text: str
    sql: str
    source_map: SourceMap
    max_rows: int | None
    memory: int
    """Bytes that it may take."""


def too_long(seconds: float | str | None) -> str:
    """Return the sentence that says that a statement ran beyond its time."""
    shown = f"{seconds:g} s" if isinstance(seconds, float | int) else seconds
    return (
        f"the statement ran longer than {shown} and was stopped; narrow it (one layer, a higher threshold, a "
        "limit) or allow more with --timeout"
    )


@contextmanager
def duckdb_errors(asked: StatementRun) -> Iterator[None]:
    """Turn DuckDB's errors into featgraph's, which say what to change."""
    try:
        yield
    except TooManyRows as error:
        message = (
            f"the answer has more than {asked.max_rows:,} rows; narrow it, add a LIMIT, or allow more "
            "with --max-rows"
        )
        raise QueryError(message, asked.text, 0, draw=False) from error
    except UnfitValue as error:
        message = f"Python cannot hold a value of the answer ({error.__cause__}); cast it to text"
        raise QueryError(message, asked.text, 0, draw=False) from error
    except TimeoutError as error:
        raise QueryError(too_long(str(error)), asked.text, 0, draw=False) from error
    except (OutOfMemory, MemoryError, duckdb.OutOfMemoryException) as error:
        raise QueryError(too_large(asked.memory), asked.text, 0, draw=False) from error
    except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
        raise StoreError(f"cannot read the graph: {_clause(_details(error)[0])}") from error
    except duckdb.Error as error:
        raise _query_error(error, asked) from error


def _query_error(error: duckdb.Error, asked: StatementRun) -> FeatgraphError:
    message, details = _details(error)
    sentence = _sentence(message, details, asked) or _clause(message)
    if TOO_MANY in message and asked.max_rows is not None:
        sentence = (
            f"the pattern follows more than {asked.max_rows:,} paths; narrow it (a higher threshold, fewer "
            "steps, ANY or BEST before it), or allow more with --max-rows"
        )
    if isinstance(error, duckdb.PermissionException) or "read-only mode" in sentence:
        sentence += "; a query only reads the graph, and -o FILE puts its answer in a file"
    place = _place(message, details, asked)
    if place is None:
        return QueryError(sentence, asked.text, 0, draw=False)
    return QueryError(sentence, asked.text, *place)


def _details(error: duckdb.Error) -> tuple[str, dict[str, Any]]:
    """Return the message and the fields of an error that DuckDB wrote as JSON after its kind."""
    text = str(error)
    try:
        details: dict[str, Any] = json.loads(text[text.index("{") :])
        return str(details["exception_message"]), details
    except (ValueError, KeyError):
        return text, {}


def _clause(message: str) -> str:
    """Return DuckDB's lines as one clause in our style."""
    lines = [line.strip().rstrip("!.") for line in message.splitlines() if line.strip()]
    joined = (
        "; ".join(lines).replace(":; ", ": ").replace("Did you", "did you").replace("Candidate", "candidate")
    )
    return joined if joined[:2].isupper() else joined[:1].lower() + joined[1:]


def _sentence(message: str, details: Mapping[str, Any], asked: StatementRun) -> str | None:
    """Return a sentence for the most common errors: names that do not exist."""
    name = str(details.get("name", ""))
    kind = details.get("type")
    if kind == "Table":
        return f"no table {name!r}{_like(name, [*TABLES, *VERBS], 'tables are ' + ', '.join(TABLES))}"
    if kind == "Table Function":
        if name in VERBS:
            return f"{name} stands where a table may: write it right after FROM, JOIN or a comma"
        return f"no verb {name!r}{_like(name, VERBS, 'verbs are ' + ', '.join(VERBS))}"
    if kind == "Scalar Function":
        if name in VERBS:
            return f"{name} is a verb: it stands where a table may, as in FROM {name}(...)"
        candidates = str(details.get("candidates", "")).split(",")
        return f"no function {name!r}{_like(name, candidates)}"
    quoted = re.findall(r'"([^"]*)"', message)
    if "pytz" in message:
        return "Python cannot hold a time with a zone; cast it to text"
    is_known = name and details.get("error_subtype") == "COLUMN_NOT_FOUND"
    if is_known or ("does not have a column named" in message and len(quoted) > 1):
        wanted = name or quoted[1]
        candidates = [column for column in quoted if column != wanted and "#" not in column]
        is_pattern = re.search(r"\bmatch\b", asked.text, re.IGNORECASE) is not None
        hint = "in a pattern write variable.property, such as a.key" if is_pattern else ""
        return f"no column {wanted!r} here{_like(wanted, candidates, hint)}"
    if message.startswith("Referenced table") and quoted:
        return f"no table or alias {quoted[0]!r} here{_like(quoted[0], quoted[1:])}"
    if "must appear in the GROUP BY clause" in message:
        return (
            "a column here is neither grouped nor aggregated; add GROUP BY ALL, or any_value(...) around it"
        )
    return None


def _like(name: str, known: Iterable[str], otherwise: str = "") -> str:
    return nearest(name, known) or (f"; {otherwise}" if otherwise else "")


def _place(message: str, details: Mapping[str, Any], asked: StatementRun) -> tuple[int, int] | None:
    """Return the offset and the length of the error in the user's text.

    DuckDB counts bytes, and inside a verb it counts in the macro's own text: an offset is used only if the
    text there is what the message is about.
    """
    try:
        start, length = json.loads(details["location"])
    except (KeyError, ValueError):
        return None
    encoded = asked.sql.encode()
    if length == 0 or start + length > len(encoded):
        return None
    at = encoded[start : start + length].decode(errors="replace")
    about = str(details.get("name") or next(iter(re.findall(r'"([^"]*)"', message)), "")).split(".")[-1]
    if about and about.lower() not in at.lower():
        return None
    first, last = (len(encoded[:end].decode(errors="replace")) for end in (start, start + length))
    place, length = asked.source_map.span(first, last)
    return min(place, len(asked.text)), length
