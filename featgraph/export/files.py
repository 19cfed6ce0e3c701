"""The files that one export makes; all of them appear whole, or none."""

import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from featgraph.core.files import os_reason, output_file
from featgraph.errors import UsageError


@dataclass(frozen=True)
class OutputFiles:
    """The files of one export, and notes about them."""

    files: dict[Path, bytes]
    """Path -> content."""
    notes: tuple[str, ...] = ()
    """Parts left out, with the reason; the files are valid without them."""
    folder: Path | None = None
    """Folder to create for the files, if its parent exists."""


STDOUT = Path("-")
"""The file name that means stdout."""


def write_files(output: OutputFiles) -> None:
    """Write all files of an export or none; a file named `-` goes to stdout.

    Raises UsageError: one cannot be written; then none is.
    """
    names = [path.parts[0] for path in output.files if not path.is_absolute()]
    if any(name == "-" or name.startswith("-.") for name in names):
        _write_stdout(output)
        return
    folder = output.folder if output.folder is not None and not output.folder.exists() else None
    try:
        if folder is not None:
            folder.mkdir()
        with ExitStack() as stack:
            for path, content in output.files.items():
                stack.enter_context(output_file(path)).write_bytes(content)
    except (OSError, UsageError) as error:
        if folder is not None:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"cannot write {folder}: {os_reason(error)}") from error


def _write_stdout(output: OutputFiles) -> None:
    """Write the one file of an export to stdout.

    Raises UsageError: there are several, or it would go to a terminal that cannot show it.
    """
    if list(output.files) != [STDOUT]:
        names = ", ".join(str(path) for path in output.files)
        raise UsageError(f"this format has files of their own names ({names}); name a file with -o FILE")
    content = output.files[STDOUT]
    if sys.stdout.isatty() and (b"\0" in content or b"\x1b" in content):
        raise UsageError("this format is binary and stdout is a terminal; name a file with -o FILE")
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def stem(out: Path, *endings: str) -> Path:
    """Return a path without one of these extensions; other dots belong to the name.

    >>> [str(stem(Path(name), ".gguf")) for name in ("v1.2", "v1.2.gguf")]
    ['v1.2', 'v1.2']
    """
    return out.with_suffix("") if out.suffix in endings else out


def beside(out: Path, ending: str) -> Path:
    """Return a path with an extension added to its name."""
    return out.with_name(out.name + ending)


def own_folder(out: Path, names: set[str], ending: str) -> Path:
    """Return the folder for an export of one file per layer.

    Raises UsageError: the path is a file, or a folder with another export, which would be loaded too.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(
            f"{out} is a file, and this format needs a folder for one file per layer; give -o another name"
        )
    others = sorted(path.name for path in out.glob(f"*{ending}") if path.name not in names)
    if others:
        raise UsageError(
            f"{out} holds {others[0]!r}, a file of another vector, which would be loaded with this one; "
            "give -o a new folder"
        )
    return out
