#!/usr/bin/env python3
"""What runs on this machine's GPU without TensorRT: PyTorch, training, CUDA through cuda-bindings, the faces' kernel.

`make gpu-smoke` runs it; at most eight minutes, and nothing but this repository is needed. Each step is a process of
its own, so that a fault of one leaves the others alone, and the results are written after each: what did not run is
"not run", with the reason. With --dry, PyTorch and training run on the CPU for a moment and the rest is only prepared.
"""

from __future__ import annotations

import base64
import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import REPOSITORY, RESULTS, conclude, one_error, synthetic_set
from numpy.typing import NDArray

from edgefer.atomic import write_text
from edgefer.contract import INPUT_NAME
from edgefer.data import synthetic_faces
from edgefer.engines.classifier import relative_difference
from edgefer.engines.load import FORMS, TorchBaseline, in_form, load_baseline
from edgefer.engines.tensorrt.cuda import Buffer, Cuda, find_gpu, open_cuda
from edgefer.errors import EdgeferError
from edgefer.measure.environment import describe_environment
from edgefer.measure.latency import gpu_times, interleave, watched
from edgefer.progress import announce

NETWORKS = ("mini_xception", "cliquenet")
"""Two that ship with weights: small kernels, and a network that fills a GPU better."""
BATCHES = (1, 32)
TRAINING_SECONDS, INTERRUPTED_AFTER = 60.0, 10.0


class NotRunError(EdgeferError):
    """A step had nothing to run on."""


def baselines(device: str, name: str) -> dict[str, Any]:
    """Every form of PyTorch: its latency, its time on the GPU, and how far its logits are from the CPU's."""
    dry, found = device == "cpu", {}
    for batch in BATCHES[:1] if dry else BATCHES:
        rows, answers, runners = {}, {}, {}
        with load_baseline(TorchBaseline(name, device=device)) as eager, load_baseline(name) as reference:
            size = eager.contract.height
            feed = _shown(synthetic_faces(batch, 5, size)[0], eager.contract.channels)
            wanted = reference.logits(feed)
            forms = ("channels-last",) if dry else (*FORMS, "fp16+graph")
            opened = {"eager": eager}
            for form in forms:
                try:
                    opened[form] = in_form(eager, form)
                except EdgeferError as fault:
                    rows[form] = {"not run": fault.message}
            for form, classifier in opened.items():
                answers[form] = relative_difference(classifier.logits(feed), wanted)
                call = partial(classifier.session.run, {INPUT_NAME: feed})
                runners[form] = watched(classifier, call)
            seconds = 0.05 if dry else 6.0
            timing = interleave(runners, seconds=seconds, warm_up_seconds=min(1.0, seconds))
            on_gpu = gpu_times(runners, timing)
            for form, classifier in opened.items():
                times = on_gpu.get(form)
                rows[form] = {
                    "precision": classifier.precision,
                    "latency_ms": timing.latency(form).to_dict(),
                    "gpu_ms": None if times is None else times.to_dict(),
                    "difference_from_cpu": answers[form],
                }
        found[f"batch {batch}"] = rows
    return found


def _shown(faces: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.repeat(faces, channels, axis=3) if faces.shape[3] < channels else faces)


def training(device: str) -> dict[str, Any]:
    """A minute on synthetic faces, interrupted once and resumed."""
    from edgefer.training import TrainConfig, train
    from edgefer.training.loop import state_path

    dry = device == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        faces, output = synthetic_set(200 if dry else 6000, Path(folder) / "faces.npz"), Path(folder) / "w.safetensors"
        settings: dict[str, Any] = {"epochs": 2, "checkpoint_seconds": 0.0, "batch_size": 32}
        if not dry:
            settings = {"epochs": 10_000, "checkpoint_seconds": 1.0, "max_seconds": TRAINING_SECONDS}
        config, began = TrainConfig(device=device, **settings), time.monotonic()

        def interrupt(_: object) -> None:
            if dry or time.monotonic() - began > INTERRUPTED_AFTER:
                raise KeyboardInterrupt

        try:
            train(faces, "mini_xception", output, config, on_epoch=interrupt)
        except KeyboardInterrupt:
            announce("interrupted, to be resumed")
        resumed = state_path(output).exists()
        result = train(faces, "mini_xception", output, config)
    fit = len(faces.split("fit"))
    return {
        "faces": fit,
        "resumed": resumed,
        "epochs": result.epochs,
        "faces_per_s": fit * result.epochs / result.seconds,
        "val_top1": result.best_val_top1,
        "first_loss": result.curve[0]["loss"],
        "last_loss": result.curve[-1]["loss"],
    }


