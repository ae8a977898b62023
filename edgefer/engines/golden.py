"""Golden vectors: what an engine answered when it was built, asked again before it serves."""

from __future__ import annotations

import numpy as np

from edgefer.engines.classifier import Classifier, Logits
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.golden import Golden

# Largest difference, relative to the largest golden logit, that is still the same engine in the same precision on
# another CPU, thread count or version of a runtime. FP32 differs by the order of sums only: under 1e-5 measured between
# PyTorch, onnxruntime and OpenVINO, so 1e-3 leaves two digits. BF16 keeps 8 bits and FP16 11 (steps of 2⁻⁸ and 2⁻¹¹ a
# layer): BF16 moved logits by 0.002 … 0.008 of their scale. In INT8 a sum that falls on the other side of a rounding
# step moves an activation by 1/255 of its range, and such flips add up over the layers: the same file in onnxruntime
# with and without its integer kernels differed by up to 0.008, and in OpenVINO by up to 0.037 (lenet, mini_xception and
# resnet11). Saturated sums, wrong weights, shuffled labels or another normalisation move logits by their own size.
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 1e-1}


def tolerance_of(precision: str) -> float:
    """The tolerance of a precision such as ``"fp32"`` or ``"int8+bf16"``: that of its coarsest part.

    Raises:
        EdgeferError: an unknown precision.
    """
    parts = precision.split("+")
    unknown = [part for part in parts if part not in TOLERANCE]
    if unknown:
        raise EdgeferError(f"no tolerance is known for the precision '{precision}'", hint=f"one of {list(TOLERANCE)}")
    return max(TOLERANCE[part] for part in parts)


def make_golden(classifier: Classifier, *, count: int = 4) -> Golden:
    """Ask ``classifier`` about ``count`` drawn faces and pin its answers.

    Args:
        classifier: the engine, as just built.
        count: how many faces.
    """
    faces = golden_faces(classifier.contract, count)
    tolerance = tolerance_of(classifier.precision)
    return Golden(faces, classifier.logits(faces), {classifier.runtime: tolerance})


def difference(found: Logits, golden: Logits) -> float:
    """``max |found − golden| / max |golden|``."""
    scale = float(np.abs(golden).max())
    return float(np.abs(found - golden).max()) / max(scale, float(np.finfo(np.float32).tiny))


def check_golden(classifier: Classifier, golden: Golden) -> float:
    """Ask ``classifier`` about the golden faces; return the largest difference relative to the largest golden logit.

    Raises:
        EdgeferError: the difference is over the tolerance of the classifier's runtime, or there is none for it.
    """
    if classifier.runtime not in golden.tolerance:
        raise EdgeferError(
            f"{classifier.name} was never checked with {classifier.runtime}: its golden vectors are for "
            f"{', '.join(golden.tolerance)}",
            hint=f"run it with {' or '.join(golden.tolerance)}, or build it for {classifier.runtime}",
        )
    allowed = golden.tolerance[classifier.runtime]
    found = difference(classifier.logits(golden.faces), golden.logits)
    if not found <= allowed:
        raise EdgeferError(
            f"{classifier.name} does not answer here as when it was built: its golden logits differ by {found:.3g} of "
            f"their scale with {classifier.runtime} {classifier.runtime_version}, {allowed:.3g} is allowed",
            hint="this CPU or runtime computes it differently: build the engine again on this machine",
        )
    return found
