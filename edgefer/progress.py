"""Progress and notices on stderr; stdout is for results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgefer.errors import printable, redacted


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence where nobody reads stderr any more; rich would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


console = _Console(stderr=True)


class Advance(Protocol):
    """Move a bar on by ``steps`` and put ``note`` at its end."""

    def __call__(self, steps: float = 1, note: str = "") -> None:
        """Move on."""


_announced: ContextVar[set[str] | None] = ContextVar("announced", default=None)


@contextmanager
def each_notice_once() -> Iterator[None]:
    """Print what is announced inside only the first time: a command may do one thing many times."""
    token = _announced.set(set())
    try:
        yield
    finally:
        _announced.reset(token)


def announce(message: str) -> None:
    """Print one line on stderr: a fallback with its reason, a count of what was dropped, a choice that was made."""
    message = "\n".join(printable(line) for line in redacted(message).split("\n"))
    announced = _announced.get()
    if announced is not None:
        if message in announced:
            return
        announced.add(message)
    console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)


_SINGULAR = {"are": "is", "do": "does", "have": "has", "were": "was"}


def number_of(count: int, noun: str) -> str:
    """``1 face`` or ``1,234 faces``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def as_many(count: int, words: str) -> str:
    """``words``, which begin with a verb in the plural, for ``count`` of them: ``are left out``, ``is left out``."""
    verb, space, rest = words.partition(" ")
    return words if count != 1 else f"{_SINGULAR.get(verb, f'{verb}s')}{space}{rest}"


@contextmanager
def progress(description: str, total: float | None, *, quiet: bool = False) -> Iterator[Advance]:
    """Yield ``advance(steps=1, note="")``; draws a bar with the time left on a terminal and nothing elsewhere.

    Args:
        description: name of the work.
        total: number of steps; None if that is not known.
        quiet: draw only inside ``advance``, and no thread of its own: for work whose time is being measured.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *(() if quiet else (MofNCompleteColumn(),)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=console, transient=True, auto_refresh=not quiet, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(printable(description), total=total, note="")

        def advance(steps: float = 1, note: str = "") -> None:
            bar.update(task, advance=steps, note=printable(note), refresh=quiet)

        yield advance
