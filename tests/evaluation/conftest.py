"""The small suite and its graph, in the folder that its recipe names things from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import featgraph
from featgraph import Graph


@pytest.fixture
def graph(small: Path, small_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    monkeypatch.chdir(small_recipe.parent)
    with featgraph.open(small) as opened:
        yield opened
