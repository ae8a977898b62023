#!/usr/bin/env python3
"""Every network and precision on this machine's GPU: built with TensorRT, run, compared with ONNX Runtime, and timed.

`make test-gpu` runs it after the tests that need a GPU; on its own: `python benchmarks/gpu.py`. Where there is no GPU,
or no TensorRT, it says so and ends with status 2. The results are written under the device's name. An engine that does
not build, or does not answer as its ONNX file does, is written down as failed, and the status is then 1.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from common import RESULTS, SMALLEST, Watch, conclude, one_error, synthetic_set
from numpy.typing import NDArray

import edgefer
from edgefer.contract import INPUT_NAME
from edgefer.data import FaceSet, open_dataset
from edgefer.engines.classifier import Classifier, relative_difference
from edgefer.engines.load import load_engine
from edgefer.engines.tensorrt.compat import import_tensorrt
from edgefer.engines.tensorrt.cuda import find_gpu, open_cuda, survey
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.measure.environment import describe_environment
from edgefer.measure.latency import gpu_times, interleave, watched
from edgefer.measure.telemetry import Recorder
from edgefer.models import names
from edgefer.models.weights import shipped
from edgefer.progress import announce

NETWORKS = ("mini_xception", "resnet11", "vgg9", "ddamfn")


@dataclass(frozen=True)
class Plan:
    """What to build and how long to time it; ``faces`` are compared, ``calibration`` faces set INT8 ranges."""

    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    seconds: float
    faces: int
    calibration: int


FULL = Plan(("fp32", "fp16", "int8", "int8+fp16"), (1, 8, 32), 5.0, 512, 500)
QUICK = Plan(("fp32", "int8"), (1, 8), 0.1, 16, 70)


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help=SMALLEST)
@click.option("--all", "every", is_flag=True, help=f"Every network, not only {', '.join(NETWORKS)}.")
@click.option("--data", metavar="DATA", help="A data set with train and test faces; synthetic ones if absent.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON; benchmarks/results/DEVICE.json if absent.")
@click.option("--check", is_flag=True, help="Only say whether there is a GPU with TensorRT.")
def main(
    models: tuple[Path, ...], quick: bool, every: bool, data: str | None, output: Path | None, check: bool
) -> None:
    """Build, run, compare and time MODELS (as `edgefer export` wrote them), or networks of edgefer's own."""
    with one_error():
        machine = here()
        announce(f"{machine['device']}: TensorRT {machine['tensorrt']}, CUDA {machine['cuda']}")
        if check:
            return
        with tempfile.TemporaryDirectory() as name:
            chosen = models or tuple(_exported(names() if every else NETWORKS, Path(name)))
            result = {"quick": quick, **measure(QUICK if quick else FULL, chosen, data, machine, Path(name))}
        slug = re.sub(r"[^a-z0-9]+", "_", machine["name"].lower()).strip("_")
        path = output or RESULTS / f"{slug}{'.quick' if quick else ''}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        conclude(result, path)
    sys.exit(1 if any(row["failed"] for network in result["networks"].values() for row in network) else 0)


def here() -> dict[str, Any]:
    """The device and what runs on it.

    Raises:
        EdgeferError: no driver, no GPU, no TensorRT, no CUDA package.
    """
    device = find_gpu()
    _, target = import_tensorrt(False)
    board = describe_environment()["board"]
    return {
        "name": board or device.name,
        "device": str(device),
        "tensorrt": target.name,
        "cuda": survey().cuda,
        "cuda_package": open_cuda().package,
    }


def _exported(networks: tuple[str, ...], folder: Path) -> Iterator[Path]:
    for name in networks:
        try:
            yield edgefer.export(name, folder / f"{name}.onnx", random_weights=shipped(name) is None).path
        except EdgeferError as fault:
            raise EdgeferError(
                fault.message, hint="export them on another machine and name the files: make test-gpu MODELS='a.onnx …'"
            ) from fault


