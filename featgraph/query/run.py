"""One statement in, one `Result` out: the gate, the binding of parameters, the time limit, the errors.

The connection is locked down by `store.connect`; the gate here refuses early, and with a hint, what DuckDB
would refuse late, and the few statements it would let pass. Values are bound, never pasted.
"""

import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb

from featgraph.errors import FeatgraphError, QueryError, StoreError, UsageError, nearest
from featgraph.query.result import Result
from featgraph.store import Store

Answer = TypeVar("Answer")

TIMEOUT = 60.0
"""Seconds after which a statement is stopped, unless the caller says otherwise."""

_READ_ONLY = "a query only reads: write one SELECT (or FROM, WITH, VALUES, DESCRIBE, EXPLAIN)"

_BLANK = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_EXPLAIN = rf"(?is){_BLANK}explain\b{_BLANK}(?:analyze\b|\([^)]*\))?"


def literal(text: str) -> object:
    """Return the value that a parameter given as text stands for; quoted text stays text.

    >>> [literal(text) for text in ("0.5", "12", "true", "null", "12/res/3", "'12'")]
    [0.5, 12, True, None, '12/res/3', '12']
    """
    words: dict[str, object] = {"null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def run(
    store: Store,
    statement: str,
    parameters: Mapping[str, object] | None = None,
    *,
    timeout: float | None = TIMEOUT,
) -> Result:
    """Run one read-only statement; `$name` in it is bound to `parameters[name]`.

    A number is bound as the literal would be read, so that `cosine >= $min` holds at equality.
    timeout: seconds, None for no limit.

    Raises QueryError: not exactly one query, refused by DuckDB, or stopped. UsageError: a parameter is
    missing or unknown. StoreError: the database cannot be read. KeyboardInterrupt: the user stopped it.
    """
    connection = store.connection
    prepared = _gate(connection, statement)
    bound = _bind(prepared.named_parameters, parameters or {}, statement)

    def fetch() -> Result:
        connection.execute(prepared, bound)
        columns = connection.description or []
        names = _distinct([str(column[0]) for column in columns])
        return Result(names, connection.fetchall(), [str(column[1]) for column in columns])

    with _errors(statement):
        return _in_time(connection, fetch, timeout)


def _gate(connection: duckdb.DuckDBPyConnection, statement: str) -> duckdb.Statement:
    """Return the one statement in the text if it can only read."""
    found = _statements(connection, statement)
    if not found:
        raise QueryError("the statement is empty; write a SELECT, such as `select key from feature limit 5`")
    if len(found) > 1:
        second = len(found[0].query)
        raise QueryError(
            f"{len(found)} statements where one is expected; run them one by one", statement, second
        )
    kind = _kind(found[0], statement)
    if kind == "EXPLAIN":
        _gate_explained(connection, statement)
    elif kind != "SELECT":
        raise QueryError(f"{_article(kind)} statement is refused; {_READ_ONLY}", statement, _start(statement))
    return found[0]


