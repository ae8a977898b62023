#!/usr/bin/env python3
"""The camera app against the loop of the tutorials: `python benchmarks/camera.py`, about nine minutes on two cores.

A video of 640×480 with one and with four faces in real motion, generated and known frame by frame. The loop (Haar 1.3/5
on every frame, PyTorch eager for each face, no threads) and the app with Haar and with YuNet take turns on it; the
overlay is drawn in all. Then the app at a source of 30 frames a second: processor time, frame to label, drops; then
its memory over 20,000 frames; then single pictures (camera_stills.py).

Faces come from FER2013 where it lies beside the repository (--data DATA takes another set): those of the video are the
first in which the loop's own detector finds a face. Without any, synthetic faces are used and stills are left out.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from camera_stills import measure_stills
from ending import conclude, destination, one_error
from numpy.typing import NDArray
from scenes import FPS, BoxCounter, Place, Video, VideoSource, make_video, paste, room, tutorial_loop
from sources import REPOSITORY, real_faces

from edgefer.camera.app import App, Options, Summary
from edgefer.camera.detection import Detector
from edgefer.camera.detectors import open_detector
from edgefer.data import FaceSet, synthetic_faces
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_baseline, load_engine
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.measure.environment import (
    Usage,
    available_cores,
    busy_before,
    describe_environment,
    others_since,
    too_busy,
)
from edgefer.progress import announce

RESULTS = Path(__file__).resolve().parent / "results" / "camera.json"
YUNET = REPOSITORY.parent / "shared" / "detectors" / "face_detection_yunet_2023mar.onnx"
NETWORK = "mini_xception"
LOOP, HAAR, YUNET_APP = "tutorials' loop", "app, Haar", "app, YuNet"


@dataclass(frozen=True)
class Plan:
    """How long: rounds of so many frames for the loop and for the app; seconds at 30 fps; frames for memory; stills."""

    rounds: int
    loop_frames: int
    app_frames: int
    paced_seconds: float
    memory_frames: int
    stills: int
    watch_seconds: float


FULL = Plan(5, 240, 1200, 20.0, 20_000, 2400, 2.0)
QUICK = Plan(1, 12, 40, 0.5, 60, 24, 0.2)


@click.command()
@click.option("--quick", is_flag=True, help="To see that it works; no figure is worth anything.")
@click.option("--data", metavar="DATA", help="A data set; its test faces are pasted into scenes.")
@click.option("--yunet", default=str(YUNET) if YUNET.is_file() else "yunet", help="The file, or 'yunet': download.")
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(quick: bool, data: str | None, yunet: str, output: Path | None) -> None:
    """Measure the camera app beside the tutorials' loop."""
    with one_error():
        path = destination(RESULTS, output, part=quick)
        conclude({"quick": quick, **measure(QUICK if quick else FULL, data, yunet)}, path)


def measure(plan: Plan, data: str | None, yunet: str) -> dict[str, Any]:
    """Everything, for JSON."""
    started = time.monotonic()
    busy = busy_before(plan.watch_seconds)
    environment = {**describe_environment(), "opencv": cv2.__version__}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = real_faces(data, folder)
        test = None if found is None else found[0].part("test")
        export(NETWORK, folder / "model.onnx")
        detectors = {HAAR: open_detector("haar"), YUNET_APP: open_detector(yunet)}
        with (
            load_engine(folder / "model.onnx") as engine,
            load_baseline(NETWORK, threads=available_cores()) as eager,
        ):
            pool = video_faces(test)
            start = Usage.now()
            videos, paced = {}, {}
            for count in (1, 4):
                announce(f"{count} face{'s' if count > 1 else ''}: {plan.rounds} rounds of {LOOP}, {HAAR}, {YUNET_APP}")
                video = make_video(pool[:count])
                videos[str(count)] = _video(plan, video, detectors, engine, eager)
                announce(f"the same at {FPS:g} frames a second, {plan.paced_seconds:g} s each")
                paced[str(count)] = _paced(plan, video, detectors, engine, eager)
            others = others_since(start)
            announce(f"memory over {plan.memory_frames:,} frames")
            memory = _memory(plan, make_video(pool[:1]), detectors[YUNET_APP], engine)
            stills = None
            if test is not None:
                drawn = test.stratified(min(plan.stills, len(test)), seed=0)
                announce(f"{len(drawn)} faces in scenes")
                stills = measure_stills(drawn, {"haar": detectors[HAAR], "yunet": detectors[YUNET_APP]}, engine)
    if others is not None and too_busy(others):
        busy.append(f"other processes used {others:.2f} cores during the run")
    return {
        "benchmark": "camera",
        "quiet": not busy,
        "busy": busy,
        "seconds": round(time.monotonic() - started),
        "environment": environment,
        "network": NETWORK,
        "faces": "drawn" if found is None else found[1],
        "videos": videos,
        "paced": paced,
        "memory": memory,
        "stills": stills,
    }


