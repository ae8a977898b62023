"""What an engine for a CPU can be: a runtime, a precision, and for INT8 the scheme of its Q/DQ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx

from edgefer.contract import Contract
from edgefer.engines.classifier import Classifier
from edgefer.engines.cpu import instruction_set
from edgefer.engines.session import open_session
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import metadata_of, serialise, stamp
from edgefer.manifest import Precision
from edgefer.optimize.refiner import Refiner
from edgefer.quantize.corrections import Corrected
from edgefer.quantize.plan import plan_to_the_end
from edgefer.quantize.qdq import QUANTISATION_KEY, quantise
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.scheme import TENSORRT, TENSORRT_FP16, named_scheme
from edgefer.runtimes import CPU, for_target, resolve

RUNTIMES = tuple(for_target(CPU))


@dataclass(frozen=True)
class Variant:
    """One way to build: ``runtime``, a ``precision`` that it offers, and the ``scheme`` of an INT8 file."""

    runtime: str
    precision: str
    scheme: str | None = None

    @property
    def label(self) -> str:
        """What tables call it: ``onnxruntime FP32``, ``openvino INT8 (openvino-all)``.

        Files for TensorRT answer in another runtime, and are not called by that.
        """
        if self.scheme in (TENSORRT.name, TENSORRT_FP16.name):
            return f"TensorRT {self.precision.upper()} ({self.scheme})"
        return f"{self.runtime} {self.precision.upper()}" + (f" ({self.scheme})" if self.scheme else "")


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
    rows, instructions = for_target(CPU), instruction_set()
    if runtime not in rows:
        raise EdgeferError(f"there is no CPU runtime '{runtime}'", hint=f"one of: {', '.join(rows)}")
    rows[runtime].check_precision(precision, instructions)
    if not precision.startswith("int8"):
        return (Variant(runtime, precision),)
    return tuple(Variant(runtime, precision, name) for name in resolve(rows[runtime].schemes)(instructions))


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
    if variant.scheme is None:
        stamp(copy, contract, variant.precision)
        return Built(variant, serialise(copy), Precision(variant.precision, variant.precision))
    if ranges is None:
        raise ValueError("an INT8 variant needs ranges")
    scheme = named_scheme(variant.scheme)
    plan = plan_to_the_end(copy, scheme, keep_float=keep_float)
    refined = Corrected(copy, {}) if refiner is None else refiner.refine(copy, plan, ranges, method)
    made = quantise(refined.model, plan, ranges, method=method, same_model=refiner is None)
    how = {key: value for key, value in metadata_of(made.model).items() if key == QUANTISATION_KEY}
    stamp(made.model, contract, variant.precision, how)
    precision = Precision(variant.precision, variant.precision, made.layers)
    return Built(variant, serialise(made.model), precision, refined.changes)
