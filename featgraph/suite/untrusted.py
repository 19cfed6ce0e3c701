"""Loading what somebody else made: no code of theirs runs, nothing asks on stdin, what fails is one line."""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from featgraph.errors import FeatgraphError, SourceError

SAFE = {"trust_remote_code": False}
"""Argument for every loader of transformers, which would otherwise ask on stdin to run a repository's
code."""

_lock = threading.Lock()
_n_open = 0
_stdin = sys.stdin


@contextmanager
def no_questions() -> Iterator[None]:
    """Replace stdin by an empty one, so that a library that asks a question gets the end of the input."""
    global _n_open, _stdin
    with _lock:
        if not _n_open:
            _stdin, sys.stdin = sys.stdin, io.StringIO()
        _n_open += 1
    try:
        yield
    finally:
        with _lock:
            _n_open -= 1
            if not _n_open:
                sys.stdin = _stdin


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever a library raises about files that it cannot load into one line about them.

    Raises SourceError: it raised something that is not an error of ours.
    """
    try:
        with no_questions():
            yield
    except FeatgraphError:
        raise
    except Exception as error:  # files may be anything, and so may what their readers stumble over
        raise SourceError(f"cannot load {what}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return in one line why files cannot be loaded.

    >>> reason_of(KeyError("rope")), reason_of(RecursionError("maximum recursion depth exceeded"))
    ("it has no 'rope'", 'it is nested too deep')
    """
    import pickle

    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are a pickle that holds more than tensors, or cut short; use safetensors"
    if isinstance(error, KeyError) and error.args:
        return f"it has no {error.args[0]!r}"
    text = str(error)
    if "trust_remote_code" in text:
        return "it needs code of its own to run, and no code from elsewhere is run here"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
