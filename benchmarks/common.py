"""What every benchmark shares: its faces, its watch for other processes, engines that take turns, JSON and tables."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import atomic_path, write_text
from edgefer.data import FaceSet, open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError, require
from edgefer.measure.disturbance import LoadMeter, busy_before, too_busy
from edgefer.measure.environment import describe_environment
from edgefer.measure.latency import Estimate, Interleaved, interleave
from edgefer.progress import announce

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
BESIDE = REPOSITORY.parent / "shared" / "data" / "fer2013"
"""Where FER2013 (not ours to ship) is looked for if --data is not given: train.npz and public_test.npz."""
UNKNOWN = "–"
Plot = Callable[[dict[str, Any], Any], str]
"""Fills in two charts and gives the picture's title."""
SMALLEST = "To see that it works; no figure is worth anything."


def options(name: str, quick: str = SMALLEST) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every script: --quick, and --output where ``name``'s results are not to go."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        help_text = f"JSON; benchmarks/results/{name}.json if absent."
        function = click.option("--output", type=click.Path(path_type=Path), help=help_text)(function)
        return click.option("--quick", is_flag=True, help=quick)(function)

    return add


def run(
    name: str,
    quick: bool,
    output: Path | None,
    measure: Callable[[Watch], dict[str, Any]],
    *,
    part: bool = False,
    plot: Plot | None = None,
    watch_first: bool = True,
) -> dict[str, Any]:
    """A whole benchmark: ``measure`` gives its results, which are written with what was watched meanwhile."""
    with one_error():
        path = destination(name, output, part=quick or part)
        watch = Watch((0.2 if quick else 2.0) if watch_first else 0)
        result = watch.result(name, quick=quick, **measure(watch))
        conclude(result, path, plot)
        return result


@contextmanager
def one_error() -> Iterator[None]:
    """Print an :class:`EdgeferError` as the commands do, and end with its exit code."""
    try:
        yield
    except EdgeferError as fault:
        announce(f"error: {fault}")
        sys.exit(fault.exit_code)


def destination(name: str, output: Path | None, *, part: bool) -> Path:
    """Where results go: ``output``, or the file of ``name`` that pages are made of, which gets only whole runs.

    Raises:
        EdgeferError: it would get a part of a run, or a quick one.
    """
    if output is None and part:
        raise EdgeferError(
            f"{name}.json holds whole runs, and this one is not", hint="--output FILE.json keeps it apart"
        )
    return output or RESULTS / f"{name}.json"


class Watch:
    """What else the machine did during a benchmark: reasons not to believe its seconds.

    Args:
        seconds: to watch it before the start; 0 for not at all.
    """

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self.busy = busy_before(seconds) if seconds else []
        for reason in self.busy:
            announce(f"warning: {reason}: the results will be marked")
        self.environment = describe_environment()

    @contextmanager
    def over(self, what: str) -> Iterator[None]:
        """Watch for other processes during the block."""
        meter = LoadMeter()
        yield
        if (load := meter.read()) is not None and too_busy(load):
            self.busy.append(f"{what}: {load.sentence()}")

    def result(self, name: str, **results: Any) -> dict[str, Any]:
        """The results of the benchmark ``name``, for JSON."""
        seconds = round(time.monotonic() - self._started)
        about = {"quiet": not self.busy, "busy": self.busy, "seconds": seconds, "environment": self.environment}
        return {"benchmark": name, **about, **results}


def conclude(result: Mapping[str, Any], path: Path, plot: Plot | None = None) -> None:
    """Write ``result`` as JSON, and its picture beside it; say what was demanded of it, and what kept it busy."""
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if plot is not None:
        _draw(dict(result), path.with_suffix(".png"), plot)
    announce(f"written: {path}" if plot is None else f"written: {path} and {path.with_suffix('.png').name}")
    for reason in result.get("busy", ()):
        announce(f"warning: seconds are not to be believed: {reason}")
    for demand in result.get("demands", ()):
        click.echo(f"{'PASS' if demand['passed'] else 'FAIL'}: {demand['demand']}: {demand['measured']}")


