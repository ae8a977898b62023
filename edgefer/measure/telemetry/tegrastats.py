"""NVIDIA's ``tegrastats``, for Jetsons whose power monitors only it may read.

Its line is described in the Jetson Linux developer guide, "tegrastats utility": ``VDD_IN 5090mW/5090mW`` (now/mean;
older releases leave out the unit) for a rail, ``cpu@47.5C`` for a temperature.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

from edgefer.measure.telemetry.power import whole_board
from edgefer.measure.telemetry.sensors import is_dummy

_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*(?:_[A-Z0-9]+)+) (\d+)(?:mW)?/\d+(?:mW)?(?![\w.])")
_TEMPERATURE = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C\b")

_OFF = -200.0  # a zone that is switched off says −256


def parse_tegrastats(line: str) -> dict[str, Any]:
    """``watts`` of the board, ``rails`` (name → watts) and ``celsius`` (zone → degrees), as far as they are told."""
    rails = {name: int(milliwatts) / 1000 for name, milliwatts in _RAIL.findall(line)}
    told = ((name, float(value)) for name, value in _TEMPERATURE.findall(line))
    zones = {name: value for name, value in told if value > _OFF and not is_dummy(name)}
    found: dict[str, Any] = {"celsius": zones} if zones else {}
    return {**found, "watts": whole_board(rails), "rails": rails} if rails else found


class Tegrastats:
    """The tool, running; its newest line is what :meth:`read` gives.

    Raises:
        OSError: it cannot be started.
    """

    source = "tegrastats"

    def __init__(self, program: str, interval_ms: int) -> None:
        self._process = subprocess.Popen(
            [program, "--interval", str(interval_ms)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout

    @classmethod
    def here(cls, interval_ms: int) -> Tegrastats | None:
        """The tool of this machine; None where there is none."""
        program = shutil.which("tegrastats")
        return None if program is None else cls(program, interval_ms)

    def read(self) -> dict[str, Any]:
        """The next line; the tool sets the pace."""
        return parse_tegrastats(self._lines.readline().decode("ascii", "replace"))

    def close(self) -> None:
        """End the tool."""
        self._process.terminate()
        self._process.wait()
