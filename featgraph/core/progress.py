"""Shows the progress of long jobs: named steps with a count, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic
from typing import Protocol

Advance = Callable[[int], None]
"""Function to call with the number of units just finished."""


class Progress(Protocol):
    """A display of a job's progress."""

    def step(self, name: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Open a step of `total` units; the context yields the function that advances it."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def step(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """Ignore the counts."""
        yield lambda count: None


class Bars:
    """One Rich bar per step on stderr: name, share, rate and time left. Use it in a `with` block."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True, force_jupyter=None if _has_widgets() else False),
        )

    @contextmanager
    def step(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """Show one bar; it stays on the screen when the step is done."""
        task = self._bars.add_task(name, total=total, unit=unit, rate="")

        def advance(count: int) -> None:
            self._bars.advance(task, count)
            speed = self._bars.tasks[task].finished_speed or self._bars.tasks[task].speed
            self._bars.update(task, rate=f", {speed:,.0f}/s" if speed and speed >= 1 else "")

        yield advance

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()


def _has_widgets() -> bool:
    """Return whether Rich can update bars in a notebook; without ipywidgets it prints finished bars only."""
    from importlib.util import find_spec

    return find_spec("ipywidgets") is not None


class Lines:
    """Lines on stderr, for a file that is read while the job runs: one every INTERVAL seconds of a step.

    A step that is done before the first is due says nothing.
    """

    @contextmanager
    def step(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """Print the progress at intervals, and at the end the time taken if anything was printed."""
        began = last = monotonic()
        done, said = 0, False

        def advance(count: int) -> None:
            nonlocal done, last, said
            done += count
            now = monotonic()
            if now - last >= INTERVAL and done < total:
                last, said = now, True
                left = (total - done) * (now - began) / max(done, 1)
                tell(f"{done:,} of {total:,} {unit}, {_time(left)} left")

        def tell(what: str) -> None:
            sys.stderr.write(f"{name}: {what}\n")
            sys.stderr.flush()

        yield advance
        if said or monotonic() - began >= INTERVAL:
            tell(f"{total:,} {unit} in {_time(monotonic() - began)}")


INTERVAL = 10.0
"""Seconds between two lines. Our choice: a log of an hour is a few hundred lines."""


def _time(seconds: float) -> str:
    """Return a duration as readable text.

    >>> _time(8.4), _time(75), _time(4000)
    ('8 s', '1:15 min', '1:06 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole, unit = (int(seconds), "min") if seconds < 3600 else (int(seconds / 60), "h")
    return f"{whole // 60}:{whole % 60:02} {unit}"


def shown(quiet: bool) -> AbstractContextManager[Progress]:
    """Return the progress display of a command: bars on a terminal, lines in a file, none if quiet."""
    if quiet:
        return nullcontext(Silent())
    return Bars() if sys.stderr.isatty() else nullcontext(Lines())
