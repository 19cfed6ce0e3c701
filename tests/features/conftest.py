"""A small suite and its graph."""

from collections.abc import Iterator

import pytest

import featgraph
from featgraph import Graph
from helpers.lit_suite import Suite


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def graph(suite: Suite) -> Iterator[Graph]:
    with featgraph.open(suite.graph) as opened:
        yield opened
