"""The toy, as if its SAEs were on Neuronpedia."""

from pathlib import Path

import pytest

from helpers.labelled import toy_on_neuronpedia


@pytest.fixture
def graph(toy: Path, tmp_path: Path) -> Path:
    return toy_on_neuronpedia(toy, tmp_path / "toy.featgraph")
