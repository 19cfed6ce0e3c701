"""The refusal of a path that is no graph, the edges of one that is, and another process that uses it."""

import sys
from pathlib import Path

import pytest

from featgraph import StoreError, store
from helpers.repository import ROOT, TESTS


def message(path: Path) -> str:
    """Return the one line with which a path is refused."""
    with pytest.raises(StoreError) as refusal, store.open_store(path) as opened:
        assert opened.saes
    assert refusal.value.exit_code == 3
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def python(code: str, *arguments: object) -> list[str]:
    """Return the command of a new process that can import the package and the helpers."""
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(TESTS)!r}]\n"
    return [sys.executable, "-c", start + code, *map(str, arguments)]


def n_edges(path: Path) -> int:
    """Return the number of edges of a graph."""
    with store.open_store(path) as opened:
        row = opened.connection.execute("select count(*) from edge").fetchone()
    assert row is not None
    return int(row[0])
