#!/usr/bin/env python3
"""The C++ camera app against the Python one: `python benchmarks/cpp.py`, about seven minutes on two cores.

Both are started as a user starts them, on the same engine (the shipped mini_xception, FP32, OpenVINO), the same YuNet
and the same videos of 640×480 with one and with four faces in motion (scenes.py), and take turns. The videos are
played as fast as it goes, every frame, for frames per second; at their own 30 frames per second for frame to label and
processor time; a single picture tells how long it takes from nothing to a label. What both wrote is compared face by
face.

Build the program first (make cpp), or name it with --program.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from camera import YUNET, video_faces
from common import REPOSITORY, Watch, busy_mark, call, faces_of, memory, options, real_faces, table
from common import run as run_benchmark
from scenes import FPS, FRAMES, make_video

from edgefer import BuildTarget, build_engine
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.graph.export import export
from edgefer.measure.latency import interleave
from edgefer.progress import announce

NETWORK = "mini_xception"
CPP, PYTHON = "C++", "Python"
_LOOK = 0.05
_FRAMES = re.compile(r"([\d,]+) frames shown in ([\d.]+) s(?:, ([\d.]+) fps)?")
_AGES = re.compile(r"frame to label ([\d.]+) ms \(p50\), ([\d.]+) ms \(p95\)")
_DROPPED = re.compile(r"([\d,]+) of [\d,]+ frames dropped")
_PARTS = {
    "turn": "turning",
    "track": "tracking",
    "cut": "cutting out faces",
    "smooth": "smoothing",
    "draw": "overlay",
    "write": "events and stream",
}


@dataclass(frozen=True)
class Plan:
    """Rounds of frames; frames at the video's own speed; starts; seconds of engine calls."""

    rounds: int
    frames: int
    paced_frames: int
    starts: int
    engine_seconds: float


FULL = Plan(rounds=5, frames=1200, paced_frames=600, starts=7, engine_seconds=8.0)
QUICK = Plan(rounds=1, frames=40, paced_frames=30, starts=1, engine_seconds=0.3)


@click.command()
@options("cpp")
@click.option("--data", metavar="DATA", help="A data set; its test faces are pasted into scenes.")
@click.option("--yunet", default=str(YUNET) if YUNET.is_file() else "yunet", help="The file, or 'yunet': download.")
@click.option("--program", type=click.Path(path_type=Path), help="edgefer_camera; what make cpp built if absent.")
def main(quick: bool, data: str | None, yunet: str, program: Path | None, output: Path | None) -> None:
    """Measure the C++ app beside the Python app."""
    plan = QUICK if quick else FULL
    run_benchmark("cpp", quick, output, lambda watch: measure(plan, data, yunet, found_program(program), watch))


def measure(plan: Plan, data: str | None, yunet: str, program: Path, watch: Watch) -> dict[str, Any]:
    if yunet == "yunet":
        from edgefer.camera.detectors import yunet_file

        yunet = str(yunet_file())
    watch.environment["opencv"] = cv2.__version__
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(NETWORK, folder / "model.onnx")
        engine = folder / "engine.onnx"
        build_engine(folder / "model.onnx", engine, precision="fp32", target=BuildTarget("cpu", "openvino"))
        found = real_faces(data, folder)
        faces = video_faces(None if found is None else found[0].picked_or("test"))
        videos = {count: write_video(folder / f"{count}.avi", faces[:count], plan.frames) for count in (1, 4)}
        picture = folder / "picture.png"
        cv2.imwrite(str(picture), make_video(faces[:1]).frames[0])
        both = [str(engine), "--detector", yunet, "--no-window"]
        programs = {
            CPP: [str(program), *both],
            PYTHON: [sys.executable, "-m", "edgefer", "camera", *both, "--detector-runtime", "openvino"],
        }
        with watch.over("the run"):
            measured = {str(count): _video(plan, video, programs, folder) for count, video in videos.items()}
            announce(f"start-up, {plan.starts} times each")
            start_up = {name: start_up_seconds(command, picture, plan.starts) for name, command in programs.items()}
            announce("parts of a frame, and the engine alone")
            bench = {str(count): _bench(plan, programs[CPP], video, folder) for count, video in videos.items()}
            engine_ms = {CPP: bench["1"]["engine"], PYTHON: engine_call_ms(engine, plan.engine_seconds)}
    libraries = {path.resolve() for path in program.parents[1].glob("libedgefer.so*")}
    return {
        "program": bench["1"]["environment"],
        "network": f"{NETWORK} FP32, OpenVINO",
        "faces": "synthetic" if found is None else found[1],
        "videos": measured,
        "start_up_s": start_up,
        "engine_ms": engine_ms,
        "frame": {count: values["camera"] for count, values in bench.items()},
        # not OpenCV and OpenVINO, which Python has too
        "bytes": {path.name: path.stat().st_size for path in (program, *sorted(libraries))},
    }


