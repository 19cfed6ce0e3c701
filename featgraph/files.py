"""Writing a file so that it appears under its name only when it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featgraph.errors import UsageError


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield where to write; on success that takes the name `path`, else nothing is left.

    A link stays a link to the file it names; what is no regular file (a device, a pipe) is written as it is.

    Raises UsageError: it cannot be written.
    """
    target = path.resolve()
    regular = target.is_file() or not target.exists()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial") if regular else target
    try:
        yield partial
        if regular:
            partial.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if regular:
            partial.unlink(missing_ok=True)
