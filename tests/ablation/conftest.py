"""The graph of the small suite, with what it was made of."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def graph(small: Path, small_recipe: Path, tmp_path: Path) -> Path:
    """The small suite's graph to write to, with what it was made of beside it."""
    shutil.copytree(small_recipe.parent / "small", tmp_path / "small")
    shutil.copy(small_recipe, tmp_path)
    return Path(shutil.copytree(small, tmp_path / "small.featgraph"))
