#!/usr/bin/env python3
"""The camera app against the loop of the tutorials: `python benchmarks/camera.py`, about nine minutes on two cores.

A video of 640×480 with one and with four faces in real motion, generated and known frame by frame. The loop (Haar 1.3/5
on every frame, PyTorch eager for each face, no threads) and the app with Haar and with YuNet take turns on it; the
overlay is drawn in all. Then the app at a source of 30 frames per second: processor time, frame to label, drops; then
its memory over 20,000 frames; then single pictures: how many faces are found, how well they are cut out, and what that
costs.

Faces come from FER2013 where it lies beside the repository (--data DATA takes another set): those of the video are the
first in which the loop's own detector finds a face. Without any, synthetic faces are used and stills are left out.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from common import REPOSITORY, Watch, busy_mark, faces_of, memory, options, real_faces, run, table
from numpy.typing import NDArray
from scenes import FPS, BoxCounter, Place, Video, VideoSource, anywhere, make_video, overlap, paste, room, tutorial_loop

from edgefer.camera.app import App, Options
from edgefer.camera.detection import Detector, cut
from edgefer.camera.detectors import open_detector
from edgefer.camera.status import Summary
from edgefer.data import FaceSet, synthetic_faces
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_baseline, load_engine
from edgefer.errors import EdgeferError
from edgefer.faces import prepare_batch
from edgefer.graph.export import export
from edgefer.measure.accuracy import Predictions, wilson_interval
from edgefer.measure.environment import available_cores
from edgefer.measure.paired import Paired
from edgefer.progress import announce

YUNET = REPOSITORY.parent / "shared" / "detectors" / "face_detection_yunet_2023mar.onnx"
NETWORK = "mini_xception"
LOOP, HAAR, YUNET_APP = "tutorials' loop", "app, Haar", "app, YuNet"
SIDES = (64, 96, 144, 200)
TILTS = (0.0, 10.0, 20.0)
ROOMS = 25  # shares no factor with the twelve pairs of side and tilt
_NEAR = 0.5
"""A detection belongs to the face if its centre lies within this share of the face's side."""


@dataclass(frozen=True)
class Plan:
    """How long: rounds of frames for the loop and for the app; seconds at 30 fps; frames for memory; stills."""

    rounds: int
    loop_frames: int
    app_frames: int
    paced_seconds: float
    memory_frames: int
    stills: int


FULL = Plan(5, 240, 1200, 20.0, 20_000, 2400)
QUICK = Plan(1, 12, 40, 0.5, 60, 24)


@dataclass(frozen=True)
class Bench:
    """What is measured with what: detectors of the app by name, its engine, and the loop's network in PyTorch."""

    plan: Plan
    detectors: dict[str, Detector]
    engine: Classifier
    eager: Classifier


@click.command()
@options("camera")
@click.option("--data", metavar="DATA", help="A data set; its test faces are pasted into scenes.")
@click.option("--yunet", default=str(YUNET) if YUNET.is_file() else "yunet", help="The file, or 'yunet': download.")
def main(quick: bool, data: str | None, yunet: str, output: Path | None) -> None:
    """Measure the camera app beside the tutorials' loop."""
    run("camera", quick, output, lambda watch: measure(QUICK if quick else FULL, data, yunet, watch))


def measure(plan: Plan, data: str | None, yunet: str, watch: Watch) -> dict[str, Any]:
    watch.environment["opencv"] = cv2.__version__
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = real_faces(data, folder)
        test = None if found is None else found[0].picked_or("test")
        export(NETWORK, folder / "model.onnx")
        detectors = {HAAR: open_detector("haar"), YUNET_APP: open_detector(yunet)}
        with (
            load_engine(folder / "model.onnx") as engine,
            load_baseline(NETWORK, threads=available_cores()) as eager,
        ):
            pool, bench = video_faces(test), Bench(plan, detectors, engine, eager)
            videos, paced = {}, {}
            with watch.over("the videos"):
                for count in (1, 4):
                    announce(f"{faces_of(str(count))}: {plan.rounds} rounds of {LOOP}, {HAAR}, {YUNET_APP}")
                    video = make_video(pool[:count])
                    videos[str(count)] = _video(bench, video)
                    announce(f"the same at {FPS:g} frames per second, {plan.paced_seconds:g} s each")
                    paced[str(count)] = _paced(bench, video)
            announce(f"memory over {plan.memory_frames:,} frames")
            memory = _memory(plan, make_video(pool[:1]), detectors[YUNET_APP], engine)
            stills = None
            if test is not None:
                chosen = test.stratified(min(plan.stills, len(test)), seed=0)
                announce(f"{len(chosen)} faces in scenes")
                stills = measure_stills(chosen, {"haar": detectors[HAAR], "yunet": detectors[YUNET_APP]}, engine)
    about = {"network": NETWORK, "faces": "synthetic" if found is None else found[1]}
    return {**about, "videos": videos, "paced": paced, "memory": memory, "stills": stills}


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


