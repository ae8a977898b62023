#!/usr/bin/env python3
"""Every network and precision on this machine's GPU: built with TensorRT, run, compared with their files, and timed.

`make test-gpu` runs it with the tests that need a GPU. Nothing is lost to a surprise: each network in each precision
is a process of its own, with a log; the results are written after each, and at the end everything is packed into one
file to send back. Engines share a timing cache. Where `trtexec` is found it builds and times the same files. What
does not build, or does not answer as its ONNX file does, is written down as failed, and the status is then 1. Where
there is no GPU, or no TensorRT, it says so and ends with status 2.

A device needs neither torch nor onnxruntime: on another machine `benchmarks/gpu.py --prepare FOLDER --for jetpack6`
writes the files for TensorRT with reference answers beside them, and `benchmarks/gpu.py FOLDER` runs on the device.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from common import RESULTS, SMALLEST, Watch, conclude, one_error, synthetic_set

import edgefer
from edgefer.atomic import write_text
from edgefer.contract import INPUT_NAME
from edgefer.data import FaceSet, open_dataset
from edgefer.engines.classifier import Classifier, relative_difference
from edgefer.engines.load import load_engine
from edgefer.engines.tensorrt.compat import import_tensorrt
from edgefer.engines.tensorrt.cuda import find_gpu, open_cuda, survey
from edgefer.engines.tensorrt.options import Batches, BuilderOptions, trtexec_command
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model
from edgefer.measure.environment import describe_environment
from edgefer.measure.latency import gpu_times, interleave, watched
from edgefer.measure.telemetry import Recorder
from edgefer.models import names
from edgefer.models.weights import shipped
from edgefer.progress import announce

NETWORKS = ("mini_xception", "resnet11", "vgg9", "ddamfn")
WEAK = "weak"
"""Ends the name of a precision that is built with --weak-typing, where that is a choice."""
LIMIT = 3600
"""Seconds after which a process is given up."""


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
@click.option("--prepare", type=click.Path(path_type=Path), help="Only write the files that a device builds from here.")
@click.option("--for", "version", metavar="VERSION", help="With --prepare: the device's TensorRT, or JetPack.")
@click.option("--one", type=(str, str), hidden=True, help="One network and precision, in this process.")
def main(  # noqa: PLR0913
    models: tuple[Path, ...],
    quick: bool,
    every: bool,
    data: str | None,
    output: Path | None,
    check: bool,
    prepare: Path | None,
    version: str | None,
    one: tuple[str, str] | None,
) -> None:
    """Build, run, compare and time MODELS (as `edgefer export` wrote them, or a folder of --prepare)."""
    plan = QUICK if quick else FULL
    with one_error():
        if prepare is not None:
            if version is None:
                raise EdgeferError("which TensorRT has the device?", hint="--for jetpack6, or a version such as 10.3")
            prepared(plan, models or _exported(names() if every else NETWORKS, prepare), data, version, prepare)
            return
        machine = here()
        announce(f"{machine['device']}: TensorRT {machine['tensorrt']}, CUDA {machine['cuda']}")
        if check:
            return
        if one is not None:
            write_text(Path(one[0]), json.dumps(measured(plan, models[0], one[1], Path(one[0]).parent)))
            return
        slug = re.sub(r"[^a-z0-9]+", "_", machine["name"].lower()).strip("_")
        path = output or RESULTS / f"{slug}{'.quick' if quick else ''}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as name:
            folder = models[0] if len(models) == 1 and models[0].is_dir() else Path(name)
            if folder == Path(name):
                chosen = models or _exported(names() if every else NETWORKS, folder)
                prepared(plan, chosen, data, machine["tensorrt"], folder)
            result = whole_run(plan, folder, machine, path, quick=quick)
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


def _exported(networks: tuple[str, ...], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in networks:
        try:
            made.append(edgefer.export(name, folder / f"{name}.onnx", random_weights=shipped(name) is None).path)
        except EdgeferError as fault:
            raise EdgeferError(
                fault.message,
                hint="write the files on another machine: benchmarks/gpu.py --prepare FOLDER --for VERSION",
            ) from fault
    return tuple(made)


def prepared(plan: Plan, models: tuple[Path, ...], data: str | None, version: str, folder: Path) -> None:
    """Write ``NAME.PRECISION.onnx`` for TensorRT ``version``, and ``NAME.npz``: faces and the float model's answers."""
    folder.mkdir(parents=True, exist_ok=True)
    faces = open_dataset(data) if data else synthetic_set(plan.calibration * 20, folder / "faces.npz")
    for model in models:
        with load_engine(model) as reference:
            shown = _compared(reference, faces, plan.faces)
            np.savez_compressed(folder / f"{model.stem}.npz", faces=shown, logits=reference.logits_of_all(shown))
        for precision in plan.precisions:
            integer = precision.startswith("int8")
            edgefer.build_engine(
                *(model, folder / f"{model.stem}.{precision}.onnx"),
                precision=precision,
                quantisation=edgefer.Quantisation(faces, faces=plan.calibration) if integer else None,
                target=edgefer.BuildTarget("tensorrt", version=version),
                onnx_only=True,
            )
            announce(f"written: {folder / model.stem}.{precision}.onnx")