def _draw(result: dict[str, Any], path: Path, plot: Plot) -> None:
    """Two charts beside each other, over the number of faces: ``plot`` fills them in and gives the title."""
    require("matplotlib", "dev", "drawing the plot").use("Agg")
    from matplotlib import pyplot

    figure, charts = pyplot.subplots(1, 2, figsize=(10, 4.2), dpi=150, layout="constrained")
    counts = sorted({row["faces"] for row in result["rows"]})
    for axes in charts:
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.set_xlabel("Faces")
        axes.grid(visible=True, which="major", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    title = plot(result, charts)
    charts[0].legend(frameon=False)
    mark = "" if result["quiet"] else "; measured on a busy machine: times are not to be believed"
    figure.suptitle(f"{title}{mark}", fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    pyplot.close(figure)


def call(what: str, command: Sequence[str | Path], output: Path | None = None, **given: Any) -> str:
    """Run a program to its end; what it said on stdout.

    Raises:
        EdgeferError: it failed, or did not write ``output``; says its last line.
    """
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **given)
    if done.returncode or (output is not None and not output.is_file()):
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise EdgeferError(f"{what} failed with exit code {done.returncode}: {said}", hint="run it by hand")
    return str(done.stdout)


def memory(key: str, pid: int | str = "self") -> int:
    """Bytes that /proc tells of a process (VmRSS, VmHWM, RssAnon); 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(rf"^{key}:\s*(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def real_faces(data: str | None, folder: Path) -> tuple[FaceSet, str] | None:
    """``data``, or FER2013 beside the repository, with what to call it in results; None if there is neither."""
    if data is not None:
        return open_dataset(data), Path(data).name
    if not (BESIDE / "train.npz").is_file() or not (BESIDE / "public_test.npz").is_file():
        announce("no data set: accuracies are left out, ranges come from synthetic faces (--data DATA has both)")
        return None
    # One file with both parts, so that training faces which also are test faces are found and left out.
    parts = {
        name: open_dataset(f"{BESIDE / file}:all")
        for name, file in (("train", "train.npz"), ("test", "public_test.npz"))
    }
    images = np.concatenate([faces.images(np.arange(len(faces))) for faces in parts.values()])
    labels = np.concatenate([faces.labels for faces in parts.values()])
    splits = [name for name, faces in parts.items() for _ in range(len(faces))]
    save_npz(folder / "fer2013.npz", images, labels, FER2013, splits)
    return open_dataset(folder / "fer2013.npz"), "FER2013"


def synthetic_set(count: int, path: Path) -> FaceSet:
    """``count`` synthetic faces, all in the split ``train``."""
    images, labels = synthetic_faces(count, seed=1)
    save_npz(path, images, labels, FER2013, ["train"] * count)
    return open_dataset(f"{path}:train")


REST = 0.08
"""Seconds of sleep when the turn passes from one runtime to another, if there is more than one thread.

Worker threads spin after a call, waiting for the next. With two threads, processor time burnt while the main thread
slept, after one call of mini_xception on two cores of an EPYC: onnxruntime 1.31 39 ms, PyTorch 2.13 (OpenMP) 8 to 11
ms, OpenVINO 2026.4 (TBB) 1.5 ms. So a row that follows onnxruntime would have one core of two for 39 ms, which is all
of a turn of a small network, and the order would decide who is fast. Turning the spinning off would be fair too, but
it is how these runtimes are shipped: so each keeps it during its own turn, and nobody pays for another's. With one
thread there are no workers and nothing spins."""

SETTLE = 0.005
"""Seconds of untimed calls after that, so that clock and caches are back; at least one more is interleave's own."""


@dataclass(frozen=True)
class Effort:
    """How long to time: seconds for all rows together, a minimum of rounds, and calls per row in each."""

    seconds: float
    rounds: int
    calls: int


def take_turns(
    engines: Mapping[str, Classifier], batches: list[NDArray[np.uint8]], threads: int, effort: Effort
) -> Interleaved:
    """Time all ``engines`` on ``batches`` in one interleaved run, without one disturbing the next."""
    turn = ""

    def runner(name: str, engine: Classifier) -> Callable[[], object]:
        faces = itertools.cycle(batches)

        def run() -> object:
            nonlocal turn
            if turn != name:  # never within a timed call: interleave begins a turn with an untimed one
                turn = name
                if threads > 1:
                    time.sleep(REST)
                until = time.perf_counter() + SETTLE
                while time.perf_counter() < until:
                    engine.logits(next(faces))
            return engine.logits(next(faces))

        return run

    runners = {name: runner(name, engine) for name, engine in engines.items()}
    return interleave(runners, seconds=effort.seconds, min_rounds=effort.rounds, calls=effort.calls)


def as_json(ratio: Estimate) -> dict[str, Any]:
    return {"value": ratio.value, "ci95": list(ratio.ci95)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns are text."""
    ruler = [":--"] * left + ["--:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ruler, *rows))


def busy_mark(result: Mapping[str, Any], what: str = "") -> list[str]:
    """The sentence that a page shows beside numbers from a busy machine."""
    return [] if result["quiet"] else [f"**Measured on a busy machine: {what}not to be believed.**"]


def number(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    digits = 0 if value >= 100 else 1 if value >= 20 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def ratio(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{found['value']:.2f} [{low:.2f}, {high:.2f}]"


def faces_of(count: str) -> str:
    return f"{count} face{'s' if count != '1' else ''}"
