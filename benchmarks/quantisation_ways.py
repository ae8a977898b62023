"""The ways to INT8 that benchmarks/quantisation.py compares: what makes each file, and where it answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from peers import PEERS, environment

from calibration import HEADROOM, _kept_bytes
from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.onnx_file import serialise
from edgefer.memory import available_memory
from edgefer.models.weights import load_weights
from edgefer.optimize.candidates import Job, Variant, prepare_job, variants_of
from edgefer.optimize.settings import CORRECTIONS, DEFAULT_CORRECTIONS, Quantisation

STEPS = {
    "edgefer": DEFAULT_CORRECTIONS,
    "edgefer, no corrections": (),
    "edgefer, equalise": ("equalise",),
    "edgefer, equalise and bias": ("equalise", "bias"),
    "edgefer, equalise and rounding": ("equalise", "rounding"),
    "edgefer, all steps": CORRECTIONS,
}
THEIRS = ("MinMax", "Entropy", "Percentile")


@dataclass(frozen=True)
class Way:
    """A row: ``make`` gives the file (an ONNX model, or the path of one of OpenVINO's), ``runtime`` runs it."""

    runtime: str
    make: Callable[[], bytes | Path]


@dataclass(frozen=True)
class Bench:
    """One network with its calibration faces, in a folder: ``model.onnx``, ``float.onnx`` (rewritten), ``faces.npz``.

    ``job`` is calibrated without any correction.
    """

    folder: Path
    calib: FaceSet
    faces: int
    job: Job
    environments: Path

    @classmethod
    def of(cls, weights: Path, folder: Path, calib: FaceSet, faces: int, environments: Path) -> Bench:
        """Export the network of ``weights`` and draw its calibration faces.

        Raises:
            EdgeferError: the weights have no contract.
        """
        loaded = load_weights(weights)
        if loaded.contract is None:
            raise EdgeferError(f"{weights} has no contract", hint="`edgefer import-weights` writes weights with one")
        export(loaded.contract.architecture, folder / "model.onnx", weights=weights)
        job = prepare_job(folder / "model.onnx", "int8", Quantisation(calib, faces=faces, corrections=()))
        assert job.record is not None  # it is INT8
        (folder / "float.onnx").write_bytes(serialise(job.model))
        part = calib.split("calib")
        drawn = part.stratified(min(faces, len(part)), job.record.seed)
        if drawn.fingerprint() != job.record.faces_sha256:
            raise EdgeferError("the peers' calibration faces are not ours", hint="a fault of this script")
        np.savez(folder / "faces.npz", images=np.concatenate([images for images, _ in drawn.batches(64, job.contract)]))
        return cls(folder, calib, faces, job, environments)

    def ways(self) -> dict[str, Way]:
        """Every row."""
        found: dict[str, Way] = {}
        for label, steps in STEPS.items():
            if label == "edgefer" or steps != DEFAULT_CORRECTIONS:
                found[label] = self._ours(variants_of("int8", "onnxruntime")[0], steps)
        for variant in variants_of("int8", "openvino"):
            found[f"edgefer, {variant.scheme}"] = self._ours(variant, DEFAULT_CORRECTIONS)
        found["edgefer, tensorrt"] = self._ours(Variant("onnxruntime", "int8", "tensorrt"), DEFAULT_CORRECTIONS)
        for method in THEIRS:
            found[f"onnxruntime {method}"] = Way("onnxruntime", lambda method=method: self._theirs(method))
        found["OpenVINO NNCF"] = Way("openvino", lambda: self._peer("nncf", ".xml"))
        found["nvidia-modelopt"] = Way("onnxruntime", lambda: self._peer("modelopt", ".onnx"))
        return found

    def _ours(self, variant: Variant, steps: tuple[str, ...]) -> Way:
        def make() -> bytes:
            model = self.folder / "model.onnx"
            job = prepare_job(model, "int8", Quantisation(self.calib, faces=self.faces, corrections=steps))
            return job.build(variant).engine

        return Way(variant.runtime, make)

    def _theirs(self, method: str) -> bytes:
        """onnxruntime's quantize_static: uint8 × int8, weights a scale a channel, as ours."""
        from calibration_worker import _Reader
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        images = np.load(self.folder / "faces.npz")["images"]
        each, largest = _kept_bytes(self.folder / "float.onnx")
        needs, free = len(images) * (each + 3 * largest), available_memory()
        if method != "MinMax" and needs > HEADROOM * free:
            raise EdgeferError(f"keeps every activation: {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
        images = images[: len(images) // 50 * 50]  # the reader feeds fifty at a time, and a smaller batch stops it
        output = self.folder / "theirs.onnx"
        quantize_static(
            self.folder / "float.onnx",
            output,
            _Reader("faces", images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        return serialise(onnx.load(output))

    def _peer(self, peer: str, suffix: str) -> Path:
        assert peer in PEERS
        output = self.folder / f"{peer}{suffix}"
        worker = Path(__file__).with_name("quantisation_peer.py")
        files = (self.folder / "float.onnx", self.folder / "faces.npz", output)
        command = [environment(peer, self.environments), worker, peer, *files]
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(worker.parents[1])},
        )
        if done.returncode or not output.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise EdgeferError(f"{peer} failed: {lines[-1]}")
        return output