def runtime(device: str) -> dict[str, Any]:
    """What a session needs of CUDA, through cuda-bindings."""
    try:
        find_gpu()
        cuda = open_cuda()
    except EdgeferError as fault:
        raise NotRunError(fault.message, hint=fault.hint) from fault
    return {"package": cuda.package, **through_cuda(cuda), **_beside_torch(cuda, device)}


def through_cuda(cuda: Cuda) -> dict[str, Any]:
    """Pinned and device memory, copies between them, events, a captured graph that is replayed, and all given back."""
    shape, generator = (32, 48, 48, 1), np.random.default_rng(0)
    first, second = (generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    found: dict[str, Any] = {}
    with cuda.current():
        before = cuda.free_bytes()
        buffer, stream, begin, end = Buffer(cuda, shape, "uint8"), cuda.stream(), cuda.event(), cuda.event()

        def both_ways() -> bool:
            buffer.upload(shape, stream)
            buffer.download(shape, stream)
            return True

        buffer.fill(first)
        cuda.record(begin, stream)
        both_ways()
        cuda.record(end, stream)
        cuda.wait(stream)
        found["copied"] = bool((buffer.taken(shape) == first).all())
        found["both_ways_ms"] = cuda.milliseconds(begin, end)
        found["extent_is_the_buffers"] = cuda.extent(buffer.address) >= first.nbytes
        if cuda.graphs is not None:
            graph = cuda.graphs.capture(stream, both_ways)
            buffer.fill(second)
            cuda.graphs.launch(graph, stream)
            cuda.wait(stream)
            found["replayed"] = bool((buffer.taken(shape) == second).all())
            graph.close()
        for one in (begin, end, stream, buffer):
            one.close()
        cuda.wait_for_all()
        found["bytes_not_given_back"] = before - cuda.free_bytes()
    found["passed"] = all(found.get(key, True) for key in ("copied", "extent_is_the_buffers", "replayed"))
    return found


def _beside_torch(cuda: Cuda, device: str) -> dict[str, Any]:
    """PyTorch's memory and context, as `run_device` meets them in an application."""
    import torch

    from edgefer.models.device import torch_device

    tensor = torch.arange(1024, dtype=torch.float32, device=torch_device(device))
    with cuda.current():
        extent = cuda.extent(tensor.data_ptr())
    return {
        "torch_shares_the_context": not cuda.foreign(),
        "torch_memory_is_aligned": tensor.data_ptr() % 256 == 0,
        "torch_memory_reaches": extent >= tensor.nbytes,
    }


def kernel(device: str) -> dict[str, Any]:
    """The kernel that cuts faces, compiled by nvcc, against the golden vectors that Python and C++ are held to."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        raise NotRunError("there is no nvcc", hint="it comes with the CUDA toolkit")
    capability = "90" if device == "cpu" else find_gpu().capability.removeprefix("SM")
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(nvcc, capability, Path(folder))
        if device == "cpu":
            raise NotRunError(f"compiled for sm_{capability}, and this is a dry run")
        function = ctypes.CDLL(str(library)).cut_on_gpu
        function.restype = ctypes.c_char_p
        cases = json.loads((REPOSITORY / "tests/golden/faces.json").read_text(encoding="utf-8"))
        apart = [int(np.abs(cut(function, case).astype(int) - unpacked(case, "face")).max()) for case in cases]
    return {"vectors": len(cases), "levels_apart": apart, "passed": max(apart) <= 1}


def compiled(nvcc: str, capability: str, folder: Path) -> Path:
    """The kernel and what calls it as a shared library, for one compute capability."""
    library, demo = folder / "libfaces.so", REPOSITORY / "cpp_demo"
    flags = [f"-arch=sm_{capability}", "-std=c++17", "-O2", "-Xcompiler=-fPIC,-ffp-contract=off", "-shared"]
    sources = [REPOSITORY / "benchmarks/gpu_faces.cu", demo / "src/cuda_faces.cu", demo / "src/faces.cpp"]
    done = subprocess.run(
        [nvcc, *flags, f"-I{demo / 'include'}", f"-I{demo / 'src'}", *map(str, sources), "-o", str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EdgeferError(f"nvcc failed: {done.stderr.strip() or done.stdout.strip()}")
    return library


def unpacked(case: dict[str, Any], key: str) -> NDArray[np.uint8]:
    """An array of a golden vector."""
    flat = np.frombuffer(base64.b64decode(case[key]), dtype=np.uint8)
    return flat.reshape(case[f"{key}_shape"])


def cut(function: Any, case: dict[str, Any]) -> NDArray[np.uint8]:
    """The face that the kernel cuts for a golden vector."""
    image, face = np.ascontiguousarray(unpacked(case, "image")), np.empty(case["face_shape"], np.uint8)
    height, width, channels = image.shape
    box = (ctypes.c_double * 4)(*(case["box"] or (0, 0, width, height)))
    margin = ctypes.c_double(case["crop_margin"])
    picture, out = ctypes.c_void_p(image.ctypes.data), ctypes.c_void_p(face.ctypes.data)
    fault = function(picture, height, width, channels, box, 1, margin, face.shape[0], face.shape[2], out)
    if fault is not None:
        raise EdgeferError(f"the kernel failed: {fault.decode(errors='replace')}")
    return face


STEPS: dict[str, tuple[Callable[[str], dict[str, Any]], float]] = {
    "runtime": (runtime, 30.0),
    "kernel": (kernel, 70.0),
    **{f"PyTorch, {name}": (partial(baselines, name=name), 120.0) for name in NETWORKS},
    "training": (training, 120.0),
}
"""Name → what it does, and the seconds after which it is ended: less than eight minutes in all."""


@click.command()
@click.option("--dry", is_flag=True, help="On the CPU, for a moment, to see that the script works.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON; benchmarks/results/gpu.json if absent.")
@click.option("--step", type=click.Choice(list(STEPS)), hidden=True, help="Run one step here.")
def main(dry: bool, output: Path | None, step: str | None) -> None:
    """See what runs on this machine's GPU, and write it down after each step."""
    with one_error():
        device = "cpu" if dry else "cuda"
        if step is not None and output is not None:
            write_text(output, json.dumps(_tried(step, device)))
            return
        if dry and output is None:
            raise EdgeferError("a dry run is no result", hint="--output FILE.json keeps it apart")
        name = "dry run on the CPU" if dry else str(find_gpu())
        failed = run_steps(name, dry, output or RESULTS / "gpu.json")
    sys.exit(1 if failed else 0)


def run_steps(device: str, dry: bool, path: Path) -> list[str]:
    """Every step in a process of its own; the results are written after each. The names of those that failed."""
    result: dict[str, Any] = {"benchmark": "gpu", "device": device, "environment": describe_environment()}
    result["steps"] = {name: {"status": "not run", "reason": "it was not reached"} for name in STEPS}
    for name, (_, seconds) in STEPS.items():
        announce(f"{name}: at most {seconds:.0f} s")
        result["steps"][name] = found = _apart(name, dry, seconds)
        announce(f"{name}: {found['status']} {found.get('reason', '')}".rstrip())
        conclude(result, path)
    return [name for name, found in result["steps"].items() if found["status"] == "failed"]


def _apart(name: str, dry: bool, seconds: float) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "step.json"
        command = [sys.executable, __file__, "--step", name, "--output", str(output), *(["--dry"] if dry else [])]
        try:
            ended = subprocess.run(command, timeout=seconds, check=False).returncode
        except subprocess.TimeoutExpired:
            return {"status": "failed", "reason": f"it was ended after {seconds:.0f} s"}
        if not output.is_file():
            return {"status": "failed", "reason": f"its process ended with {ended}"}
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def _tried(step: str, device: str) -> dict[str, Any]:
    try:
        found = STEPS[step][0](device)
    except NotRunError as fault:
        return {"status": "not run", "reason": fault.message}
    except Exception as fault:  # whatever it is, it is what this script is to find out
        return {"status": "failed", "reason": f"{type(fault).__name__}: {fault}"}
    return {"status": "ran" if found.get("passed", True) else "failed", **found}


if __name__ == "__main__":
    main()
