"""Runs a query within limits of memory and time, and stops it when it exceeds them.

What runs in DuckDB runs in a thread of its own, because DuckDB looks for Ctrl-C only between its tasks. Some
of its work does not look for an interrupt either (a long text that is folded into a constant, thousands of
UNIONs); after `GRACE` seconds the process ends itself with the message where it is a command's own, and
where it is a caller's the thread is left behind.
"""

import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

Answer = TypeVar("Answer")

MOST_MEMORY = 4 * 2**30
"""Default memory limit in bytes, on a machine with at least four times as much. Our choice."""

GRACE = 2.0
"""Seconds after an interrupt before work that ignores it is ended. Our choice."""

_LOOK = 0.05
"""Seconds between two checks of time, memory and Ctrl-C. Our choice."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""File with the memory limit of a container."""

own_process = False
"""Whether this process belongs to the command line, and may end itself."""


class OutOfMemory(Exception):
    """A query exceeded its memory limit."""


class Interruptible(Protocol):
    """An object whose work can be interrupted, such as a connection to DuckDB."""

    def interrupt(self) -> None:
        """Ask the running work to stop."""


def default_memory() -> int:
    """Return the default memory limit in bytes: a quarter of the machine's or container's memory, or
    `MOST_MEMORY`."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else ""
    return min((min(whole, int(limit)) if limit.isdigit() else whole) // 4, MOST_MEMORY)


def in_limits(
    connection: Interruptible,
    work: Callable[[], Answer],
    seconds: float | None,
    memory: int | None = None,
    *,
    too_long: str = "",
    too_large: str = "",
) -> Answer:
    """Return what `work` returns; stop it after some seconds, beyond some memory, or on Ctrl-C.

    memory: limit in bytes for DuckDB, and about as much again for the result; None: no limit. too_long,
    too_large: messages to print if the process has to end itself.

    Raises TimeoutError: the time is up. OutOfMemory: the limit is exceeded. KeyboardInterrupt: the user
    pressed Ctrl-C. Errors of `work` pass through.
    """
    answers: list[Answer] = []
    faults: list[BaseException] = []

    def attempt() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            faults.append(error)
        finally:
            done.set()

    done = threading.Event()
    end = math.inf if seconds is None or math.isnan(seconds) else monotonic() + seconds
    most = math.inf if memory is None else resident() + 3 * memory // 2
    why: BaseException | None = None
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    try:
        pause = 0.0005
        while not done.wait(min(pause, max(end - monotonic(), 0))):
            pause = min(2 * pause, _LOOK)
            if monotonic() >= end:
                why = TimeoutError(f"{seconds:g} s")
            elif most < math.inf and pause == _LOOK and resident() > most:
                why = OutOfMemory()
            if why is not None:
                break
    except KeyboardInterrupt as error:
        why = error
    if why is not None:
        beyond_memory = too_large if isinstance(why, OutOfMemory) else ""
        limit = too_long if isinstance(why, TimeoutError) else beyond_memory
        _stop(connection, done, limit or "interrupted")
        raise why
    thread.join()
    if faults:
        raise faults[0]
    return answers[0]


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (read twenty times a second)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _stop(connection: Interruptible, done: threading.Event, message: str) -> None:
    """Interrupt the work until it ends; if it does not, end the process if it is the command's own."""
    until = monotonic() + GRACE
    while monotonic() < until:
        connection.interrupt()
        if done.wait(_LOOK):
            return
    if own_process:
        sys.stdout.flush()
        sys.stderr.write(f"featgraph: {message}\n")
        sys.stderr.flush()
        os._exit(130 if message == "interrupted" else 1)
