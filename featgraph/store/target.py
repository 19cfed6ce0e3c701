"""Where a graph may be written: checked before any work, so that none is lost, nor anything of the user's."""

import os
from pathlib import Path

from featgraph.errors import StoreError
from featgraph.store.layout import build_directory, check_replaceable, lock_file

MARK = ".featgraph-build"
"""Its presence says that a build directory is featgraph's, to be emptied and removed."""

_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes of one name and of a whole path. Source: NAME_MAX and PATH_MAX of <linux/limits.h>."""


def check_target(path: Path) -> None:
    """Refuse a path at which no graph can be built, or beside which something of the user's is in the way.

    Raises StoreError: it is a link, a device or another file, it names a folder such as `.` that cannot be
    exchanged, its name is too long, it holds something else than a graph, or its folder cannot be written.
    """
    if path.name in ("", "..") or "\0" in str(path):
        raise StoreError(f"{str(path)!r} cannot be the name of a graph; name one with -o, as NAME.featgraph")
    if path.is_symlink():
        to = path.readlink()
        kind = "a link to" if path.exists() else "a broken link to"
        raise StoreError(f"{path} is {kind} {to}; name the graph itself with -o")
    longest = max((build_directory(path), lock_file(path)), key=lambda beside: len(os.fsencode(beside.name)))
    spare = _LONGEST_NAME - len(os.fsencode(longest.name))
    if spare < 0 or len(os.fsencode(path.absolute())) > _LONGEST_PATH - 2 * _LONGEST_NAME:
        raise StoreError(f"the name {_shortened(path.name)} is too long; choose a shorter one with -o")
    if "\\" in str(path.absolute()):
        raise StoreError(f"{path} has a \\ in it, which DuckDB takes for a /; choose another place with -o")
    check_replaceable(path)
    _check_folder(path)
    check_build_directory(path)
    lock = lock_file(path)
    if os.path.lexists(lock) and (lock.is_symlink() or not lock.is_file() or lock.stat().st_size):
        raise StoreError(f"{lock} is where featgraph locks {path}, and is none of its files; move it away")


def check_build_directory(path: Path) -> None:
    """Refuse a build directory that no featgraph made.

    Raises StoreError: something else has its name.
    """
    build = build_directory(path)
    if not os.path.lexists(build):
        return
    if build.is_symlink() or not build.is_dir() or (any(build.iterdir()) and not (build / MARK).is_file()):
        raise StoreError(
            f"{build} is where featgraph builds {path}, and is none of its folders; move it away"
        )


def _check_folder(path: Path) -> None:
    """Refuse where the nearest folder that is there is none, or not ours to write."""
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise StoreError(f"cannot write {path}: {folder} is no folder; choose another place with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write {path}: {folder} may not be written; choose another place with -o")


def _shortened(name: str) -> str:
    return repr(f"{name[:40]}...") if len(name) > 40 else repr(name)
