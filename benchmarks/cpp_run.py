"""One run of either camera app as a process: what it says, what it used, what it wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.measure.latency import interleave

REPOSITORY = Path(__file__).resolve().parents[1]
_LOOK = 0.05
_FRAMES = re.compile(r"([\d,]+) frames shown in ([\d.]+) s(?:, ([\d.]+) fps)?")
_AGES = re.compile(r"frame to label ([\d.]+) ms \(p50\), ([\d.]+) ms \(p95\)")
_DROPPED = re.compile(r"([\d,]+) of [\d,]+ frames dropped")


@dataclass(frozen=True)
class Plan:
    """Rounds of so many frames; frames at the film's own speed; starts; seconds of engine calls, and of watching."""

    rounds: int
    frames: int
    paced_frames: int
    starts: int
    engine_seconds: float
    watch_seconds: float


@dataclass(frozen=True)
class Done:
    """What a run of an app said in its last line, and what the system says of it.

    Attributes:
        frames, fps: shown, and shown a second from the first to the last.
        ages_ms: frame to label, p50 and p95; None where frames waited.
        dropped: frames.
        cores: processor seconds a second of the run, start-up included.
        rss_mb: largest resident set.
    """

    frames: int
    fps: float
    ages_ms: tuple[float, float] | None
    dropped: int
    cores: float
    rss_mb: float

    def paced(self) -> dict[str, Any]:
        """Of a run at the film's own speed."""
        p50, p95 = self.ages_ms or (None, None)
        return {
            "frames": self.frames,
            "frame_to_label_p50_ms": p50,
            "frame_to_label_p95_ms": p95,
            "dropped": self.dropped,
            "cores": self.cores,
        }


def found_program(named: Path | None) -> Path:
    """``named``, or the edgefer_camera that ``make cpp`` builds: never one with sanitizers, which is far slower.

    Raises:
        EdgeferError: there is none.
    """
    path = named or REPOSITORY / "cpp_demo" / "build" / "cpu" / "app" / "edgefer_camera"
    if not path.is_file():
        raise EdgeferError(f"there is no edgefer_camera at {path}", hint="make cpp builds it; --program names it")
    return path.resolve()


def run(command: list[str]) -> Done:
    """Run an app to its end.

    Raises:
        EdgeferError: it failed, or its last line is not as expected.
    """
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=_environment())
        resident, ended = 0.0, 0
        while not ended:
            # The system's own maximum would count what this process held when it was copied for the new one.
            resident = max(resident, _resident_mb(process.pid))
            time.sleep(_LOOK)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    shown = _FRAMES.search(text)
    if process.returncode or shown is None or shown[3] is None:
        raise EdgeferError(f"{' '.join(command)} failed: {text.strip()}", hint="run it by hand")
    ages, dropped = _AGES.search(text), _DROPPED.search(text)
    return Done(
        frames=_number(shown[1]),
        fps=float(shown[3]),
        ages_ms=None if ages is None else (float(ages[1]), float(ages[2])),
        dropped=0 if dropped is None else _number(dropped[1]),
        cores=(used.ru_utime + used.ru_stime) / seconds,
        rss_mb=resident,
    )


def _resident_mb(pid: int) -> float:
    """The largest resident set so far; 0 where the process has just ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 0.0 if found is None else int(found[1]) * 1024 / 1e6


def start_up_seconds(command: list[str], picture: Path, times: int) -> dict[str, Any]:
    """From starting the process to its first event, on a picture with a face: median, and each time.

    Raises:
        EdgeferError: no event came.
    """
    taken = []
    for _ in range(times):
        start = time.monotonic()
        with subprocess.Popen(
            [*command, "--source", str(picture), "--events", "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            taken.append(time.monotonic() - start)
            process.stdout.read()
        if not line:
            raise EdgeferError(f"{' '.join(command)} finds no face in {picture}", hint="run it by hand")
    return {"median": float(np.median(taken)), "each": taken}


def engine_call_ms(engine: Path, seconds: float) -> dict[str, Any]:
    """A call with one golden face in Python: p50, p90, p95, p99 and n, as the C++ app's --bench has them."""
    with load_engine(engine) as classifier:
        faces = golden_faces(classifier.contract, 1)
        timed = interleave({"python": lambda: classifier.logits(faces)}, seconds=seconds)
        return dict(timed.latency("python").to_dict())


def labels_alike(one: Path, other: Path) -> dict[str, Any]:
    """Faces that both events files have (frame and track), and the share of them with the same label."""
    first, second = ({(e["frame"], e["track"]): e["label"] for e in _events(path)} for path in (one, other))
    both = first.keys() & second.keys()
    alike = sum(first[key] == second[key] for key in both)
    return {
        "faces": len(first.keys() | second.keys()),
        "in_both": len(both),
        "share": alike / len(both) if both else None,
    }


def _events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _environment() -> dict[str, str]:
    """Without a display, and with the repository's own edgefer first."""
    kept = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    before = [str(REPOSITORY), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(before)}
