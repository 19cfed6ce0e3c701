"""Completions at the cursor of the prompt, of a dot command or of a statement."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from featgraph import output, query
from featgraph.errors import FeatgraphError
from featgraph.shell.commands import COMMANDS
from featgraph.shell.session import Session
from featgraph.shell.suggestions import suggestions
from featgraph.shell.vocabulary import Suggestion, keys


def complete(session: Session, before: str, after: str = "") -> tuple[str, list[Suggestion]]:
    """Return the typed part of the word at the cursor, and its completions."""
    name, space, rest = before.lstrip().partition(" ")
    if not name.startswith("."):
        typed, fitting = suggestions(before, after, session.words, session.parameters)
        at_start = not before.strip()
        return typed, [*fitting, *_commands("")] if at_start else fitting
    if not space:
        return name, list(_commands(name))
    if name == ".explain":
        return suggestions(rest, after, session.words, session.parameters)
    typed = rest.rpartition(" ")[2] if name == ".run" else rest
    fitting = [item for item in _arguments(session, name, rest, typed) if item.text.startswith(typed)]
    return typed, fitting


def _commands(typed: str) -> Iterator[Suggestion]:
    for name, command in COMMANDS.items():
        if name.startswith(typed):
            yield Suggestion(name, command.purpose)


def _arguments(session: Session, name: str, rest: str, typed: str) -> Iterable[Suggestion]:
    """Return what a dot command may be followed by."""
    if name == ".schema":
        return [Suggestion(table, "table") for table in session.words.tables]
    if name == ".format":
        return [Suggestion(format) for format in get_args(output.Format)]
    if name == ".set":
        return [Suggestion(f"{parameter}=", str(value)) for parameter, value in session.parameters.items()]
    if name in (".read", ".open", ".output"):
        return _paths(typed)
    if name == ".queries" or (name == ".run" and " " not in rest):
        return [Suggestion(named.name, named.purpose) for named in query.all_named()]
    return _parameters(session, rest, typed) if name == ".run" else []


def _parameters(session: Session, rest: str, typed: str) -> Iterator[Suggestion]:
    """Yield the parameters of a named query that are not given yet, or the value of one."""
    name, *given = rest.split(" ")
    try:
        known = {parameter.name: parameter for parameter in query.named(name).parameters}
    except FeatgraphError:
        return
    wanted, equals, value = typed.partition("=")
    if equals and wanted in known:
        if known[wanted].type == "key":
            for item in keys(value, session.words):
                yield Suggestion(f"{wanted}={item.text}", item.about)
        elif known[wanted].type == "bool":
            yield from (Suggestion(f"{wanted}={word}") for word in ("true", "false"))
        return
    named = {word.partition("=")[0] for word in given[:-1]}
    for parameter in known.values():
        if parameter.name not in named:
            yield Suggestion(f"{parameter.name}=", parameter.description)


def _paths(typed: str) -> Iterator[Suggestion]:
    """Yield the files and folders that begin as typed."""
    folder, slash, _ = typed.rpartition("/")
    try:
        entries = sorted(Path(f"{folder}{slash}" or ".").expanduser().iterdir())
    except (OSError, RuntimeError):
        return
    for path in entries:
        if not path.name.startswith("."):
            is_folder = path.is_dir() and path.suffix != ".featgraph"
            yield Suggestion(f"{folder}{slash}{path.name}{'/' if is_folder else ''}")
