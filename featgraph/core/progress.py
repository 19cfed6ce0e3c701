"""How a long job tells how far it is: named steps with a count, shown on stderr or nowhere."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Advance = Callable[[int], None]
"""Call it with how many more of the step's units are done."""


class Progress(Protocol):
    """What a job reports to."""

    def step(self, name: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Open a step of `total` units; the context yields the function that advances it."""


class Silent:
    """Reports nothing."""

    @contextmanager
    def step(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """Do nothing with the counts."""
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
    """Say whether Rich can draw in a notebook; without ipywidgets it prints each bar once it is done."""
    from importlib.util import find_spec

    return find_spec("ipywidgets") is not None


def shown(quiet: bool) -> AbstractContextManager[Progress]:
    """Return what a command reports to: bars, or nothing where it was asked to be quiet."""
    return nullcontext(Silent()) if quiet else Bars()
