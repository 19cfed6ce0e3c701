"""Every error that a user can cause and correct, as a tree, with exit codes.

    FeatgraphError        1   base: one sentence says what was wrong, where, and what to do
      UsageError          2   a flag, parameter, name or feature key
        RecipeError       2   a recipe file: names the file and the key or line
      QueryError          1   a statement: carries its text and the offset of the error
        ParameterError    2   a parameter in it has no value
      StoreError          3   the graph directory: absent, broken, newer, or being written
      SourceError         4   a model, an SAE or a text that cannot be used
    (interrupt)         130

A Python caller's own mistake (wrong shape, wrong type) stays ValueError or TypeError.
"""

from collections.abc import Iterable

_AROUND = 120
"""Characters of a long line shown on each side of the error."""


class FeatgraphError(Exception):
    """Something went wrong that the user can correct; the message says how."""

    exit_code = 1


class UsageError(FeatgraphError):
    """A flag, parameter, name or feature key is not one that exists."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file is malformed or asks for something that does not exist."""


class QueryError(FeatgraphError):
    """A statement cannot be run; `position` is the offset of the error in `text`, if known."""

    def __init__(
        self, message: str, text: str = "", position: int | None = None, length: int = 1, *, draw: bool = True
    ) -> None:
        """length: characters to underline. draw: show the line; False if only the statement is known."""
        super().__init__(message)
        self.message = message
        self.text = text
        self.position = position
        self.length = length
        self.draw = draw

    def __str__(self) -> str:
        if self.position is None or not self.draw:
            return self.message
        before = self.text[: self.position]
        start = before.rfind("\n") + 1
        line = self.text[start:].split("\n", 1)[0]
        column = self.position - start
        label = f"  LINE {before.count(chr(10)) + 1}, COLUMN {column + 1}: "
        # Of a long line, show the part around the error. Tabs and controls would shift the caret.
        cut = max(0, column - _AROUND)
        shown = "".join(char if char.isprintable() else " " for char in line[cut : column + _AROUND])
        carets = "^" * max(1, min(self.length, len(shown) - (column - cut)))
        return f"{self.message}\n{label}{shown}\n{' ' * (len(label) + column - cut)}{carets}"


class ParameterError(QueryError):
    """A statement names a parameter that was given no value."""

    exit_code = 2


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
    import difflib  # Imported here, because the import takes longer than a short command.

    closest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {closest[0]!r}?" if closest else ""
