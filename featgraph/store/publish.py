"""How a new graph takes the place of an old one: the lock, the build directory, the swap.

A reader sees the old graph or the new one, never half of one.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featgraph.core.files import fsync_path
from featgraph.errors import StoreError
from featgraph.store.layout import VECTORS, build_directory, check_replaceable, lock_file


@contextmanager
def building(path: Path, *, replaces: bool = True) -> Iterator[Path]:
    """Yield the build directory beside `path`, held against other writers; what is in it stays there.

    It goes when `publish_graph` has put its graph at `path`, or when the caller removes it: a build that
    failed leaves its finished steps for the next one.
    replaces: the build will take the place of `path`, so that nothing else may be lost there.

    Raises StoreError: another process is writing the same graph, or `path` must not be replaced.
    """
    from filelock import FileLock, Timeout

    if replaces:
        check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file(path))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(f"{path} is being written by another process; wait for it to end") from error
    try:
        build = build_directory(path)
        build.mkdir(exist_ok=True)
        yield build
    finally:
        with suppress(OSError):
            lock_file(path).unlink()  # while it is held: later it could be another writer's
        lock.release()


def new_graph(build: Path) -> Path:
    """Return the graph directory within a build directory, with room for the vectors."""
    graph = build / "graph"
    (graph / VECTORS).mkdir(parents=True, exist_ok=True)
    return graph


def publish_graph(build: Path, path: Path) -> None:
    """Put the graph of a build directory at `path`, on the disk first, and remove the rest.

    Raises StoreError: since `building`, somebody put something at `path` that must not be replaced.
    """
    check_replaceable(path)
    graph = new_graph(build)
    for entry in [*graph.rglob("*"), graph]:
        fsync_path(entry)
    _swap(graph, path)
    shutil.rmtree(build, ignore_errors=True)


def _swap(build: Path, path: Path) -> None:
    """Put the build directory at `path`; what was there ends up in `build`, for the caller to remove."""
    if not path.exists():
        build.rename(path)
    elif not _exchange(build, path):
        old = path.parent / f".{path.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        build.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step where the system can (Linux `renameat2`); say whether it did."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <linux/fs.h>
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