def _compared(reference: Classifier, faces: FaceSet, count: int) -> Any:
    """The faces that answers are compared on, as the network takes them."""
    part = faces if faces.picked is not None else faces.picked_or("test")
    spread = np.arange(min(count, len(part))) * len(part) // min(count, len(part))
    return np.concatenate([images for images, _ in part.subset(spread).batches(64, reference.contract)])


def jobs_of(folder: Path) -> list[tuple[Path, str]]:
    """The files of :func:`prepared` with their precisions; INT8 once more with weak typing, where that is a choice."""
    found = [(path, path.stem.partition(".")[2]) for path in sorted(folder.glob("*.*.onnx"))]
    if not found:
        raise EdgeferError(f"{folder} has no NAME.PRECISION.onnx", hint="benchmarks/gpu.py --prepare writes them")
    has = import_tensorrt(False)[1].has
    choice = has.strong_typing_flag and has.precision_flags
    weak = [(path, f"{precision} {WEAK}") for path, precision in found if choice and precision == "int8+fp16"]
    return found + weak


def whole_run(plan: Plan, folder: Path, machine: dict[str, Any], path: Path, *, quick: bool) -> dict[str, Any]:
    """Every job in a process of its own; what is known is written to ``path`` after each, and packed at the end."""
    work = path.with_suffix("")
    work.mkdir(parents=True, exist_ok=True)
    watch, jobs, began = Watch(0), jobs_of(folder), time.monotonic()
    networks: dict[str, list[dict[str, Any]]] = {}
    with Recorder(gpu=0) as recorder, watch.over("the run"):
        for number, (file, precision) in enumerate(jobs):
            name = file.stem.partition(".")[0]
            spent = time.monotonic() - began
            left = f", about {spent / number * (len(jobs) - number) / 60:.0f} min left" if number else ""
            announce(f"[{number + 1}/{len(jobs)}] {name} {precision.upper()}{left}")
            row = launched(file, precision, work, quick=quick)
            row["trtexec"] = with_trtexec(plan, file, precision, work)
            networks.setdefault(name, []).append(row)
            announce(f"  {_told(row)}")
            about = {"quick": quick, "machine": machine, "done": f"{number + 1} of {len(jobs)}", "networks": networks}
            write_text(path, json.dumps({"benchmark": "gpu", **about}, indent=1) + "\n")
        recording = recorder.recording()
    watch.busy += recording.throttled()
    result = watch.result("gpu", quick=quick, machine=machine, telemetry=recording.summary(), networks=networks)
    conclude(result, path)
    _pack(path, work)
    return result


