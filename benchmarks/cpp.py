#!/usr/bin/env python3
"""The C++ camera app against the Python one: `python benchmarks/cpp.py`, about seven minutes on two cores.

Both are started as a user starts them, on the same engine (the shipped mini_xception, FP32, OpenVINO), the same YuNet
and the same films of 640×480 with one and with four faces in motion (scenes.py), and take turns. The films are
played as fast as it goes, every frame, for frames a second; at their own 30 frames a second for frame to label and
processor time; a single picture tells how long it takes from nothing to a label. What both wrote is compared face by
face.

Build the program first (make cpp), or name it with --program.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from camera import YUNET, film_faces
from cpp_run import Done, Plan, engine_call_ms, found_program, labels_alike, run, start_up_seconds
from ending import conclude, destination, one_error
from scenes import FPS, FRAMES, make_video
from sources import REPOSITORY, real_faces

from edgefer import BuildTarget, build_engine
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.measure.environment import Usage, busy_before, describe_environment, others_since, too_busy
from edgefer.progress import announce

RESULTS = REPOSITORY / "benchmarks" / "results" / "cpp.json"
NETWORK = "mini_xception"
CPP, PYTHON = "C++", "Python"

FULL = Plan(rounds=5, frames=1200, paced_frames=600, starts=7, engine_seconds=8.0, watch_seconds=2.0)
QUICK = Plan(rounds=1, frames=40, paced_frames=30, starts=1, engine_seconds=0.3, watch_seconds=0.2)


@click.command()
@click.option("--quick", is_flag=True, help="To see that it works; no figure is worth anything.")
@click.option("--data", metavar="DATA", help="A data set; its test faces are pasted into scenes.")
@click.option("--yunet", default=str(YUNET) if YUNET.is_file() else "yunet", help="The file, or 'yunet': download.")
@click.option("--program", type=click.Path(path_type=Path), help="edgefer_camera; what make cpp built if absent.")
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(quick: bool, data: str | None, yunet: str, program: Path | None, output: Path | None) -> None:
    """Measure the C++ app beside the Python app."""
    with one_error():
        path = destination(RESULTS, output, part=quick)
        conclude({"quick": quick, **measure(QUICK if quick else FULL, data, yunet, found_program(program))}, path)


def measure(plan: Plan, data: str | None, yunet: str, program: Path) -> dict[str, Any]:
    """Everything, for JSON."""
    started = time.monotonic()
    if yunet == "yunet":
        from edgefer.camera.detectors import yunet_file

        yunet = str(yunet_file())
    busy = busy_before(plan.watch_seconds)  # before anything is prepared, which would look like others' work
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(NETWORK, folder / "model.onnx")
        engine = folder / "engine.onnx"
        build_engine(folder / "model.onnx", engine, precision="fp32", target=BuildTarget("cpu", "openvino"))
        found = real_faces(data, folder)
        faces = film_faces(None if found is None else found[0].part("test"))
        films = {count: write_film(folder / f"{count}.avi", faces[:count], plan.frames) for count in (1, 4)}
        picture = folder / "picture.png"
        cv2.imwrite(str(picture), make_video(faces[:1]).frames[0])
        both = [str(engine), "--detector", yunet, "--no-window"]
        programs = {
            CPP: [str(program), *both],
            PYTHON: [sys.executable, "-m", "edgefer", "camera", *both, "--detector-runtime", "openvino"],
        }
        environment = {**describe_environment(), "opencv": cv2.__version__}
        start = Usage.now()
        measured = {str(count): _film(plan, film, programs, folder) for count, film in films.items()}
        announce(f"start-up, {plan.starts} times each")
        start_up = {name: start_up_seconds(command, picture, plan.starts) for name, command in programs.items()}
        announce("parts of a frame, and the engine alone")
        bench = {str(count): _bench(plan, programs[CPP], film, folder) for count, film in films.items()}
        engine_ms = {CPP: bench["1"]["engine"], PYTHON: engine_call_ms(engine, plan.engine_seconds)}
        others = others_since(start)
    if others is not None and too_busy(others):
        busy.append(f"other processes used {others:.2f} cores during the run")
    return {
        "benchmark": "cpp",
        "quiet": not busy,
        "busy": busy,
        "seconds": round(time.monotonic() - started),
        "environment": environment,
        "program": bench["1"]["environment"],
        "network": f"{NETWORK} FP32, OpenVINO",
        "faces": "drawn" if found is None else found[1],
        "films": measured,
        "start_up_s": start_up,
        "engine_ms": engine_ms,
        "frame": {count: values["camera"] for count, values in bench.items()},
        "bytes": {path.name: path.stat().st_size for path in _files(program)},
    }


def write_film(path: Path, faces: list[Any], frames: int) -> Path:
    """The film that goes round, as an MJPEG file of so many frames."""
    film = make_video(faces)
    height, width = film.frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (width, height))
    for number in range(frames):
        writer.write(film.frames[number % FRAMES])
    writer.release()
    return path


def _film(plan: Plan, film: Path, programs: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Rounds in which both take turns; medians of the rounds, ratios medians of each round's."""
    announce(f"faces: {film.stem}; {plan.rounds} rounds, then at {FPS:g} frames a second")
    rounds: dict[str, list[Done]] = {name: [] for name in programs}
    events = {name: folder / f"{film.stem}-{index}.jsonl" for index, name in enumerate(programs)}
    for _ in range(plan.rounds):
        for name, command in programs.items():
            rounds[name].append(run([*command, "--source", str(film), "--events", str(events[name])]))
    slowly = ["--source", str(film), "--events", str(folder / "paced.jsonl"), "--realtime"]
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


def _bench(plan: Plan, command: list[str], film: Path, folder: Path) -> dict[str, Any]:
    """What the C++ app says of itself at the film's own speed, where its threads do not wait for each other's core.

    --serve has the overlay drawn, as a window would, and nobody looks; --events has the labels written.
    """
    arguments = [*command, "--bench", "--seconds", str(plan.engine_seconds), "--source", str(film), "--realtime"]
    arguments += ["--serve", "0", "--events", str(folder / "bench.jsonl")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeferError(f"{command[0]} --bench failed: {done.stderr.strip()}", hint="run it by hand")
    found: dict[str, Any] = json.loads(done.stdout)
    camera = {key: value for key, value in found["camera"].items() if key != "source"}  # a temporary path
    return {"camera": camera, "engine": found["latency_ms"], "environment": found["environment"]}


def _files(program: Path) -> list[Path]:
    """The program and our own library, whose links are followed; not OpenCV and OpenVINO, which Python has too."""
    libraries = {path.resolve() for path in program.parents[1].glob("libedgefer.so*")}
    return [program, *sorted(libraries)]


if __name__ == "__main__":
    main()
