"""A shell session: the open graph, its settings, and how a statement is run and its answer written."""

import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from featgraph import output, query
from featgraph.core.result import Result
from featgraph.core.text import pluralize
from featgraph.errors import FeatgraphError, QueryError
from featgraph.shell.reading import scan
from featgraph.shell.vocabulary import Words
from featgraph.store import open_store

_SHELL_HINTS = (
    ("give -p ", "give "),
    ("--timeout", ".timeout"),
    ("--max-rows", ".max-rows"),
    ("--limit", ".limit"),
    ("--format", ".format"),
    ("-o FILE", ".output FILE"),
    ("`featgraph queries`", "`.queries`"),
    ("open it again", "open it again with `.open`"),
)
"""The hint of an error at the command line -> the same in the shell."""


class Session:
    """One open graph, and the settings that dot commands change."""

    def __init__(
        self,
        path: Path,
        *,
        format: output.Format | None = None,
        limit: int | None = None,
        timeout: float = query.TIMEOUT,
        max_rows: int = query.MAX_ROWS,
        memory: int | None = None,
    ) -> None:
        """memory: bytes that a statement may take; left out, a quarter of the machine, at most 4 GB."""
        self.memory = memory
        self.format = format
        self.limit = limit
        """Most rows written; None = what fits the screen."""
        self.timeout = timeout
        """Seconds, 0 = no limit."""
        self.max_rows = max_rows
        """Most rows of an answer and paths of a pattern, 0 = no limit."""
        self.out: Path | None = None
        """Where the next answer goes; None = stdout."""
        self.parameters: dict[str, object] = {}
        self.reading: list[Path] = []
        """The files whose statements are being run, outermost first."""
        self.is_over = False
        self.store = open_store(path, memory=memory)
        self.store.saes  # noqa: B018  reads the graph, so that a broken one is refused before the prompt

    @property
    def words(self) -> Words:
        """What can be completed in this graph."""
        return self.store.cached(Words.of)

    def reopen(self, path: Path) -> None:
        """Open a graph, which may be the newest build of this one, in place of this one.

        Raises StoreError: it cannot be opened; this one stays open.
        """
        opened = open_store(path, memory=self.memory)
        opened.saes  # noqa: B018
        self.store.close()
        self.store = opened

    def close(self) -> None:
        """Close the graph."""
        self.store.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, statement: str) -> None:
        """Run a statement and write its answer.

        Raises FeatgraphError: whatever `query.run` or the writing raises.
        """
        values, timeout, most = self._values(statement), self.timeout or None, self.max_rows or None
        self.answer(query.run(self.store, statement, values, timeout=timeout, max_rows=most))

    def run_named(self, name: str, values: Mapping[str, object]) -> None:
        """Run a named query and write its answer.

        Raises FeatgraphError: whatever `query.run_named` or the writing raises.
        """
        timeout, most = self.timeout or None, self.max_rows or None
        self.answer(query.run_named(self.store, name, values, timeout=timeout, max_rows=most))

    def explain(self, statement: str) -> None:
        """Write the SQL that a statement runs as."""
        sql = query.explain(self.store, statement, self._values(statement), max_rows=self.max_rows or None)
        out = self._target()
        output.write_text(sql, out=out)
        self._written("the SQL", out)

    def answer(self, result: Result) -> None:
        """Write rows where and how the settings say."""
        out = self._target()
        most = self._most(out)
        shown = dataclasses.replace(result, rows=result.rows[:most]) if most else result
        output.write(shown, self.format, out=out, limit=0, store=self.store)
        if len(shown) < len(result):
            output.note(f"{len(shown):,} of {len(result):,} rows shown; .limit 0 shows all")
        self._written(pluralize(len(shown), "row"), out)

    def _target(self) -> Path | None:
        """Return the target of this answer; the next answer goes to stdout again, even if this one fails."""
        out, self.out = self.out, None
        return out

    def _most(self, out: Path | None) -> int:
        """Return the most rows to write, 0 for all: left unset, a terminal gets what fits it."""
        if self.limit is not None:
            return self.limit
        on_screen = out is None and self.format in (None, "table") and sys.stdout.isatty()
        return max(10, shutil.get_terminal_size().lines - 5) if on_screen else 0

    @staticmethod
    def _written(what: str, out: Path | None) -> None:
        if out is not None:
            output.note(f"wrote {what} to {out}")

    def _values(self, statement: str) -> dict[str, object]:
        """Return the values of the parameters that a statement uses.

        Raises QueryError: one was not set.
        """
        values = {}
        for token in scan(statement)[0]:
            name = token.text[1:]
            if token.kind != "parameter" or not name.isidentifier():
                continue
            if name not in self.parameters:
                message = f"no value for ${name}; give one with .set {name}=VALUE"
                raise QueryError(message, statement, token.start, len(token.text))
            values[name] = self.parameters[name]
        return values


def told(error: FeatgraphError) -> str:
    """Return an error's message, its hints as the shell writes them."""
    if isinstance(error, QueryError):
        error.message = _with_shell_hints(error.message)
        return str(error)
    return _with_shell_hints(str(error))


def _with_shell_hints(message: str) -> str:
    for there, here in _SHELL_HINTS:
        message = message.replace(there, here)
    return message