def _gate_explained(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Refuse EXPLAIN ANALYZE of anything but a query, because it runs what it explains."""
    opening = re.match(_EXPLAIN, statement)
    inner = statement[opening.end() :] if opening else ""
    if [_kind(found, statement) for found in _statements(connection, inner)] != ["SELECT"]:
        raise QueryError(f"only a query can be explained; {_READ_ONLY}", statement, _start(statement))


def _statements(connection: duckdb.DuckDBPyConnection, text: str) -> list[duckdb.Statement]:
    with _errors(text):
        return connection.extract_statements(text)


def _kind(statement: duckdb.Statement, text: str) -> str:
    try:
        return str(statement.type.name)
    except ValueError as error:  # a kind that the Python client has no name for
        raise QueryError(f"not a query; {_READ_ONLY}", text, _start(text)) from error


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _start(statement: str) -> int:
    return len(statement) - len(statement.lstrip())


def _bind(wanted: set[str], given: Mapping[str, object], statement: str) -> dict[str, object]:
    """Return the values to bind; every name must be both wanted and given."""
    for name in sorted(wanted):
        if name.isdigit():
            raise QueryError("a parameter needs a name; write $name, not ? or $1", statement)
    for name in given:
        if name not in wanted:
            known = f"; it has {_listed(wanted)}" if wanted else "; it has none"
            raise UsageError(f"the statement has no parameter ${name}{nearest(name, wanted) or known}")
    missing = [name for name in sorted(wanted) if name not in given]
    if missing:
        raise UsageError(f"no value for {_listed(missing)}; give one with -p {missing[0]}=VALUE")
    return {name: _bindable(value) for name, value in given.items()}


def _listed(names: Sequence[str] | set[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names))


def _bindable(value: object) -> object:
    """Return a float as the decimal it prints as: it then compares with FLOAT columns as a literal does."""
    if isinstance(value, float) and math.isfinite(value) and (value == 0 or 1e-15 < abs(value) < 1e15):
        from decimal import Decimal

        return Decimal(repr(value))
    if isinstance(value, tuple):  # FeatureKey
        return str(value)
    return value


def _in_time(
    connection: duckdb.DuckDBPyConnection, work: Callable[[], Answer], seconds: float | None
) -> Answer:
    """Return what `work` returns; stop it after some seconds, or when the user interrupts.

    The work runs in a thread of its own: DuckDB would look for Ctrl-C only between its tasks.
    """
    answers: list[Answer] = []
    faults: list[BaseException] = []

    def attempt() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            faults.append(error)
        finally:
            done.set()

    done = threading.Event()
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    try:
        in_time = done.wait(seconds)
    finally:
        while not done.wait(0):
            connection.interrupt()
            done.wait(0.05)
        thread.join()
    if not in_time:
        raise QueryError(
            f"the statement ran longer than {seconds:g} s and was stopped; "
            "narrow it (one layer, a higher threshold, a limit) or allow more with --timeout"
        )
    if faults:
        raise faults[0]
    return answers[0]


@contextmanager
def _errors(statement: str) -> Iterator[None]:
    """Turn DuckDB's errors into ours, with the place in the user's text."""
    try:
        yield
    except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
        raise StoreError(f"cannot read the graph: {_sentence(_details(error)[0])}") from error
    except duckdb.Error as error:
        raise _query_error(error, statement) from error


def _query_error(error: duckdb.Error, statement: str) -> FeatgraphError:
    message, details = _details(error)
    sentence = _sentence(message)
    if isinstance(error, duckdb.PermissionException) or "read-only mode" in sentence:
        sentence += "; a query only reads the graph, and -o FILE puts its answer in a file"
    return QueryError(sentence, statement, _position(details, statement))


def _details(error: duckdb.Error) -> tuple[str, dict[str, Any]]:
    """Return the message and the fields of an error that DuckDB wrote as JSON after its kind."""
    text = str(error)
    try:
        details: dict[str, Any] = json.loads(text[text.index("{") :])
        return str(details["exception_message"]), details
    except (ValueError, KeyError):
        return text, {}


def _sentence(message: str) -> str:
    """Return DuckDB's lines as one clause in our style."""
    lines = [line.strip().rstrip("!.") for line in message.splitlines() if line.strip()]
    joined = (
        "; ".join(lines).replace(":; ", ": ").replace("Did you", "did you").replace("Candidate", "candidate")
    )
    return joined[:1].lower() + joined[1:]


def _position(details: Mapping[str, Any], statement: str) -> int | None:
    """Return the offset in characters of the fault; DuckDB counts bytes, or points into a verb's own text."""
    try:
        start, length = json.loads(details["location"])
    except (KeyError, ValueError):
        return None
    encoded = statement.encode()
    if start + length > len(encoded):
        return None
    named = str(details.get("name", "")).split(".")[-1]
    at = encoded[start : start + length].decode(errors="replace")
    if named and named.lower() not in at.lower():
        return None
    return len(encoded[:start].decode(errors="replace"))


def _distinct(names: list[str]) -> list[str]:
    """Return column names with `_1`, `_2` added to repeated ones, as DuckDB does when it makes a table.

    >>> _distinct(["id", "id", "key"])
    ['id', 'id_1', 'key']
    """
    seen: set[str] = set()
    distinct = []
    for name in names:
        candidate, number = name, 0
        while candidate in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate)
        distinct.append(candidate)
    return distinct
