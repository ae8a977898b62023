"""What a TensorRT engine is compared with: its own ONNX file in float32 arithmetic, and how far a right engine may be.

A GPU rounds otherwise than a CPU, and in INT8 a value on the other side of a rounding step moves by a whole step. How
far that moves the logits depends on the network and its ranges: by 0.002 of their scale in one, by 0.3 in another. So
no constant tells a right engine from a wrong one. The file is run on a CPU as it is written, and again several times
with noise after each convolution and product, as large as what float16 rounds; what that changes is what a right
engine may differ by. A wrong one (a scale read twice as large, a channel lost, channels of colour swapped) differs in
the same direction on many faces, while noise does not: so besides the size of the differences their mean over the
faces is looked at, in which noise cancels out.

The answers travel in the file's metadata, so that a device compares its engine without ONNX Runtime.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.classifier import relative_difference
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.faces import golden_faces
from edgefer.graph.fp16 import to_fp32
from edgefer.graph.onnx_file import serialise
from edgefer.progress import announce
from edgefer.quantize.graphview import WEIGHTED
from edgefer.runtimes import REFERENCE, TOLERANCE

Logits = NDArray[np.float32]

FACES: Final = 32
"""Number of faces: the mean of their differences is then 1/6 as noisy as one face's."""

NOISE: Final = 1e-3
"""Standard deviation of the factor after each layer: two steps of float16, whose mantissa has 11 bits."""

_RUNS: Final = 3
_BATCH: Final = 8
_SIZE_FACTOR: Final = 1.6
_MEAN_FACTOR: Final = 3.0
_SMALLEST: Final = {"fp32": 1e-3, "fp16": 5e-3, "int8": 1e-3}
"""Precision → difference, relative to the logits, that is never a fault: sums in another order."""

_MAX_TOLERANCE: Final = 0.9
_CAST: Final = np.array([40, 0, -40])  # faces are redder than they are blue: swapped channels are seen


@dataclass(frozen=True, eq=False)
class Reference:
    """Answers of a file in float32 arithmetic to :func:`reference_faces`, and how far an engine of it may be from them.

    Attributes:
        logits: float32 N×classes.
        size: largest allowed ``rms(logits − these) / rms(these)``.
        mean: the same of the differences' mean over the faces.
        farthest: largest :func:`~edgefer.engines.classifier.relative_difference` in the emulation of right engines.
        faces_sha256: hash of the faces.
    """

    logits: Logits
    size: float
    mean: float
    farthest: float
    faces_sha256: str

    def tolerance(self, precision: str) -> float:
        """Golden tolerance of an engine of the file: between right engines of it, and at least what is usual."""
        usual = max(TOLERANCE[part] for part in precision.split("+"))
        return min(_MAX_TOLERANCE, max(usual, 2 * self.farthest))

    def fault_in(self, found: Logits) -> str | None:
        """What is wrong with the logits that an engine ``found``; None where they are a right engine's."""
        size, mean = rms_differences(found, self.logits)
        for what, value, allowed in (("the size of", size, self.size), ("the mean over the faces of", mean, self.mean)):
            if not value <= allowed:
                return (
                    f"{what} the differences is {value:.3g} of the logits, and rounding explains up to "
                    f"{allowed:.3g} ({len(found)} synthetic faces)"
                )
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the metadata of the file."""
        return {
            "logits": [[float(value) for value in row] for row in self.logits],
            "size": self.size,
            "mean": self.mean,
            "farthest": self.farthest,
            "faces_sha256": self.faces_sha256,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Reference:
        """Read what :meth:`to_dict` wrote."""
        size, mean, farthest = (float(content[name]) for name in ("size", "mean", "farthest"))
        logits = np.asarray(content["logits"], dtype=np.float32)
        return cls(logits, size, mean, farthest, str(content["faces_sha256"]))


def rms_differences(found: Logits, wanted: Logits) -> tuple[float, float]:
    """Root mean square of ``found − wanted`` and of its mean over the faces, both over that of ``wanted``."""
    scale = max(_rms(wanted), float(np.finfo(np.float32).tiny))
    apart = np.asarray(found, dtype=np.float64) - wanted
    return _rms(apart) / scale, _rms(apart.mean(axis=0)) / scale


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def reference_faces(contract: Contract) -> NDArray[np.uint8]:
    """:data:`FACES` synthetic faces and noise images, uint8 N×H×W×C; the same on every machine.

    Golden faces with other contrast, light and noise, and every fourth nothing but noise. Only integers are computed,
    from the raw output of a generator whose stream NumPy guarantees.
    """
    shape, base = contract.face_shape, golden_faces(contract).astype(np.int64)
    stream = np.random.PCG64(24)
    cast = _CAST if contract.channels == 3 else _CAST[1:2]
    faces = []
    for index in range(FACES):
        contrast, light, spread = (int(value) % 1000 for value in stream.random_raw(3))
        noise = (stream.random_raw(int(np.prod(shape))) >> np.uint64(40)).astype(np.int64).reshape(shape)
        face = noise % 256
        if index % 4 < 3:
            face = (base[index % 4] - 128) * (5 + contrast % 14) // 16 + 78 + light % 101
            face = face + noise % (1 + spread % 60) - spread % 60 // 2
        faces.append(np.clip(face + cast, 0, 255).astype(np.uint8))
    return np.stack(faces)


def hash_of(faces: NDArray[np.uint8]) -> str:
    """SHA-256 of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(faces).tobytes()).hexdigest()