def _video(bench: Bench, video: Video) -> dict[str, Any]:
    """Rounds in which all take turns; frames per second are medians of the rounds, ratios medians of each round's."""
    rounds: dict[str, list[float]] = {name: [] for name in (LOOP, *bench.detectors)}
    counters: dict[str, BoxCounter] = {}
    for _ in range(bench.plan.rounds):
        for name, speeds in rounds.items():
            count = bench.plan.loop_frames if name == LOOP else bench.plan.app_frames
            counters[name], seconds, _ = _run(bench, name, VideoSource(video, count), video)
            speeds.append(counters[name].frames / seconds)
    return {
        name: {
            "fps": float(np.median(values)),
            "fps_rounds": values,
            "over_loop": float(np.median(np.array(values) / np.array(rounds[LOOP]))),
            "right_boxes": counters[name].share,
        }
        for name, values in rounds.items()
    }


def _run(bench: Bench, name: str, source: VideoSource, video: Video) -> tuple[BoxCounter, float, Summary | None]:
    start = time.monotonic()
    if name == LOOP:
        cv2.setNumThreads(available_cores())
        counter = tutorial_loop(source, video, bench.eager)
        return counter, time.monotonic() - start, None
    cv2.setNumThreads(1)  # as the command does: the stages share the cores
    counter = BoxCounter(video)
    summary = App(source, bench.detectors[name], bench.engine, [counter], Options()).run()
    return counter, time.monotonic() - start, summary


def _paced(bench: Bench, video: Video) -> dict[str, Any]:
    """At 30 frames per second: cores used, frame to label, drops. The loop reads all that it can, and drops nothing."""
    result = {}
    for name in (LOOP, *bench.detectors):
        used = time.process_time()
        source = VideoSource(video, round(bench.plan.paced_seconds * FPS), FPS)
        counter, seconds, summary = _run(bench, name, source, video)
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
                marks.append(memory("VmRSS") / 1e6)
            return True

        def close(self) -> None:
            pass

    App(VideoSource(video, plan.memory_frames), detector, engine, [Watch()], Options()).run()
    return {"frames": plan.memory_frames, "resident_mb": marks, "grown_mb": marks[-1] - marks[1]}


def measure_stills(
    faces: FaceSet, detectors: dict[str, Detector], classifier: Classifier, seed: int = 0
) -> dict[str, Any]:
    """Each of ``faces`` pasted into a scene of 640×480 at one of the sides and tilts, in turn, either way.

    Returns:
        For each detector and for ``level=False``: the share found (with Wilson interval, and by side and tilt), the
        crops' intersection over union with the pasted square, wrong finds, and the accuracy on what was found, paired
        with that of the faces themselves.
    """
    generator = np.random.default_rng(seed)
    rooms = [room(generator) for _ in range(ROOMS)]
    cells = itertools.cycle(itertools.product(SIDES, TILTS))
    seen = {name: _Seen() for name in detectors}
    for row in range(len(faces)):
        side, tilt = next(cells)
        place = anywhere(float(side), float(generator.choice([-1, 1])) * tilt, generator)
        scene = rooms[row % len(rooms)].copy()
        paste(scene, faces.images([row])[0].squeeze(), place)
        for name, detector in detectors.items():
            found = detector.detect(scene)
            near = [d for d in found if np.hypot(d.crop.x - place.x, d.crop.y - place.y) < _NEAR * place.side]
            seen[name].wrong += len(found) - len(near)
            seen[name].cells.append((side, tilt, bool(near)))
            if near:
                crop, contract = near[0].crop, classifier.contract
                seen[name].rows.append(row)
                seen[name].overlaps.append(overlap(crop, place.square))
                seen[name].level.append(cut(scene, crop, contract))
                seen[name].as_is.append(cut(scene, crop, contract, level=False))
    evaluated = {name: _evaluated(faces, classifier, found) for name, found in seen.items()}
    return {"faces": len(faces), "sides": list(SIDES), "tilts": list(TILTS), "detectors": evaluated}


@dataclass
class _Seen:
    """What a detector made of the scenes; ``rows`` are the faces that it found, the lists after that theirs."""

    cells: list[tuple[int, float, bool]] = field(default_factory=list)
    wrong: int = 0
    rows: list[int] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    level: list[NDArray[np.uint8]] = field(default_factory=list)
    as_is: list[NDArray[np.uint8]] = field(default_factory=list)


