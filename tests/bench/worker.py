"""What runs in a peer's own process: loading it and asking it, with clock and memory read beside it.

A process per peer, so that no one's memory, threads or garbage show in the figures of another.
"""

import ctypes
import gc
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import Arguments
from peers import Peer, Shape, UnavailableError, peer_class


@dataclass
class State:
    """What this process holds between calls."""

    peer: Peer | None = None
    empty: int = 0
    """Memory before loading."""

    def ask(self, work: str, arguments: Arguments) -> Any:
        return getattr(self.peer, work)(*arguments)


@dataclass(frozen=True)
class NoAnswer:
    """Why a peer did not answer, and whether that is a fault rather than a limit of the peer."""

    reason: str
    fault: bool


STATE = State()


def load(name: str, graph: Path, shape: Shape, scratch: Path) -> float | NoAnswer:
    """Load a graph into the peer that this process is for; return the seconds it took."""
    try:
        made = peer_class(name)
        STATE.empty = resident()
        began = time.perf_counter()
        STATE.peer = made(graph, shape, scratch)
    except UnavailableError as error:
        return NoAnswer(str(error), fault=False)
    except Exception as error:  # of whatever library; the caller prints it
        return NoAnswer(f"{type(error).__name__}: {error}", fault=True)
    seconds = time.perf_counter() - began
    gc.collect()
    gc.freeze()  # what is loaded stays, so collections need not look at it again
    return seconds


def answers(work: str, cases: list[Arguments]) -> list[Any] | NoAnswer:
    """Return the answer to each case."""
    try:
        return [STATE.ask(work, arguments) for arguments in cases]
    except UnavailableError as error:
        return NoAnswer(str(error), fault=False)
    except Exception as error:  # of whatever library; the caller prints it
        return NoAnswer(f"{type(error).__name__}: {error}", fault=True)


def seconds(work: str, cases: list[Arguments]) -> float:
    """Return the time of one answer, the mean over the cases."""
    gc.collect()
    began = time.perf_counter()
    for arguments in cases:
        STATE.ask(work, arguments)
    return (time.perf_counter() - began) / len(cases)


def grown() -> int:
    """Return by how many bytes the memory of this process has grown since before the load."""
    return resident() - STATE.empty


def close() -> None:
    """Let the peer go."""
    gc.unfreeze()
    if STATE.peer is not None:
        STATE.peer.close()
        STATE.peer = None


def resident() -> int:
    """Return the memory that this process holds in bytes, 0 where the system does not say."""
    table = Path("/proc/self/statm")
    if not table.is_file():
        return 0
    with suppress(AttributeError):  # glibc keeps what was freed, until somebody asks it to give that back
        ctypes.CDLL(None).malloc_trim(0)
    return int(table.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
