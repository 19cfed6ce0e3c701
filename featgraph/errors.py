"""Every error a user can cause and mend, drawn as a tree, with the exit code of each.

    FeatgraphError        1   base: one sentence that says what was wrong, where, and what mends it
      UsageError          2   a flag, parameter, name or feature key
        RecipeError       2   a recipe file: names the file and the key or line
      QueryError          1   a statement: carries its text and the offset of the fault
      StoreError          3   the graph directory: absent, broken, newer, or being written
      SourceError         4   a model, an SAE or a text that cannot be used
    (interrupt)         130

A Python caller's own slip (wrong shape, wrong type) stays ValueError or TypeError.
"""

import difflib
from collections.abc import Iterable


class FeatgraphError(Exception):
    """Something went wrong that the user can mend; the message says how."""

    exit_code = 1


class UsageError(FeatgraphError):
    """A flag, parameter, name or feature key is not one that exists."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file is malformed or asks for something that does not exist."""


class QueryError(FeatgraphError):
    """A statement cannot be run; `position` is the offset of the fault in `text`, if known."""

    def __init__(self, message: str, text: str = "", position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.text = text
        self.position = position

    def __str__(self) -> str:
        if self.position is None:
            return self.message
        before = self.text[: self.position]
        number = before.count("\n") + 1
        column = self.position - (before.rfind("\n") + 1)
        line = self.text.splitlines()[number - 1] if self.text else ""
        label = f"  LINE {number}: "
        return f"{self.message}\n{label}{line}\n{' ' * (len(label) + column)}^"


class StoreError(FeatgraphError):
    """A graph directory is absent, broken, written by a newer version, or being written."""

    exit_code = 3


class SourceError(FeatgraphError):
    """A model, an SAE or a text cannot be used."""

    exit_code = 4


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known word, or an empty string.

    >>> nearest("neigbours", ["neighbours", "births"])
    "; did you mean 'neighbours'?"
    """
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
