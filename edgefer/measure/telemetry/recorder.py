"""Starts and ends the process that watches, and reads what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import edgefer
from edgefer.measure.telemetry.recording import Recording
from edgefer.progress import announce

INTERVAL = 0.2
"""Seconds between readings: a few per thousand of one core."""

_START_SECONDS = 10.0


class Recorder:
    """A context manager; :attr:`recording` is what was seen, to the last reading.

    Where no second process can be started, that is said once and the recording stays empty.

    Args:
        interval: seconds between readings.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Any = None

    def __enter__(self) -> Recorder:
        self._output = tempfile.TemporaryFile()
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        home = str(Path(edgefer.__file__).resolve().parents[1])
        command = [sys.executable, "-m", "edgefer.measure.telemetry.process", "--pid", str(os.getpid())]
        options = ["--interval", str(self._interval), "--cores", ",".join(map(str, sorted(cores)))]
        search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": search},
            )
        except OSError as cause:
            announce(f"note: no telemetry: its process cannot be started ({cause.strerror or cause})")
            return self
        deadline = time.monotonic() + _START_SECONDS
        while not os.fstat(self._output.fileno()).st_size and self._process.poll() is None:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)  # it is up before anything is timed
        if not os.fstat(self._output.fileno()).st_size:
            announce("note: no telemetry: its process gave no reading")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._output.close()

    def recording(self) -> Recording:
        """All readings so far; to be called inside the block."""
        content = os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0)
        whole = content[: content.rfind(b"\n") + 1]
        return Recording(tuple(json.loads(line) for line in whole.splitlines()), self._interval)