def _evaluated(faces: FaceSet, classifier: Classifier, seen: _Seen) -> dict[str, Any]:
    hits = [hit for _, _, hit in seen.cells]

    def share_by(key: int) -> dict[str, float]:
        values = sorted({cell[key] for cell in seen.cells})
        return {f"{v:g}": float(np.mean([cell[2] for cell in seen.cells if cell[key] == v])) for v in values}

    result: dict[str, Any] = {
        "found": {"share": float(np.mean(hits)), "ci95": list(wilson_interval(sum(hits), len(hits)))},
        "found_by_side": share_by(0),
        "found_by_tilt": share_by(1),
        "wrong_finds": seen.wrong,
    }
    if not seen.rows:
        return result
    subset = faces.subset(np.array(seen.rows))
    groups = subset.group_keys().astype(np.int64)

    def answers(pictures: NDArray[np.uint8], name: str) -> Predictions:
        values = classifier.probabilities_of_all(pictures)
        return Predictions(values, subset.labels, classifier.contract.labels, subset.fingerprint(), name, groups)

    direct = prepare_batch(subset.images(np.arange(len(subset))), classifier.contract)
    baseline = answers(direct, "the faces themselves")
    p10, median = np.percentile(seen.overlaps, (10, 50))
    result["crop_iou"] = {"mean": float(np.mean(seen.overlaps)), "p10": float(p10), "median": float(median)}
    result["top1_direct"] = baseline.top1
    for kind, pictures in (("level", seen.level), ("as_is", seen.as_is)):
        found = answers(np.stack(pictures), kind)
        result[kind] = {"top1": found.top1, **Paired.from_predictions(baseline, found).to_dict()}
    return result


def page(result: dict[str, Any]) -> str:
    """Videos, the paced source, memory and single pictures: a table each."""
    environment, memory = result["environment"], result["memory"]
    parts = [
        f"{environment['cpu']}, {environment['cores']} cores, OpenCV {environment['opencv']}, {result['network']} in "
        f"FP32, faces: {result['faces']}. A box is right from an intersection over union of 0.5 on. The app is at its "
        "defaults (faces from 60 pixels on, searched for on every third frame, bars drawn); the loop searches each "
        "frame for faces from 24 pixels on, as tutorials do.",
        *busy_mark(result),
    ]
    for count, rows in result["videos"].items():
        head = ["frames/s", "over the loop", "right boxes", "cores at 30 fps", "frame to label p95, ms", "dropped"]
        lines = []
        for name, row in rows.items():
            slow = result["paced"][count][name]
            lines.append([name, f"{row['fps']:.0f}", f"{row['over_loop']:.1f}×", f"{100 * row['right_boxes']:.1f} %"])
            lines[-1] += [f"{slow['cores']:.2f}", f"{slow['frame_to_label_p95_ms']:.1f}"]
            lines[-1].append("–" if slow["dropped"] is None else str(sum(slow["dropped"].values())))
        parts.append(table([f"{faces_of(count)}, 640×480", *head], lines))
    parts.append(
        f"Memory over {memory['frames']:,} frames: {memory['grown_mb']:+.1f} MB from the second tenth to the last, "
        f"{memory['resident_mb'][-1]:.0f} MB in all."
    )
    return "\n\n".join([*parts, *(_stills(result["stills"]) if result["stills"] else ())])


def _stills(stills: dict[str, Any]) -> list[str]:
    head = ["", "found", "by side", "by tilt", "wrong finds", "crop IoU, mean"]
    head += ["top-1 of the faces", "as cut", "lost, points"]
    lines = []
    for name, row in stills["detectors"].items():
        low, high = row["found"]["ci95"]
        for kind, title in (("level", "upright"), ("as_is", "as they are")):
            evaluated = row[kind]
            interval = " … ".join(f"{v:+.1f}" for v in evaluated["ci95_pp"])
            lines.append([f"{name}, {title}"])
            lines[-1].append(f"{100 * row['found']['share']:.1f} % ({100 * low:.1f} … {100 * high:.1f})")
            lines[-1] += [
                " / ".join(f"{100 * v:.0f}" for v in row[f"found_by_{key}"].values()) for key in ("side", "tilt")
            ]
            lines[-1] += [str(row["wrong_finds"]), f"{row['crop_iou']['mean']:.2f}"]
            lines[-1] += [f"{100 * row['top1_direct']:.1f} %", f"{100 * evaluated['top1']:.1f} %"]
            lines[-1].append(f"{evaluated['drop_pp']:+.1f} ({interval})")
    note = (
        f"{stills['faces']:,} test faces pasted into scenes with sides of {'/'.join(map(str, stills['sides']))} pixels "
        f"and tilts of {'/'.join(f'{tilt:g}' for tilt in stills['tilts'])}°. Accuracies are of the faces that were "
        "found, paired with the same faces given to the network directly."
    )
    return [note, table(head, lines)]


if __name__ == "__main__":
    main()
