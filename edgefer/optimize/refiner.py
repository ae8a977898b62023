"""Steps between a float network and its INT8 file that make the integers answer more like it; each can be left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME, Contract
from edgefer.data import FaceSet
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.optimize.settings import CORRECTIONS, EQUALISE
from edgefer.progress import announce, progress
from edgefer.quantize.corrections import BIAS, ROUNDING, Corrected, correct, only_outputs
from edgefer.quantize.equalise import (
    DEGREE,
    Scales,
    apply_scales,
    channel_powers,
    components,
    equalising_scales,
    is_exact,
)
from edgefer.quantize.observation import DEFAULT_BUDGET, Faces, Runner, activation_bytes, observed_tensors
from edgefer.quantize.plan import Plan
from edgefer.quantize.ranges import Ranges

FACES = {ROUNDING: 256, BIAS: 64}
"""How many of the calibration faces each step looks at, the most of those that are done; a mean needs few."""

_BATCHES = 4, 16
"""The fewest and the most faces that refining runs at a time; between, as many as calibration's budget holds."""


def open_runner(model: bytes) -> Runner:
    """A serialised model in ONNX Runtime on one thread, from faces to all outputs."""
    session = OnnxRuntimeSession(model, threads=1)
    return lambda batch: session.run({INPUT_NAME: batch})


def equalising(model: onnx.ModelProto, contract: Contract, faces: FaceSet) -> Scales:
    """The factors that equalise ``model`` on ``faces``; empty where nothing in it can be equalised."""
    watched = set(observed_tensors(model))
    found = [(c, [t for t in c.tensors if t in watched]) for c in components(model)]
    found = [(component, tensors) for component, tensors in found if tensors]
    if not found:
        return {}
    names = [tensor for _, tensors in found for tensor in tensors]
    run = open_runner(only_outputs(model, names).SerializeToString())
    size = max(1, min(64, DEFAULT_BUDGET // max(1, activation_bytes(model))))
    units: dict[str, float] = {}  # the largest value so far
    powers: dict[str, NDArray[np.float64]] = {}
    with progress("equalising", len(faces)) as advance:
        for images, _ in faces.batches(size, contract):
            for name, values in run(images).items():
                peak = float(np.abs(values).max())
                if not np.isfinite(peak):
                    return {}  # calibration, which comes next, names the layer and the face
                before = units.get(name, 0.0)
                unit = units[name] = max(peak, before) or 1.0
                powers[name] = powers.get(name, 0.0) * (before / unit) ** DEGREE + channel_powers(values, unit)
            advance(len(images))
    ranges = {name: power ** (1 / DEGREE) for name, power in powers.items()}
    return {c.name: equalising_scales([ranges[tensor] for tensor in tensors]) for c, tensors in found}


def equalised(model: onnx.ModelProto, scales: Scales, contract: Contract) -> onnx.ModelProto:
    """``model`` with ``scales`` in it; itself, and that is announced, where float32 does not keep its answers."""
    if not scales:
        return model
    changed = apply_scales(model, scales)
    if is_exact(model, changed, contract, open_runner):
        return changed
    announce("note: equalisation is left out: this network's logits do not survive it in float32")
    return model


@dataclass(frozen=True)
class Refiner:
    """Rounding and bias correction for any plan: ``faces`` are uint8 batches of the calibration faces."""

    steps: tuple[str, ...]
    faces: Sequence[Faces]

    @classmethod
    def over(cls, model: onnx.ModelProto, faces: FaceSet, contract: Contract, steps: Collection[str]) -> Refiner | None:
        """A refiner of ``model`` that looks at the first faces of ``faces``; None where no step is left to do."""
        kept = tuple(step for step in CORRECTIONS if step in steps and step != EQUALISE)
        if not kept:
            return None
        some = faces.subset(np.arange(min(max(FACES[step] for step in kept), len(faces))))
        least, most = _BATCHES
        size = max(least, min(most, DEFAULT_BUDGET // max(1, activation_bytes(model))))
        return cls(kept, [images for images, _ in some.batches(size, contract)])

    def refine(self, model: onnx.ModelProto, plan: Plan, ranges: Ranges, method: str) -> Corrected:
        """The float model to quantise by ``plan``, and what became of it."""
        count = sum(layer.asked == "int8" and layer.op in ("Conv", "Gemm") for layer in plan.layers)
        with progress(f"refining: {', '.join(self.steps)}", count) as advance:
            return correct(model, plan, ranges, method, self.faces, open_runner, steps=self.steps, advance=advance)
