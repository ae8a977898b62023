"""onnxsim, held at arm's length: its own process, its result checked, the original kept where either fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgefer.contract import Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import check_interface, serialise
from edgefer.graph.parity import measure_parity, require_parity
from edgefer.progress import announce

WORKER = (sys.executable, "-m", "edgefer.graph.simplify_worker")
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Simplified:
    """The model to go on with; ``applied`` is False where it is the original, and ``note`` says what happened."""

    model: onnx.ModelProto
    applied: bool
    note: str


def simplify_model(
    model: onnx.ModelProto,
    contract: Contract,
    *,
    tolerance: float = 1e-4,
    timeout_s: float = TIMEOUT_S,
    worker: Sequence[str] = WORKER,
) -> Simplified:
    """Simplify ``model``, or announce why it stays as it is.

    The result has the same opset, metadata, input and output (dynamic batch included), is in canonical form, and
    answers like the original in ONNX Runtime on synthetic faces and noise, within ``tolerance`` of the logits' scale.

    Args:
        model: a model with the contract's input and output.
        contract: the model's contract.
        tolerance: largest difference of a logit relative to the largest logit.
        timeout_s: seconds after which onnxsim is stopped.
        worker: the command that simplifies; it is given the source and the target path.
    """
    try:
        found = _run(serialise(model), timeout_s, worker)
        result = _accepted(model, found, contract, tolerance)
    except EdgeferError as cause:
        announce(f"note: the graph is left unsimplified: {cause.message}")
        return Simplified(model, False, cause.message)
    before, after = len(model.graph.node), len(result.graph.node)
    return Simplified(result, True, f"onnxsim: {before} nodes to {after}")


def _run(content: bytes, timeout_s: float, worker: Sequence[str]) -> onnx.ModelProto:
    package = str(Path(__file__).resolve().parents[2])  # the worker must find this edgefer, installed or not
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="edgefer-simplify-") as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        try:
            source.write_bytes(content)
            done = subprocess.run(
                [*worker, str(source), str(target)],
                capture_output=True,
                timeout=timeout_s,
                check=False,
                env={**os.environ, "PYTHONPATH": path},
            )
        except OSError as cause:  # no room for temporary files, say
            raise EdgeferError(f"onnxsim could not be run: {cause}") from cause
        except subprocess.TimeoutExpired as cause:
            raise EdgeferError(f"onnxsim did not end within {timeout_s:g} s") from cause
        if done.returncode != 0:
            raise EdgeferError(f"onnxsim {_ending(done.returncode, done.stderr)}")
        try:
            return onnx.load_model_from_string(target.read_bytes())
        except Exception as cause:  # no file, or protobuf's own errors
            raise EdgeferError(f"onnxsim left no readable model ({type(cause).__name__})") from cause


def _ending(code: int, stderr: bytes) -> str:
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f"failed: {lines[-1]}" if lines else f"failed with exit code {code}"


def _accepted(before: onnx.ModelProto, after: onnx.ModelProto, contract: Contract, tolerance: float) -> onnx.ModelProto:
    """``after`` in canonical form with the metadata of ``before``, if it is the same network."""
    opsets = [{entry.domain: entry.version for entry in model.opset_import} for model in (before, after)]
    if opsets[0] != opsets[1]:
        raise EdgeferError(f"onnxsim changed the operator sets from {opsets[0]} to {opsets[1]}")
    result = canonicalise(after)
    check_interface(result, contract, "onnxsim's result")
    del result.metadata_props[:]
    result.metadata_props.extend(before.metadata_props)
    result.ir_version = before.ir_version
    result.producer_name, result.producer_version = before.producer_name, before.producer_version
    original, candidate = (OnnxRuntimeSession(serialise(model), optimise=False) for model in (before, result))
    require_parity(measure_parity(original, candidate, contract), tolerance, "the graph before and after onnxsim")
    return result