def video_faces(test: FaceSet | None) -> list[NDArray[np.uint8]]:
    """Four faces in which the loop's own detector finds one when they hang still: it is not given hard ones."""
    if test is None:
        candidates = list(synthetic_faces(200, 3, 160)[0])
    else:
        candidates = list(test.images(np.random.default_rng(0).permutation(len(test))[:200]))
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    generator = np.random.default_rng(1)
    chosen: list[NDArray[np.uint8]] = []
    for face in candidates:
        finds = []
        for side, tilt in ((120.0, -8.0), (145.0, 0.0), (180.0, 8.0)):
            scene = room(generator)
            paste(scene, face.squeeze(), Place(320, 240, side, tilt))
            finds.append(len(cascade.detectMultiScale(cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY), 1.3, 5)) == 1)
        if all(finds):
            chosen.append(face.squeeze())
        if len(chosen) == 4:
            return chosen
    raise EdgeferError(f"the loop finds fewer than four of {len(candidates)} faces", hint="give another --data")


def _video(
    plan: Plan, video: Video, detectors: dict[str, Detector], engine: Classifier, eager: Classifier
) -> dict[str, Any]:
    """Rounds in which all take turns; frames a second are medians of the rounds, ratios medians of each round's."""
    rounds: dict[str, list[float]] = {name: [] for name in (LOOP, *detectors)}
    counters: dict[str, BoxCounter] = {}
    for _ in range(plan.rounds):
        for name, speeds in rounds.items():
            count = plan.loop_frames if name == LOOP else plan.app_frames
            counter, seconds, _ = _run(name, VideoSource(video, count), video, detectors, engine, eager)
            speeds.append(counter.frames / seconds)
            counters[name] = counter
    return {
        name: {
            "fps": float(np.median(values)),
            "fps_rounds": values,
            "over_loop": float(np.median(np.array(values) / np.array(rounds[LOOP]))),
            "right_boxes": counters[name].share,
        }
        for name, values in rounds.items()
    }


def _run(
    name: str,
    source: VideoSource,
    video: Video,
    detectors: dict[str, Detector],
    engine: Classifier,
    eager: Classifier,
) -> tuple[BoxCounter, float, Summary | None]:
    start = time.monotonic()
    if name == LOOP:
        cv2.setNumThreads(available_cores())
        counter = tutorial_loop(source, video, eager)
        return counter, time.monotonic() - start, None
    cv2.setNumThreads(1)  # as the command does: the stages share the cores
    counter = BoxCounter(video)
    summary = App(source, detectors[name], engine, [counter], Options()).run()
    return counter, time.monotonic() - start, summary


def _paced(
    plan: Plan, video: Video, detectors: dict[str, Detector], engine: Classifier, eager: Classifier
) -> dict[str, Any]:
    """At 30 frames a second: cores used, frame to label, drops. The loop reads what it can and drops nothing itself."""
    result = {}
    for name in (LOOP, *detectors):
        used = time.process_time()
        counter, seconds, summary = _run(
            name, VideoSource(video, round(plan.paced_seconds * FPS), FPS), video, detectors, engine, eager
        )
        result[name] = {
            "cores": (time.process_time() - used) / seconds,
            "fps": counter.frames / seconds,
            "frame_to_label_p50_ms": float(np.percentile(counter.ages, 50)),
            "frame_to_label_p95_ms": float(np.percentile(counter.ages, 95)),
            "dropped": None if summary is None else dict(summary.dropped),
            "right_boxes": counter.share,
        }
    return result


def _memory(plan: Plan, video: Video, detector: Detector, engine: Classifier) -> dict[str, Any]:
    """Resident megabytes after each tenth of the frames."""
    marks: list[float] = []

    class Watch:
        wants_picture = True

        def write(self, seen: Any) -> bool:
            if (seen.frame.number + 1) % (plan.memory_frames // 10) == 0:
                marks.append(_resident())
            return True

        def close(self) -> None:
            pass

    App(VideoSource(video, plan.memory_frames), detector, engine, [Watch()], Options()).run()
    return {"frames": plan.memory_frames, "resident_mb": marks, "grown_mb": marks[-1] - marks[1]}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