def launched(file: Path, precision: str, work: Path, *, quick: bool) -> dict[str, Any]:
    """A job's row, whatever becomes of its process."""
    stem = f"{file.stem.partition('.')[0]}.{precision.replace(' ', '-')}"
    answer, log = work / f"{stem}.row.json", work / f"{stem}.log"
    answer.unlink(missing_ok=True)
    command = [sys.executable, __file__, str(file), "--one", str(answer), precision, *(["--quick"] if quick else [])]
    with log.open("w", encoding="utf-8") as stream:
        try:
            code = in_a_process(command, stream)
        except subprocess.TimeoutExpired:
            return {"precision": precision, "failed": f"gave up after {LIMIT} s: {log.name}"}
    try:
        return cast(dict[str, Any], json.loads(answer.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        last = " ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
        return {"precision": precision, "failed": f"its process ended with {code}: {last[-500:]}"}


def in_a_process(command: list[str], log: Any) -> int:
    """The exit status of ``command``, whose output goes to ``log``."""
    return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=LIMIT, check=False).returncode


def measured(plan: Plan, file: Path, precision: str, work: Path) -> dict[str, Any]:
    """One network in one precision, in this process: an engine for each batch size, tuned for it."""
    row: dict[str, Any] = {"precision": precision, "failed": None, "timing": {}}
    with np.load(file.parent / f"{file.stem.partition('.')[0]}.npz") as stored:
        faces, wanted = stored["faces"], stored["logits"]
    for batch in plan.batches:
        engine = work / f"{file.stem}.{batch}.engine"
        try:
            row |= _built(file, engine, precision, batch, work)
            with load_engine(engine) as classifier:
                if batch == plan.batches[0]:
                    found = classifier.logits_of_all(faces)
                    row["difference_from_float"] = relative_difference(found, wanted)
                    row["agreement"] = float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
                row["timing"][str(batch)] = _timed(plan, batch, faces, classifier)
        except Exception as fault:
            row["failed"] = f"batch {batch}: {getattr(fault, 'message', f'{type(fault).__name__}: {fault}')}"
            announce(f"FAILED: {fault}")
            return row
        finally:
            engine.unlink(missing_ok=True)
    return row


def _built(file: Path, engine: Path, precision: str, batch: int, work: Path) -> dict[str, Any]:
    weak, began = precision.endswith(WEAK), time.monotonic()
    builder: dict[str, Any] = {"opt_batch": batch, "max_batch": batch, "timing_cache": work / "timings"}
    result = edgefer.build_engine(
        *(file, engine),
        precision=precision.removesuffix(f" {WEAK}"),
        target=edgefer.BuildTarget("tensorrt", builder={**builder, "weak_typing": weak}),
    )
    manifest = cast(Any, result.manifest)
    seconds = round(time.monotonic() - began, 1)
    return {"build_seconds": seconds, "got": manifest.precision.got, "bytes": manifest.engine_bytes}


def _timed(plan: Plan, batch: int, faces: Any, classifier: Classifier) -> dict[str, Any]:
    feed = np.ascontiguousarray(faces[np.arange(batch) % len(faces)])
    runners: dict[str, Callable[[], Any]] = {
        "engine": watched(classifier, partial(classifier.session.run, {INPUT_NAME: feed}))
    }
    timing = interleave(runners, seconds=plan.seconds, warm_up_seconds=min(2.0, plan.seconds))
    latency, session = timing.latency("engine"), cast(TensorRtSession, classifier.session)
    return {
        "tuned_for_batch": batch,
        "latency_ms": latency.to_dict(),
        "gpu_ms": gpu_times(runners, timing)["engine"].to_dict(),
        "images_per_s": batch / (latency.mean / 1000),
        "graph": session.without_graphs or "replayed",
    }


def with_trtexec(plan: Plan, file: Path, precision: str, work: Path) -> str:
    """Build and time ``file`` with NVIDIA's own program; what it printed is kept, whatever it says."""
    usual = Path("/usr/src/tensorrt/bin/trtexec")
    program = shutil.which("trtexec") or (str(usual) if usual.is_file() else None)
    if program is None:
        return "not run: there is no trtexec here"
    _, target = import_tensorrt(False)
    batch = plan.batches[0]
    options = BuilderOptions(batches=Batches(batch, batch, batch), weak_typing=precision.endswith(WEAK))
    line = trtexec_command(file, load_model(file)[1], target, precision.removesuffix(f" {WEAK}"), options)
    words = [w for w in shlex.split(line)[1:] if not w.startswith(("--saveEngine", "--skipInference", "--buildOnly"))]
    log = work / f"{file.stem.partition('.')[0]}.{precision.replace(' ', '-')}.trtexec.log"
    with log.open("w", encoding="utf-8") as stream:
        try:
            code = in_a_process([program, *words, f"--duration={plan.seconds:g}"], stream)
        except (OSError, subprocess.TimeoutExpired) as fault:
            return f"failed: {fault}"
    return f"{'passed' if code == 0 else 'failed'}: {log.name}"


def _pack(path: Path, work: Path) -> None:
    """Results and logs in one file; no engine, and no face."""
    packed = path.with_suffix(".tar.gz")
    with tarfile.open(packed, "w:gz") as archive:
        for one in [path, *sorted(work.glob("*.log")), *sorted(work.glob("*.json"))]:
            archive.add(one, arcname=f"{path.stem}/{one.name}")
    announce(f"send back: {packed}")


def _told(row: dict[str, Any]) -> str:
    if row["failed"]:
        return f"{row['precision'].upper()}: failed: {row['failed'][:200]}"
    first = next(iter(row["timing"].values()))
    return (
        f"{row['precision'].upper()}: {first['gpu_ms']['compute']:.3f} ms on the GPU, "
        f"{row['agreement']:.1%} of the answers as the float model's"
    )


if __name__ == "__main__":
    main()
