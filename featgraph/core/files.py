"""Files: what identifies one, why one is refused, and writing one that appears only once it is complete."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featgraph.errors import UsageError


@contextmanager
def atomic_file(path: Path, *, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it is renamed to `path`, else deleted.

    A symbolic link stays, and its target is replaced; a device or pipe is written directly.
    fsync: force the content to disk before the rename.

    Raises OSError: it cannot be written.
    """
    target = _followed(path)
    is_regular = target.is_file() or not target.exists()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial") if is_regular else target
    try:
        yield partial
        if is_regular:
            if fsync:
                fsync_path(partial)
            partial.replace(target)
    finally:
        if is_regular:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Do as `atomic_file`, for a file that the user named.

    Raises UsageError: it cannot be written.
    """
    try:
        with atomic_file(path) as partial:
            yield partial
    except OSError as error:
        raise UsageError(f"cannot write {path}: {os_reason(error)}") from error


def fsync_path(path: Path) -> None:
    """Force a file's content, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def os_reason(error: BaseException) -> str:
    """Return the reason of an error of the system or a library, as one line for the end of a sentence.

    >>> os_reason(PermissionError(13, "Permission denied", "x")), os_reason(ValueError("no gzip file\\n"))
    ('permission denied', 'no gzip file')
    """
    strerror = getattr(error, "strerror", None)
    if strerror:
        return str(strerror).lower()
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _followed(path: Path) -> Path:
    """Return the target of a path through its links; raise OSError if the links form a loop."""
    try:
        target = path.resolve()
    except RuntimeError:  # Python before 3.13 raises this for a loop; later versions return one of the links.
        target = path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target
