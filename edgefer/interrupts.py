"""How work ends early: Ctrl-C and SIGTERM unwind alike, and no child outlives its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1  # prctl(2)


@contextmanager
def deferred_interrupt(*, insistent: bool = True) -> Iterator[Callable[[], bool]]:
    """Yield ``asked()``: whether Ctrl-C was pressed, or SIGTERM sent where it interrupts as Ctrl-C does.

    Python lets only the main thread handle signals, and a shell's background job was told to ignore Ctrl-C: where that
    is so nothing is changed and ``asked()`` stays False.

    Args:
        insistent: whether a second one is raised at once; without, none is, as C++ frames want it.
    """
    asked = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and insistent:
            raise KeyboardInterrupt
        asked = True

    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: how for number, how in handlers.items() if callable(how)}
    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: asked
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def die_with_parent() -> None:
    """Have the system kill this process when its parent dies; called in the child, and effective on Linux alone."""
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
