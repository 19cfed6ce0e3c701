"""One statement in, one `Result` out: the gate, the binding of parameters, the time limit, the errors.

The connection is locked down by `store.connect`; the gate here refuses early, and with a hint, what DuckDB
would refuse late, and the few statements it would let pass. Values are bound, never pasted.
"""

import math
from collections.abc import Mapping
from numbers import Integral, Real

import duckdb

from featgraph.core.limits import OutOfMemory, in_limits, resident
from featgraph.core.result import MAX_ROWS, TIMEOUT, Result
from featgraph.errors import QueryError, UsageError, nearest
from featgraph.query.errors import StatementRun, TooManyRows, UnfitValue, duckdb_errors, too_long
from featgraph.query.language.expressions import NAMELESS
from featgraph.query.language.tokens import tokenize
from featgraph.query.language.translate import Translation, translate
from featgraph.query.verbs import VERBS, check, check_values, compute, from_memory
from featgraph.store import Store
from featgraph.store.store import too_large

_READ_ONLY = "a query only reads: write one SELECT (or MATCH, FROM, WITH, VALUES, DESCRIBE, EXPLAIN)"

_FIRST_BATCH, _LARGEST_BATCH = 64, 65_536
"""Rows that are fetched at once; each may be large, so the memory is looked at after the first few."""

_MOST = 2**31
"""A limit of rows from here on is none."""


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
    max_rows: int | None = MAX_ROWS,
) -> Result:
    """Run one read-only statement; `$name` in it is bound to `parameters[name]`.

    A number is bound as the literal would be read, so that `cosine >= $min` holds at equality.
    timeout: seconds, None for no limit. max_rows: most rows of the answer, and most paths of one repeated
    edge, None for no limit.

    Raises QueryError: not exactly one query, malformed, refused by DuckDB, too large, or stopped. UsageError:
    a parameter that the statement does not have. StoreError: the database cannot be read. KeyboardInterrupt:
    the user stopped it.
    """
    values = dict(parameters or {})
    if max_rows is not None and max_rows >= _MOST:
        max_rows = None
    translation = translate(store, statement, values, max_rows)
    if translation.whole is not None:
        answer = from_memory(store, translation.whole.verb.name, translation.whole.values)
        if answer is not None and (max_rows is None or len(answer) <= max_rows):
            return answer
    return _run_translated(store, statement, translation, values, timeout=timeout, max_rows=max_rows)


def run_verb(
    store: Store, verb: str, arguments: Mapping[str, object], *, timeout: float | None = TIMEOUT
) -> Result:
    """Run one verb with arguments by name; those left out take the macro's default.

    Raises UsageError: no such verb, argument or feature, or a value that an argument cannot have. QueryError:
    it took longer than `timeout`.
    """
    if verb not in VERBS:
        raise UsageError(f"no verb {verb!r}{nearest(verb, VERBS)}; verbs are {', '.join(VERBS)}")
    chosen = VERBS[verb]
    for name in arguments:
        if name not in chosen.arguments:
            raise UsageError(f"{verb} takes no {name!r}{nearest(name, chosen.arguments)}")
    missing = [name for name in chosen.required if name not in arguments]
    if missing:
        how = "layer/site/index" if chosen.arguments[missing[0]] == "key" else f"{verb}('...')"
        raise UsageError(f"{verb} needs {missing[0]}; write {how}")
    given = [name for name in chosen.arguments if name in arguments]
    by = arguments.get("by", "cosine")
    values = {name: check(chosen, name, arguments[name], store, by) for name in given}
    check_values(values, store)
    answer = from_memory(store, verb, values)
    if answer is not None:
        return answer
    if chosen.computed:
        return compute(store, verb, values)
    passed = [f"${name}" if name in chosen.required else f"{name} := ${name}" for name in values]
    statement = f"from {verb}({', '.join(passed)})"
    translation = translate(store, statement, values, None)
    return _run_translated(store, statement, translation, values, timeout=timeout, max_rows=None)


def explain(
    store: Store,
    statement: str,
    parameters: Mapping[str, object] | None = None,
    *,
    max_rows: int | None = MAX_ROWS,
) -> str:
    """Return the SQL that `run` would run.

    Raises QueryError: the statement is malformed. UsageError: a parameter that the statement does not have.
    """
    values = dict(parameters or {})
    translation = translate(store, statement, values, max_rows)
    return translation.sql


