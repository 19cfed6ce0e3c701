"""A graph directory written at once, as an ingest writes one: beside its place, then swapped in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featgraph.store import building, empty_build, new_graph, publish_graph


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty graph directory; on success it takes the place of `path`, else nothing is left of it.

    Raises StoreError: as `building`.
    """
    with building(path) as build:
        try:
            empty_build(build)
            yield new_graph(build)
            publish_graph(build, path)
        finally:
            shutil.rmtree(build, ignore_errors=True)