def write_video(path: Path, faces: list[Any], frames: int) -> Path:
    """The video that goes round, as an MJPEG file of ``frames`` frames."""
    video = make_video(faces)
    height, width = video.frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (width, height))
    for number in range(frames):
        writer.write(video.frames[number % FRAMES])
    writer.release()
    return path


def _video(plan: Plan, video: Path, programs: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Rounds in which both take turns; medians of the rounds, ratios medians of each round's."""
    announce(f"faces: {video.stem}; {plan.rounds} rounds, then at {FPS:g} frames per second")
    rounds: dict[str, list[Done]] = {name: [] for name in programs}
    events = {name: folder / f"{video.stem}-{index}.jsonl" for index, name in enumerate(programs)}
    for _ in range(plan.rounds):
        for name, command in programs.items():
            rounds[name].append(run([*command, "--source", str(video), "--events", str(events[name])]))
    slowly = ["--source", str(video), "--events", str(folder / "paced.jsonl"), "--realtime"]
    slowly += ["--seconds", str(plan.paced_frames / FPS)]
    paced = {name: run([*command, *slowly]) for name, command in programs.items()}
    speeds = {name: np.array([done.fps for done in many]) for name, many in rounds.items()}
    return {
        "labels_alike": labels_alike(events[CPP], events[PYTHON]),
        "over_python": float(np.median(speeds[CPP] / speeds[PYTHON])),
        "rows": {
            name: {
                "fps": float(np.median(speeds[name])),
                "fps_rounds": speeds[name].tolist(),
                "rss_mb": float(np.median([done.rss_mb for done in rounds[name]])),
                "paced": paced[name].paced(),
            }
            for name in programs
        },
    }


def _bench(plan: Plan, command: list[str], video: Path, folder: Path) -> dict[str, Any]:
    """What the C++ app says of itself at the video's own speed, where its threads do not wait for each other's core.

    --serve has the overlay drawn, as a window would, and nobody looks; --events has the labels written.
    """
    arguments = [*command, "--bench", "--seconds", str(plan.engine_seconds), "--source", str(video), "--realtime"]
    arguments += ["--serve", "0", "--events", str(folder / "bench.jsonl")]
    found: dict[str, Any] = json.loads(call(f"{command[0]} --bench", arguments))
    camera = {key: value for key, value in found["camera"].items() if key != "source"}  # a temporary path
    return {"camera": camera, "engine": found["latency_ms"], "environment": found["environment"]}


@dataclass(frozen=True)
class Done:
    """What a run of an app said in its last line, and what the system says of it.

    Attributes:
        frames, fps: number of frames shown, and frames per second from the first to the last.
        ages_ms: frame to label, p50 and p95; None where frames waited.
        dropped: frames.
        cores: processor seconds per second of the run, start-up included.
        rss_mb: largest resident set.
    """

    frames: int
    fps: float
    ages_ms: tuple[float, float] | None
    dropped: int
    cores: float
    rss_mb: float

    def paced(self) -> dict[str, Any]:
        """Results of a run at the video's own speed."""
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
            resident = max(resident, memory("VmHWM", process.pid) / 1e6)
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
        frames=int(shown[1].replace(",", "")),
        fps=float(shown[3]),
        ages_ms=None if ages is None else (float(ages[1]), float(ages[2])),
        dropped=0 if dropped is None else int(dropped[1].replace(",", "")),
        cores=(used.ru_utime + used.ru_stime) / seconds,
        rss_mb=resident,
    )


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
    lines = ([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (one, other))
    first, second = ({(event["frame"], event["track"]): event["label"] for event in events} for events in lines)
    both = first.keys() & second.keys()
    alike = sum(first[key] == second[key] for key in both)
    return {
        "faces": len(first.keys() | second.keys()),
        "in_both": len(both),
        "share": alike / len(both) if both else None,
    }


def _environment() -> dict[str, str]:
    """Without a display, and with the repository's own edgefer first."""
    kept = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    before = [str(REPOSITORY), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(before)}


def page(result: dict[str, Any]) -> str:
    """C++ beside Python, then where a frame's milliseconds go in C++."""
    environment, program = result["environment"], result["program"]
    names = list(next(iter(result["videos"].values()))["rows"])
    parts = [
        f"{environment['cpu']}, {environment['cores']} cores; {result['network']}, YuNet in OpenVINO, one thread each; "
        f"videos of 640×480, faces: {result['faces']}. OpenCV {program['packages']['opencv']} in C++, "
        f"{environment['opencv']} in Python.",
        *busy_mark(result),
    ]
    lines = [line for count, video in result["videos"].items() for line in _video_rows(count, video, names)]
    for title, key, kind, shape in (
        ("start to first label, s", "start_up_s", "median", "{:.2f}"),
        ("engine, one face, p50, ms", "engine_ms", "p50", "{:.3f}"),
    ):
        lines.append(_row(title, [result[key][name][kind] for name in names], shape))
    parts.append(table(["", *names, "C++ over Python"], lines))
    for count, video in result["videos"].items():
        alike = video["labels_alike"]
        share = "no face" if alike["share"] is None else f"{100 * alike['share']:.2f} % with the same label"
        seen = f"{alike['in_both']:,} of {alike['faces']:,} labelled faces"
        parts.append(f"{faces_of(count)}: {seen} stand in the events of both, {share}.")
    parts.append(_overhead(result["frame"]))
    sizes = ", ".join(f"`{name}` {size / 1e3:,.0f} kB" for name, size in result["bytes"].items())
    parts.append(f"Sizes: {sizes}; OpenCV and OpenVINO come on top in both languages. No Python at run time.")
    return "\n\n".join(parts)


def _video_rows(count: str, video: dict[str, Any], names: list[str]) -> list[list[str]]:
    rows = [video["rows"][name] for name in names]
    title, paced = faces_of(count), [row["paced"] for row in rows]
    at_speed = f"{title} at 30 fps:"
    return [
        [f"{title}, frames/s", *(f"{row['fps']:.0f}" for row in rows), f"{video['over_python']:.2f}×"],
        _row(f"{at_speed} frame to label p95, ms", [run["frame_to_label_p95_ms"] for run in paced], "{:.1f}"),
        _row(f"{at_speed} cores, start-up included", [run["cores"] for run in paced], "{:.2f}"),
        [f"{at_speed} dropped", *(str(run["dropped"]) for run in paced), "–"],
        _row(f"{title}, largest resident set, MB", [row["rss_mb"] for row in rows], "{:.0f}"),
    ]


def _row(title: str, values: list[float | None], shape: str) -> list[str]:
    """C++ first; the ratio is how many times smaller its value is."""
    ours, python = values
    ratio = "–" if not ours or not python else f"{python / ours:.2f}×"
    return [title, *("–" if value is None else shape.format(value) for value in values), ratio]


def _overhead(frames: dict[str, Any]) -> str:
    """A sentence per video. Waits between the threads count as overhead, as reading the video does not."""
    sentences = []
    for count, frame in frames.items():
        overhead, parts = frame["overhead_ms"], frame["parts_ms"]
        order = sorted(_PARTS, key=lambda part: -parts[part]["mean"])
        detail = ", ".join(f"{_PARTS[part]} {parts[part]['mean']:.3f}" for part in order)
        whole = overhead["mean"] + parts["wait"]["mean"]
        verdict = "under 1 ms, as demanded" if whole < 1 else "the 1 ms demanded is missed"
        sentences.append(
            f"{faces_of(count)}: {whole:.3f} ms per frame outside reading, detection and inference, at 30 fps with the "
            f"overlay ({verdict}): {overhead['mean']:.3f} of work (p95 {overhead['p95']:.3f}: {detail}) and "
            f"{parts['wait']['mean']:.3f} of waits between the threads. Reading and decoding the video takes "
            f"{parts['read']['mean']:.3f}."
        )
    return " ".join(sentences)


if __name__ == "__main__":
    main()
