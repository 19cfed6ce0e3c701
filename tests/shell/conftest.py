"""A session of the toy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from featgraph.shell import Session


@pytest.fixture
def session(toy: Path) -> Iterator[Session]:
    with Session(toy, format="csv") as opened:
        yield opened
