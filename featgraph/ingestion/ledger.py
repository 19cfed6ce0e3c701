"""The steps of a build that are done, with the key of each: one line of JSON per step, added when it ends.

A step is done if the ledger has it with the same key and its files are as it left them. The key is a digest
of everything that the step reads, so a changed input, setting or version runs it again, and all that follow.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featgraph.ingestion.worker import Worker


@dataclass(frozen=True)
class Step:
    """Work whose result is files: the same files from the same key, wherever and whenever it runs."""

    name: str
    key: str
    run: "Callable[[Worker], None]"
    """A function of `steps` with its arguments; it can be pickled."""
    files: tuple[str, ...]
    """Files that it writes, relative to the build directory; no other step writes them."""
    units: int = 1
    memory: int = 0
    """Bytes that it is known to need, beside what every step does."""


def key_of(*parts: object) -> str:
    """Return a digest of a step's inputs; the repr of each part must contain all of it.

    >>> key_of("match", 8) == key_of("match", 8) != key_of("match", 80)
    True
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class Ledger:
    """The steps that are done in one build directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "ledger.jsonl"
        self._lines: dict[str, dict[str, object]] = {}
        content = self.file.read_bytes() if self.file.is_file() else b""
        for line in content.splitlines():
            self._read(line)
        if content and not content.endswith(b"\n"):
            self._write("\n")

    def _read(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            self._take(entry["step"], entry)
        except (ValueError, TypeError, KeyError):
            pass  # the line that was being written when the process was killed

    def _take(self, name: str, entry: dict[str, object]) -> None:
        if entry["key"] is None:
            self._lines.pop(name, None)
        else:
            self._lines[name] = entry

    def __len__(self) -> int:
        """Number of steps that are done, of this build or of an earlier one in this directory."""
        return len(self._lines)

    def done(self, step: Step) -> bool:
        """Return whether a step was done from the same inputs and its files are still there, whole."""
        entry = self._lines.get(step.name)
        return entry is not None and entry["key"] == step.key and entry["files"] == self._sizes(step.files)

    def enter(self, step: Step, seconds: float) -> None:
        """Add a step whose files are complete."""
        entry: dict[str, object] = {
            "step": step.name,
            "key": step.key,
            "seconds": round(seconds, 3),
            "files": self._sizes(step.files),
        }
        self._add([entry])

    def invalidate(self, steps: Iterable[Step]) -> None:
        """Invalidate steps before their files are overwritten."""
        self._add([{"step": step.name, "key": None} for step in steps if step.name in self._lines])

    def end(self) -> None:
        """Remove the ledger: its files leave the build directory."""
        self.file.unlink(missing_ok=True)
        self._lines.clear()

    def _add(self, entries: list[dict[str, object]]) -> None:
        if entries:
            self._write("".join(f"{json.dumps(entry)}\n" for entry in entries))
        for entry in entries:
            self._take(str(entry["step"]), entry)

    def _write(self, text: str) -> None:
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())

    def seconds(self, steps: Iterable[Step]) -> float:
        """Return how long some steps took together, whenever they ran."""
        return sum(float(str(self._lines[step.name]["seconds"])) for step in steps)

    def _sizes(self, files: tuple[str, ...]) -> dict[str, int]:
        return {
            name: self.root.joinpath(name).stat().st_size if self.root.joinpath(name).is_file() else -1
            for name in files
        }
