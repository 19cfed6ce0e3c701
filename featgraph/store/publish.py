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
from featgraph.store.target import MARK, check_build_directory, check_target

_OLD = "old"
"""Where in the build directory the old graph is where a system cannot exchange two names."""


@contextmanager
def building(path: Path, *, replaces: bool = True) -> Iterator[Path]:
    """Yield the build directory beside `path`, locked against other writers; its content stays.

    `publish_graph` removes it, or the caller does: a failed build leaves its finished steps for the next one.
    replaces: the build will take the place of `path`, so that nothing else may be lost there. Without it
    there is a lock, and no build directory is made.

    Raises StoreError: another process is writing the same graph, or `path` must not be replaced.
    """
    from filelock import FileLock, Timeout

    if replaces:
        check_target(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file(path))
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(f"{path} is being written by another process; wait for it to end") from error
    except OSError as error:
        raise StoreError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        build = build_directory(path)
        if replaces:
            check_build_directory(path)  # again, now that no other featgraph can be at it
            build.mkdir(exist_ok=True)
            (build / MARK).touch()
            _put_back(build, path)
        yield build
    finally:
        with suppress(OSError):
            lock_file(path).unlink()  # while it is held: later it could be another writer's
        lock.release()


def empty_build(build: Path) -> None:
    """Remove everything from a build directory but the mark that it is one."""
    for entry in build.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != MARK:
            entry.unlink()


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


def _swap(graph: Path, path: Path) -> None:
    """Put a graph of a build directory at `path`; what was there stays behind in the build directory."""
    if not path.exists():
        graph.rename(path)
    elif not _exchange(graph, path):
        old = graph.with_name(_OLD)
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        graph.rename(path)


def _put_back(build: Path, path: Path) -> None:
    """Put the old graph back at `path` where a process was killed between the two renames of `_swap`."""
    if not os.path.lexists(path) and (build / _OLD).is_dir():
        (build / _OLD).rename(path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step where the system can (Linux `renameat2`); say whether it did."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <linux/fs.h>
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