def measure(
    plan: Plan, models: tuple[Path, ...], data: str | None, machine: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Everything, for JSON."""
    watch = Watch(0)
    faces = open_dataset(data) if data else synthetic_set(plan.calibration * 20, folder / "synthetic.npz")
    networks: dict[str, list[dict[str, Any]]] = {}
    with Recorder(gpu=0) as recorder, watch.over("the run"):
        for model in models:
            networks[model.stem] = _network(plan, model, faces, folder)
        recording = recorder.recording()
    watch.busy += recording.throttled()
    called = Path(data).name if data else "synthetic"
    return watch.result("gpu", machine=machine, telemetry=recording.summary(), faces=called, networks=networks)


def _network(plan: Plan, model: Path, faces: FaceSet, folder: Path) -> list[dict[str, Any]]:
    """A row per precision; the engines that were built are timed together, in turns."""
    with ExitStack() as opened:
        reference = opened.enter_context(load_engine(model))
        compared = _compared(reference, faces, plan.faces)
        wanted = reference.logits_of_all(compared)
        rows, engines = [], {}
        for precision in plan.precisions:
            announce(f"{model.stem} {precision.upper()}: building")
            row: dict[str, Any] = {"precision": precision, "failed": None}
            rows.append(row)
            began, engine = time.monotonic(), folder / f"{model.stem}.{precision}.engine"
            try:
                built = _build(plan, model, engine, precision, faces)
                row |= {"build_seconds": round(time.monotonic() - began, 1), **built}
                classifier = opened.enter_context(load_engine(engine))
                found = classifier.logits_of_all(compared)
            except EdgeferError as fault:
                row["failed"] = fault.message
                announce(f"{model.stem} {precision.upper()}: FAILED: {fault}")
                continue
            row["difference"] = relative_difference(found, wanted)
            row["agreement"] = float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
            row["timing"] = {}
            engines[precision] = (row, classifier)
        for batch in plan.batches if engines else ():
            _time(plan, batch, compared, engines)
    for row in rows:
        announce(f"{model.stem} {_told(row)}")
    return rows


def _build(plan: Plan, model: Path, engine: Path, precision: str, faces: FaceSet) -> dict[str, Any]:
    integer = precision.startswith("int8")
    result = edgefer.build_engine(
        model,
        engine,
        precision=precision,
        quantisation=edgefer.Quantisation(faces, faces=plan.calibration) if integer else None,
        target=edgefer.BuildTarget("tensorrt", builder={"max_batch": max(plan.batches)}),
    )
    manifest = cast(Any, result.manifest)
    return {"got": manifest.precision.got, "bytes": manifest.engine_bytes}


def _compared(reference: Classifier, faces: FaceSet, count: int) -> NDArray[np.uint8]:
    """The faces that answers are compared on, as the network takes them; at least a batch's worth is not needed."""
    part = faces if faces.picked is not None else faces.picked_or("test")
    spread = np.arange(min(count, len(part))) * len(part) // min(count, len(part))
    return np.concatenate([images for images, _ in part.subset(spread).batches(64, reference.contract)])


def _time(
    plan: Plan, batch: int, faces: NDArray[np.uint8], engines: dict[str, tuple[dict[str, Any], Classifier]]
) -> None:
    feed = np.ascontiguousarray(faces[np.arange(batch) % len(faces)])
    runners = {
        name: watched(classifier, partial(classifier.session.run, {INPUT_NAME: feed}))
        for name, (_, classifier) in engines.items()
    }
    timing = interleave(runners, seconds=plan.seconds, warm_up_seconds=min(2.0, plan.seconds))
    on_gpu = gpu_times(runners, timing)
    for name, (row, classifier) in engines.items():
        latency, session = timing.latency(name), cast(TensorRtSession, classifier.session)
        row["timing"][str(batch)] = {
            "latency_ms": latency.to_dict(),
            "gpu_ms": on_gpu[name].to_dict(),
            "images_per_s": batch / (latency.mean / 1000),
            "graph": session.without_graphs or "replayed",
        }


def _told(row: dict[str, Any]) -> str:
    if row["failed"]:
        return f"{row['precision'].upper()}: failed"
    first = next(iter(row["timing"].values()))
    return (
        f"{row['precision'].upper()}: {first['gpu_ms']['compute']:.3f} ms on the GPU, "
        f"{row['agreement']:.1%} of the answers as in onnxruntime FP32"
    )


if __name__ == "__main__":
    main()
