"""Whether a runtime computes an INT8 file as it is written; golden vectors are the engine's own, and cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from edgefer.contract import Contract
from edgefer.engines.classifier import Classifier, difference
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.optimize.variants import Built
from edgefer.progress import announce
from edgefer.runtimes import TOLERANCE

ALLOWED = TOLERANCE["int8"]
"""Of the logits' scale. Rounding moves INT8 logits by up to 0.04 between runtimes. OpenVINO 2026.4 is off by 0.24 on
cliquenet, whose convolutions read concatenated maps, in the scheme openvino-inputs: 83 % of its answers to 300 of
FER2013's val faces are the float network's, where with the same file 98 % of ONNX Runtime's are."""

_FACES = 4


def only_faithful(built: Sequence[Built], contract: Contract) -> list[Built]:
    """Those of ``built`` that answer as ONNX Runtime does when it runs the file's nodes one by one, in float.

    Files for ONNX Runtime are not asked. What is left out is announced.

    Raises:
        EdgeferError: none is left.
    """
    kept, faults = [], []
    for one in built:
        off = 0.0 if one.variant.runtime == "onnxruntime" else error_of(one, contract)
        if off <= ALLOWED:
            kept.append(one)
        else:
            faults.append(f"{one.variant.label} is off by {off:.2g} of the logits' scale from what its file says")
    if not kept:
        raise EdgeferError(f"{'; '.join(faults)}: the runtime computes it wrongly", hint="--runtime onnxruntime")
    for fault in faults:
        announce(f"note: {fault}: left out")
    return kept


def error_of(built: Built, contract: Contract) -> float:
    """The largest difference of a logit from ONNX Runtime's without any fusing, relative to the largest logit."""
    faces = golden_faces(contract, _FACES)
    plain = OnnxRuntimeSession(built.engine, optimise=False)
    with (
        Classifier(plain, contract, precision=built.precision.got, size_bytes=len(built.engine), name="plain") as says,
        built.open(contract) as engine,
    ):
        return difference(engine.logits(faces), says.logits(faces))