def _run_translated(
    store: Store,
    statement: str,
    translation: Translation,
    values: Mapping[str, object],
    *,
    timeout: float | None,
    max_rows: int | None,
) -> Result:
    if translation.shows_sql:
        return Result.of({"sql": "VARCHAR"}, [(translation.sql,)])
    asked = StatementRun(statement, translation.sql, translation.source_map, max_rows, store.memory)
    with duckdb_errors(asked), store.cursor() as cursor:

        def work() -> Result:
            prepared = _gate(cursor, translation, statement)
            given = dict(values)
            for call in translation.calls:
                given |= call.parameters(store, statement)
            return _fetch(cursor, prepared, _bound(prepared, given, statement), max_rows, store.memory)

        said = {"too_long": too_long(timeout), "too_large": too_large(store.memory)}
        return in_limits(cursor, work, timeout, store.memory, **said)


def _bound(prepared: duckdb.Statement, values: Mapping[str, object], statement: str) -> dict[str, object]:
    unread = sorted(set(prepared.named_parameters) - set(values))
    if unread:  # written so oddly that DuckDB reads another name than we do
        raise QueryError(f"no value for {unread[0]!r}; {NAMELESS}", statement, 0, draw=False)
    return {name: _bindable(values[name]) for name in prepared.named_parameters}


def _fetch(
    cursor: duckdb.DuckDBPyConnection,
    prepared: duckdb.Statement,
    bound: Mapping[str, object],
    max_rows: int | None,
    memory: int,
) -> Result:
    """Run a statement and return its rows.

    Raises TooManyRows: there are more than may be. OutOfMemory: they take more bytes than `memory`.
    UnfitValue: Python has no value for one of them.
    """
    cursor.execute(prepared, dict(bound))
    columns = cursor.description or []
    names = _distinct([str(column[0]) for column in columns])
    rows: list[tuple[object, ...]] = []
    before, batch = resident(), _FIRST_BATCH
    most = float("inf") if max_rows is None else max_rows + 1
    try:
        while len(rows) < most and (some := cursor.fetchmany(int(min(batch, most - len(rows))))):
            rows += some
            batch = min(4 * batch, _LARGEST_BATCH)
            if resident() - before > memory:
                raise OutOfMemory
    except (OverflowError, ValueError) as error:
        raise UnfitValue from error
    if max_rows is not None and len(rows) > max_rows:
        raise TooManyRows
    return Result(names, rows, [str(column[1]) for column in columns])


def _gate(
    connection: duckdb.DuckDBPyConnection, translation: Translation, statement: str
) -> duckdb.Statement:
    """Return the one statement in the SQL if it can only read."""
    parsed = connection.extract_statements(translation.sql)
    if len(parsed) != 1:
        raise QueryError(f"{len(parsed)} statements where one is expected", statement, 0, draw=False)
    kind = _kind(parsed[0], statement)
    if kind == "EXPLAIN":  # it may run what it explains
        kinds = [_kind(inner, statement) for inner in connection.extract_statements(translation.explained)]
        kind = "SELECT" if kinds == ["SELECT"] else kinds[0] if kinds else kind
    if kind != "SELECT":
        raise _refusal(kind, statement)
    return parsed[0]


def _refusal(kind: str, statement: str) -> QueryError:
    """Return the error for a statement that does more than read, named by its own first word."""
    first = next(token for token in tokenize(statement) if not token.is_symbol(";"))
    word = kind if first.is_word("with", "explain", "from") else first.text.upper()
    article = "an" if word[0] in "AEIOU" else "a"
    hint = _READ_ONLY
    if word == "PIVOT":
        hint = "name the values, as in FROM (PIVOT ... ON ... IN (...) USING ...)"
    message = f"{article} {word} statement is refused; {hint}"
    return QueryError(message, statement, first.start, len(first.text))


def _kind(parsed: duckdb.Statement, statement: str) -> str:
    try:
        return str(parsed.type.name)
    except ValueError as error:  # a kind that the Python client has no name for
        raise _refusal("UNKNOWN", statement) from error


def _bindable(value: object) -> object:
    """Return a float as the decimal it prints as: it then compares with FLOAT columns as a literal does."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)  # also numpy's, which DuckDB does not take
    if isinstance(value, Real) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, float) and math.isfinite(value) and (value == 0 or 1e-15 < abs(value) < 1e15):
        from decimal import Decimal

        return Decimal(repr(value))
    if isinstance(value, tuple):  # FeatureKey
        return str(value)
    return value


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
