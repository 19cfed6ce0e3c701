"""Files: what identifies one, and writing one so that it appears under its name only when it is complete."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featgraph.errors import UsageError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield where to write; on success that takes the name `path`, else nothing is left.

    A link stays a link to the file it names; what is no regular file (a device, a pipe) is written as it is.

    Raises UsageError: it cannot be written.
    """
    partial: Path | None = None
    try:
        target = _followed(path)
        if target.is_file() or not target.exists():
            partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        yield partial or target
        if partial:
            partial.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if partial:
            with suppress(OSError):
                partial.unlink()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _followed(path: Path) -> Path:
    """Return the file that a path names in the end; raise OSError if its links lead round in a circle."""
    try:
        target = path.resolve()
    except RuntimeError:  # what Python says of a circle before 3.13; later it returns one of the links
        target = path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target
