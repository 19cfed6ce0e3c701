"""Run one long command and measure it from outside: time, memory, and what it has on disk.

A command that goes on where it was cut off is measured in attempts; what they took is kept in a file and
added up.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

POLL, NOTE = 1.0, 60.0
"""Seconds between looks at disk and memory, and between lines about them."""


@dataclass
class Watched:
    """What one command took, in all attempts."""

    what: dict[str, Any]
    """What it was asked for; plain JSON."""
    attempts: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    resident: int = 0
    """Bytes of memory at the peak, with the files that it maps."""
    anonymous: int = 0
    """The same without files, as seen once a second; 0 where the system does not say."""
    disk: int = 0
    """Bytes on disk at the peak."""

    @classmethod
    def read(cls, file: Path, what: dict[str, Any]) -> "Watched":
        """Return what earlier attempts at the same took; nothing if there were none."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            found = cls(**json.loads(file.read_text(encoding="utf-8")))
            if found.what == what:
                return found
        return cls(what)

    def save(self, file: Path) -> None:
        """Write all this to a file."""
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.replace(file)


def watch(
    command: Sequence[str],
    watched: Watched,
    file: Path,
    disk: Callable[[], int],
    *,
    environment: Mapping[str, str],
    log: Path,
    say: Callable[[str], None],
) -> int:
    """Run a command, add what it takes to `watched` and `file`, and return its exit status.

    disk: what it has on disk at the moment. log: where what it says goes.
    """
    earlier, began, noted = watched.seconds, time.monotonic(), time.monotonic()
    watched.attempts += 1
    with log.open("ab") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            watched.seconds = earlier + time.monotonic() - began
            watched.disk = max(watched.disk, disk())
            held = kilobytes(Path(f"/proc/{process.pid}/status"), "RssAnon")
            watched.anonymous = max(watched.anonymous, held)
            if pid:
                break
            if time.monotonic() - noted >= NOTE:
                noted = time.monotonic()
                say(f"it holds {held / 1e9:.2f} GB of memory; disk at most {watched.disk / 1e9:.2f} GB")
                watched.save(file)
            time.sleep(POLL)
    except BaseException:
        process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        raise
    finally:
        process.returncode = os.waitstatus_to_exitcode(status)
        watched.resident = max(watched.resident, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        watched.processor_seconds += usage.ru_utime + usage.ru_stime
        watched.save(file)
    return process.returncode


def free_memory() -> int:
    """Return the bytes that can be had without swapping; without Linux' word for it, no limit."""
    return kilobytes(Path("/proc/meminfo"), "MemAvailable") or 1 << 62


def kilobytes(table: Path, name: str) -> int:
    """Return what a table of /proc says, in bytes; 0 if it says nothing."""
    with contextlib.suppress(OSError):
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def occupied(folder: Path, but: Path | None = None) -> int:
    """Return the bytes that the files in a folder take on disk; they may come and go meanwhile."""
    total = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) != but]
        for name in files:
            with contextlib.suppress(OSError):
                total += Path(parent, name).stat().st_blocks * 512
    return total
