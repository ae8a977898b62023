"""What an engine for a CPU can be: a runtime, a precision, and for INT8 the flavour of its Q/DQ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx

from edgefer.contract import Contract
from edgefer.engines.classifier import Classifier
from edgefer.engines.cpu import BF16, instruction_set, saturates
from edgefer.engines.opening import open_session
from edgefer.errors import EdgeferError
from edgefer.graph.load import metadata_of
from edgefer.graph.save import serialise, stamp
from edgefer.manifest import Precision
from edgefer.optimize.refiner import Refiner
from edgefer.quantize.flavour import TENSORRT, TENSORRT_HALF, named_flavour
from edgefer.quantize.qdq import QUANTISATION_KEY, quantise
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.refining import Refined
from edgefer.quantize.tail import plan_to_the_end

RUNTIMES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8", "int8+bf16")


@dataclass(frozen=True)
class Variant:
    """One way to build: ``runtime``, ``precision`` of :data:`PRECISIONS`, and the ``flavour`` of an INT8 file."""

    runtime: str
    precision: str
    flavour: str | None = None

    @property
    def label(self) -> str:
        """What tables call it: ``onnxruntime FP32``, ``openvino INT8 (openvino-all)``.

        Files for TensorRT answer in another runtime, and are not called by that.
        """
        if self.flavour in (TENSORRT.name, TENSORRT_HALF.name):
            return f"TensorRT {self.precision.upper()} ({self.flavour})"
        return f"{self.runtime} {self.precision.upper()}" + (f" ({self.flavour})" if self.flavour else "")


@dataclass(frozen=True)
class Built:
    """A variant's file in memory, what its layers compute in, and how many of them each refining step changed."""

    variant: Variant
    engine: bytes
    precision: Precision
    refined: Mapping[str, int] = field(default_factory=dict)

    def open(self, contract: Contract, threads: int = 1) -> Classifier:
        """A classifier over the file; close it after use."""
        session = open_session(self.variant.runtime, self.engine, threads, self.precision.got)
        return Classifier(
            session, contract, precision=self.precision.got, size_bytes=len(self.engine), name=self.variant.label
        )


def variants_of(precision: str, runtime: str) -> tuple[Variant, ...]:
    """Every variant on this CPU that answers to ``precision`` and ``runtime``; several where placement is a choice.

    Raises:
        EdgeferError: the runtime has no kernels of that precision here.
    """
    if runtime not in RUNTIMES:
        raise EdgeferError(f"there is no CPU runtime '{runtime}'", hint=f"one of: {', '.join(RUNTIMES)}")
    if "fp16" in precision.split("+"):
        raise EdgeferError(
            f"{runtime} computes nothing in FP16 on a CPU: it would convert to FP32 and back at every layer",
            hint="--fp32 or --int8 here; --fp16 is for GPUs",
        )
    if precision not in PRECISIONS:
        raise EdgeferError(f"there is no precision '{precision}'", hint=f"one of: {', '.join(PRECISIONS)}")
    if "bf16" in precision:
        _require_bf16(runtime)
    if not precision.startswith("int8"):
        return (Variant(runtime, precision),)
    return tuple(Variant(runtime, precision, name) for name in _flavours(runtime))


def build(
    variant: Variant,
    model: onnx.ModelProto,
    contract: Contract,
    ranges: Ranges | None,
    method: str,
    keep_float: Collection[str] = (),
    refiner: Refiner | None = None,
) -> Built:
    """Make the file of ``variant`` from the float ``model``; what comes after ``contract`` is for INT8."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if variant.flavour is None:
        stamp(copy, contract, variant.precision)
        return Built(variant, serialise(copy), Precision(variant.precision, variant.precision))
    if ranges is None:
        raise ValueError("an INT8 variant needs ranges")
    flavour = named_flavour(variant.flavour)
    plan = plan_to_the_end(copy, flavour, keep_float=keep_float)
    refined = Refined(copy, {}) if refiner is None else refiner.refine(copy, plan, flavour, ranges, method)
    made = quantise(refined.model, plan, flavour, ranges, method=method, same_model=refiner is None)
    how = {key: value for key, value in metadata_of(made.model).items() if key == QUANTISATION_KEY}
    stamp(made.model, contract, variant.precision, how)
    precision = Precision(variant.precision, variant.precision, made.layers)
    return Built(variant, serialise(made.model), precision, refined.changes)


def _flavours(runtime: str) -> tuple[str, ...]:
    instructions = instruction_set()
    if saturates(instructions):
        return ("x86",)
    if runtime == "openvino":
        return ("openvino-all", "openvino-inputs")
    return ("arm", "arm-signed") if "asimd" in instructions else ("x86-vnni",)


def _require_bf16(runtime: str) -> None:
    if runtime != "openvino":
        raise EdgeferError(
            f"{runtime} has no bfloat16 kernels for convolutions on a CPU", hint="--runtime openvino, or --fp32"
        )
    if not BF16 & set(instruction_set()):
        raise EdgeferError("this CPU has no bfloat16 arithmetic", hint="build with --fp32 or --int8")
