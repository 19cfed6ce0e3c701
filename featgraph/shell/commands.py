"""The dot commands, and the running of inputs one by one: an error is printed, and the next input runs."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from featgraph import output, query
from featgraph.core.bounded import read_text
from featgraph.core.files import os_reason
from featgraph.core.result import Result
from featgraph.errors import FeatgraphError, QueryError, UsageError, nearest
from featgraph.output.format import format_of
from featgraph.shell.reading import Input, inputs
from featgraph.shell.session import Session, told

_TALK = """\
A statement ends with ; and may take several lines. Alt-Enter runs it without one.
Tab completes, Ctrl-R searches the history, Ctrl-C clears the line or stops a statement, Ctrl-D leaves."""


@dataclass(frozen=True)
class Command:
    """One dot command."""

    usage: str
    purpose: str
    run: Callable[[Session, str], None]


def run_all(session: Session, lines: Iterable[str], source: str = "") -> tuple[int, int]:
    """Run all that some lines hold; return how many inputs ran and how many failed.

    source: a name that errors begin with, followed by the line; none at the prompt.
    """
    n_run = n_failed = 0
    for given in inputs(lines):
        n_run += 1
        try:
            _check_is_text(given)
            if given.is_command:
                _run_command(session, given)
            else:
                session.ask(given.text)
        except FeatgraphError as error:
            n_failed += 1
            output.note(f"{source}:{given.line}: {told(error)}" if source else told(error))
        if session.is_over:
            break
    return n_run, n_failed


def _check_is_text(given: Input) -> None:
    """Refuse bytes that no decoding made text of; they came through as surrogates."""
    try:
        given.text.encode()
    except UnicodeEncodeError as error:
        raise QueryError("this is not text in UTF-8", given.text, error.start) from error


def _run_command(session: Session, given: Input) -> None:
    name, *rest = given.text.split(maxsplit=1)
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS) or ";"
        raise UsageError(f"no command {name!r}{hint} `.help` lists all")
    COMMANDS[name].run(session, "".join(rest))


def _help(session: Session, rest: str) -> None:
    listed = dict.fromkeys(COMMANDS.values())
    width = max(len(command.usage) for command in listed)
    lines = [f"{command.usage:{width}}  {command.purpose}" for command in listed]
    output.write_text("\n".join([*lines, "", _TALK]))


def _schema(session: Session, table: str) -> None:
    from featgraph.shell.schema import columns, tables

    session.answer(columns(session.store, table) if table else tables(session.store))


def _explain(session: Session, statement: str) -> None:
    if not statement:
        raise UsageError("nothing to explain; write .explain STATEMENT")
    session.explain(statement)


def _format(session: Session, name: str) -> None:
    if name:
        known = get_args(output.Format)
        for format in known:
            if name == format:
                session.format = None if format == "table" else format
                return
        raise UsageError(f"no format {name!r}{nearest(name, known) or ';'} formats are {', '.join(known)}")
    output.note(f"rows are written as {session.format or 'table'}")


def _rows(command: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{text!r} is not a number of rows; write {command} 100, or {command} 0 for all")
    return int(text)


def _max_rows(session: Session, text: str) -> None:
    if text:
        session.max_rows = _rows(".max-rows", text)
    else:
        most = f"at most {session.max_rows:,}" if session.max_rows else "any number of"
        output.note(f"an answer may have {most} rows")


def _limit(session: Session, text: str) -> None:
    if text:
        session.limit = _rows(".limit", text)
    else:
        shown = {None: "as many rows as the screen holds are", 0: "all rows are"}
        output.note(f"{shown.get(session.limit, f'at most {session.limit} rows are')} shown")


def _timeout(session: Session, text: str) -> None:
    if text:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise UsageError(f"{text!r} is not a number of seconds; write .timeout 60, or 0 for no limit")
        session.timeout = seconds
    else:
        after = f"is stopped after {session.timeout:g} s" if session.timeout else "may run for ever"
        output.note(f"a statement {after}")


def _output(session: Session, name: str) -> None:
    path = _path(name) if name else None
    format_of(session.format, path)
    session.out = path
    output.note(f"the next answer goes to {session.out or 'the screen'}")


def _set(session: Session, text: str) -> None:
    if text:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"{text!r} sets nothing; write .set name=value, for $name in statements")
        session.parameters[name.strip()] = query.literal(value.strip())
    else:
        rows: list[tuple[object, ...]] = [(name, str(value)) for name, value in session.parameters.items()]
        session.answer(Result.of({"name": "VARCHAR", "value": "VARCHAR"}, rows))


def _queries(session: Session, name: str) -> None:
    if name:
        output.write_text(query.named(name).statement)
    else:
        session.answer(query.listing(query.all_named()))


def _run(session: Session, text: str) -> None:
    if not text:
        raise UsageError("nothing to run; write .run NAME, and `.queries` lists all")
    try:
        name, *given = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text!r} cannot be read: {str(error).lower()}") from error
    values: dict[str, object] = {}
    for pair in given:
        parameter, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is not a parameter; write .run {name} name=value")
        values[parameter] = value
    session.run_named(name, values)


def _read(session: Session, name: str) -> None:
    if not name:
        raise UsageError("nothing to read; write .read FILE")
    path = _path(name)
    if path.resolve() in session.reading:
        raise UsageError(f"{name} reads itself")
    try:
        lines = read_text(path).splitlines(keepends=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {name!r}: {os_reason(error)}") from error
    session.reading.append(path.resolve())
    try:
        n_run, n_failed = run_all(session, lines, name)
    finally:
        session.reading.pop()
    if n_failed:
        raise QueryError(f"{n_failed} of {n_run} statements in {name} failed")


def _open(session: Session, name: str) -> None:
    session.reopen(_path(name) if name else session.store.path)
    output.note(f"opened {session.store.path}")


def _path(name: str) -> Path:
    """Return the file that is named; quotes around the name are taken off, `~` is the user's own folder."""
    quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "'\""
    return Path(name[1:-1] if quoted else name).expanduser()


def _quit(session: Session, rest: str) -> None:
    session.is_over = True


COMMANDS: dict[str, Command] = {
    command.usage.partition(" ")[0]: command
    for command in (
        Command(".help", "this list", _help),
        Command(".schema [TABLE]", "the tables, or the columns of one", _schema),
        Command(".explain STATEMENT", "the SQL that a statement runs as", _explain),
        Command(".queries [NAME]", "the named queries, or the text of one", _queries),
        Command(".run NAME [NAME=VALUE ...]", "run a named query", _run),
        Command(".set [NAME=VALUE]", "give $NAME in statements a value, or list all", _set),
        Command(".format [NAME]", "how rows are written: table, json, csv, ...", _format),
        Command(".limit [ROWS]", "most rows shown, 0 for all", _limit),
        Command(".timeout [SECONDS]", "how long a statement may run, 0 for no limit", _timeout),
        Command(
            ".max-rows [ROWS]", "most rows of an answer and paths of a pattern, 0 for no limit", _max_rows
        ),
        Command(".output [FILE]", "write the next answer to a file", _output),
        Command(".read FILE", "run the statements in a file", _read),
        Command(".open [GRAPH]", "open the newest build of this graph, or another graph", _open),
        Command(".quit", "leave; so does .exit", _quit),
    )
}
COMMANDS[".exit"] = COMMANDS[".quit"]