def make_reference(model: onnx.ModelProto, contract: Contract, precision: str) -> Reference | None:
    """Ask a ``model`` for TensorRT, with Q/DQ or without, in float32 arithmetic, and emulate right engines of it.

    Args:
        model: the file for TensorRT; float16 tensors are widened.
        contract: its contract.
        precision: the engine's, ``"int8+fp16"``, …: what noise is emulated.

    Returns:
        None where ONNX Runtime is absent, or does not quantise as ONNX says: announced.
    """
    if not REFERENCE.installed:
        announce(f"note: {REFERENCE.package} is not here, so the engine is not compared with its ONNX file")
        return None
    quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    if quantised and not rounds_to_even():
        announce(f"note: {REFERENCE.title} rounds wrongly in QuantizeLinear here: the engine is not compared with it")
        return None
    twin, faces = to_fp32(model), reference_faces(contract)
    logits = _answers(twin, faces)
    level = NOISE if precision != "fp32" else NOISE / 1000
    emulated = [_answers(_with_noise(twin, level, seed), faces) for seed in range(1, _RUNS + 1)]
    apart = [rms_differences(one, logits) for one in emulated]
    smallest = max(_SMALLEST[part] for part in precision.split("+"))
    return Reference(
        logits,
        max(smallest, _SIZE_FACTOR * max(size for size, _ in apart)),
        max(smallest / 2, _MEAN_FACTOR * max(mean for _, mean in apart)),
        max(relative_difference(one, logits) for one in emulated),
        hash_of(faces),
    )


def _answers(model: onnx.ModelProto, faces: NDArray[np.uint8]) -> Logits:
    """Logits of the nodes as they are written: nothing is fused into kernels of other arithmetic."""
    session = OnnxRuntimeSession(serialise(model), threads=min(8, os.cpu_count() or 1), optimise=False)
    parts = [session.run({INPUT_NAME: faces[at : at + _BATCH]})[OUTPUT_NAME] for at in range(0, len(faces), _BATCH)]
    return np.concatenate(parts).astype(np.float32)


def _with_noise(model: onnx.ModelProto, level: float, seed: int) -> onnx.ModelProto:
    """A copy whose convolutions and products are followed by a factor near 1: one for each layer, and one a value.

    The factor of a value ``x`` is ``1 + √2 · level · sin(k · x)`` with a large ``k``, which is as good as random and
    takes less time.
    """
    result, random = onnx.ModelProto(), np.random.default_rng(seed)
    result.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for index, original in enumerate(model.graph.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        nodes.append(node)
        if node.op_type not in WEIGHTED:
            continue
        name = node.output[0]
        node.output[0] = exact = f"{name}__exact"
        numbers = {"k": random.uniform(2e4, 4e4), "level": 2**0.5 * level, "gain": random.normal(1.0, level)}
        for what, value in numbers.items():
            constant = numpy_helper.from_array(np.asarray(value, dtype=np.float32), f"__{what}_{index}")
            result.graph.initializer.append(constant)
        steps = (
            ("Mul", [exact, f"__k_{index}"], f"{name}__phase"),
            ("Sin", [f"{name}__phase"], f"{name}__wave"),
            ("Mul", [f"{name}__wave", f"__level_{index}"], f"{name}__noise"),
            ("Add", [f"{name}__noise", f"__gain_{index}"], f"{name}__factor"),
            ("Mul", [exact, f"{name}__factor"], name),
        )
        nodes.extend(helper.make_node(op, inputs, [output]) for op, inputs, output in steps)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


@functools.cache
def rounds_to_even() -> bool:
    """Whether ONNX Runtime's QuantizeLinear on float32 does what ONNX says, on one node: to nearest, ties to even."""
    steps = np.arange(-600, 601, dtype=np.float32) / 4
    scale, zero = np.float32(0.125), np.int8(0)
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])],
        "quantiser",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(steps)])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [len(steps)])],
        [numpy_helper.from_array(np.asarray(scale), "scale"), numpy_helper.from_array(np.asarray(zero), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = OnnxRuntimeSession(model.SerializeToString(), optimise=False).run({"x": steps * scale})["y"]
    return bool(np.array_equal(found, np.clip(np.rint(steps), -128, 127).astype(np.int8)))
