"""The builder's progress on edgefer's bar, and Ctrl-C through it."""

from __future__ import annotations

import threading
from typing import Any, Final

from edgefer.progress import Advance

NEEDS: Final = "progress"
"""The capability that a version must have for this module to be used."""


def make_monitor(trt: Any, advance: Advance, interrupted: threading.Event) -> Any:
    """An ``IProgressMonitor`` that shows the innermost phase and how far it is.

    Once ``interrupted`` is set it answers False, which makes the builder stop and return None.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            advance(0, f"{phase_name} {step + 1}/{self._steps.get(phase_name, 0)}")
            return not interrupted.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
