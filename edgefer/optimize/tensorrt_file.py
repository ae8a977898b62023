"""The ONNX file that a version of TensorRT builds from: rewritten, quantised and typed for it, on any host."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from edgefer.atomic import sha256_file
from edgefer.contract import INPUT_NAME, Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.compat import Target
from edgefer.engines.tensorrt.inputs import check_model, with_float_weights
from edgefer.engines.tensorrt.options import DEFAULTS, BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.graph.fp16 import to_fp16, to_fp32
from edgefer.graph.onnx_file import metadata_of, serialise, stamp
from edgefer.graph.parity import measure_parity, parity_faces, require_parity
from edgefer.graph.rewrite import PASSES, Rewritten, check_names, rewrite
from edgefer.manifest import PRECISION_KEY, Calibration, calibration_from
from edgefer.measure.agreement import Agreement
from edgefer.optimize.candidates import CandidateResult, Variant
from edgefer.optimize.given_faces import Purpose
from edgefer.optimize.prepared import PreparedModel
from edgefer.optimize.reference import Reference, make_reference
from edgefer.optimize.search import MacCost, search
from edgefer.optimize.settings import Quantisation, option_of
from edgefer.progress import announce
from edgefer.provenance import packed, unpacked
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.observation import with_outputs
from edgefer.quantize.qdq import QUANTISATION_KEY
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.scheme import TENSORRT_FP16, TENSORRT_SCHEME
from edgefer.runtimes import REFERENCE

ORIGIN_KEY: Final = "edgefer.origin"
"""The metadata key of what a device cannot know of a file that a host wrote: model, faces, target; JSON."""

REWRITES: Final = ("fold-batchnorm", "merge-depthwise")
"""The passes that are run for TensorRT.

Q/DQ needs batch norms in the weights. Merging the kernel sizes of a mixed depthwise layer takes copies away: ddamfn in
FP16 is 579 layers in TensorRT-RTX 1.7 with it and 964 without, in INT8 546 and 837. Splitting a PRelu is for CPUs: it
makes more layers here (993), since the compiler fuses one as it is.
"""


_MAX_FP16: Final = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class TensorrtFile:
    """A file for one version of TensorRT, and what is known about it.

    Attributes:
        model: typed and quantised as the version wants it, with its metadata.
        contract: the network's contract.
        precision: ``"int8+fp16"``, ….
        model_sha256: hash of the exported model.onnx.
        calibration: the faces behind the ranges.
        rewrites: pass → in how many places.
        ranges: with implicit quantisation, the observed ranges; else None.
        method: calibration method.
        candidates: results of methods and plans, where they were chosen; reason: the reason for the choice.
        model_file: name of the exported model.onnx, ``""`` where unknown.
        agreement: with float, in ONNX Runtime; None of a float file.
        choice_faces: see :attr:`PreparedModel.choice_faces`.
        reference: what an engine of it is compared with; None where nothing here can say.
    """

    model: onnx.ModelProto
    contract: Contract
    precision: str
    model_sha256: str
    calibration: Calibration | None = None
    rewrites: dict[str, int] = field(default_factory=dict)
    ranges: Ranges | None = None
    method: str = ""
    candidates: tuple[CandidateResult, ...] = ()
    reason: str = ""
    model_file: str = ""
    agreement: Agreement | None = None
    choice_faces: tuple[str, ...] = ()
    reference: Reference | None = None

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return serialise(self.model)


def prepare_file(
    path: str | os.PathLike[str],
    loaded: tuple[onnx.ModelProto, Contract],
    precision: str,
    target: Target,
    settings: Quantisation,
    options: BuilderOptions = DEFAULTS,
    *,
    observe: bool = True,
    no_rewrite: Collection[str] = (),
) -> TensorrtFile:
    """Make of an exported model the file that ``target`` builds ``precision`` from.

    A file that was made so already, on a host with ``--onnx-only``, is taken as it is.

    Args:
        path: the model.
        loaded: the result of :func:`~edgefer.graph.onnx_file.load_model` for it.
        precision: one of :data:`edgefer.engines.tensorrt.options.PRECISIONS`.
        target: the version.
        settings: settings of the INT8 ranges.
        options: the builder's: with a calibrator the graph stays in FP32, and for a DLA core where the version wants.
        observe: with a calibrator, make ranges for its table all the same.
        no_rewrite: passes to leave out.

    Raises:
        EdgeferError: bad input; the model was quantised for a CPU; INT8 without faces; it overflows in FP16.
    """
    check_names(no_rewrite)
    model, contract = loaded
    stated = metadata_of(model).get(PRECISION_KEY, "fp32")
    known = _origin(model)
    from_host = bool(known.model_sha256) and precision == "fp32"
    if from_host or stated != "fp32" or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return _as_it_is(path, model, contract, precision, stated, target, settings, options)
    rewritten = for_tensorrt(model, contract, no_rewrite)
    digest = known.model_sha256 or sha256_file(path)
    method = settings.recipe(contract.architecture).method
    prepared = PreparedModel(rewritten, contract, digest, method, record=known.calibration)
    if precision.startswith("int8") and (observe or not options.implicit):
        # with a calibrator there is no INT8 file to compare: all images set ranges, as TensorRT's calibrator takes them
        prepared = prepared.calibrate(settings, Purpose.TABLE if options.implicit else None)
    made = _made(prepared, precision, target, settings, options)
    if not target.has.int8_constants:
        made = replace(made, model=with_float_weights(made.model))
    made = replace(made, reference=make_reference(made.model, contract, made.precision))
    origin = {
        "model_sha256": digest,
        "calibration": None if made.calibration is None else made.calibration.to_dict(),
        "rewrites": made.rewrites,
        "target": target.title,
        "candidates": [row.to_dict() for row in made.candidates],
        "agreement": None if made.agreement is None else made.agreement.to_dict(),
        "choice_faces": packed(made.choice_faces),
        "reference": None if made.reference is None else made.reference.to_dict(),
    }
    how = {key: value for key, value in metadata_of(made.model).items() if key == QUANTISATION_KEY}
    weak = options.weakly_typed(target)
    written = "fp32" if options.implicit or (precision == "fp16" and weak) else made.precision
    stamp(made.model, contract, written, {**how, ORIGIN_KEY: json.dumps(origin, sort_keys=True)})
    check_model(made.model, target, made.precision, options)
    return replace(made, model_file="" if known.model_sha256 else Path(path).name)


def for_tensorrt(model: onnx.ModelProto, contract: Contract, no_rewrite: Collection[str] = ()) -> Rewritten:
    """The exported ``model`` with :data:`REWRITES` and no others."""
    return rewrite(model, contract, skip=[*no_rewrite, *(name for name in PASSES if name not in REWRITES)])


def _made(
    prepared: PreparedModel, precision: str, target: Target, settings: Quantisation, options: BuilderOptions
) -> TensorrtFile:
    """Q/DQ where INT8 is explicit, FP16 tensors where types decide; checked against the float32 form."""
    by_types = "fp16" in precision and not options.weakly_typed(target)
    if by_types:
        check_fp16(prepared.model, prepared.contract)
    candidates: tuple[CandidateResult, ...] = ()
    agreement: Agreement | None = None
    reason, changes, got = "", dict(prepared.rewritten.changes), precision
    made = onnx.ModelProto()
    made.CopyFrom(prepared.model)
    if precision.startswith("int8") and not options.implicit:
        variant = Variant(REFERENCE.name, "int8", (TENSORRT_FP16 if by_types else TENSORRT_SCHEME).name)
        if not settings.evaluates:
            file = prepared.build(variant)
        else:  # only a device can run the file: here it is evaluated in the reference runtime, which computes in float
            found = search(prepared, (variant,), settings, MacCost())
            prepared, file, candidates, reason = found.prepared, found.candidate, found.rows, found.reason
        agreement = prepared.agreement(file)
        made, changes = onnx.load_model_from_string(file.content), prepared.changes(file)
        if file.precision.got == "fp32":
            got = precision.removeprefix("int8").removeprefix("+") or "fp32"
    elif precision.startswith("int8"):
        agreement = Agreement(reason="TensorRT's own calibrator chooses what is INT8")
    return TensorrtFile(
        to_fp16(made) if by_types else made,
        prepared.contract,
        got,
        prepared.model_sha256,
        prepared.record,
        changes,
        prepared.calibrated.ranges if options.implicit and prepared.calibrated is not None else None,
        prepared.method,
        candidates,
        reason,
        agreement=agreement,
        choice_faces=prepared.choice_faces,
    )


def _as_it_is(
    path: str | os.PathLike[str],
    model: onnx.ModelProto,
    contract: Contract,
    precision: str,
    stated: str,
    target: Target,
    settings: Quantisation,
    options: BuilderOptions,
) -> TensorrtFile:
    """A file that ``--onnx-only`` wrote: its faces, its model and its answers are in its metadata."""
    if options.weak_typing and not target.rtx:
        model = to_fp32(model)  # scales and weights keep their values
    check_model(model, target, precision, options)
    if stated != precision:
        raise EdgeferError(
            f"{Path(path)} is {stated.upper()}, and {precision.upper()} is asked for",
            hint=f"--{stated.replace('+', ' --')}, or start from the float model.onnx",
        )
    if settings.given:
        flags = ", ".join(option_of(name) for name in settings.given)
        announce(f"note: {flags} not used: the file's ranges were set when it was written")
    known = _origin(model)
    agreement = known.agreement
    if agreement is None and precision.startswith("int8"):
        agreement = Agreement(reason="it was not where the file was written, and a device has no images")
    return TensorrtFile(
        *(model, contract, precision, known.model_sha256 or sha256_file(path), known.calibration, known.rewrites),
        candidates=known.candidates,
        agreement=agreement,
        choice_faces=known.choice_faces,
        reference=known.reference or make_reference(model, contract, precision),
    )


@dataclass(frozen=True)
class _Origin:
    """The content of :data:`ORIGIN_KEY`; empty for a file that was exported."""

    model_sha256: str
    calibration: Calibration | None
    rewrites: dict[str, int]
    candidates: tuple[CandidateResult, ...]
    agreement: Agreement | None
    choice_faces: tuple[str, ...]
    reference: Reference | None


def _origin(model: onnx.ModelProto) -> _Origin:
    content = json.loads(metadata_of(model).get(ORIGIN_KEY, "{}"))
    record, agreement, reference = (content.get(key) for key in ("calibration", "agreement", "reference"))
    return _Origin(
        str(content.get("model_sha256", "")),
        None if record is None else calibration_from(record),
        {str(name): int(places) for name, places in content.get("rewrites", {}).items()},
        tuple(CandidateResult.from_dict(row) for row in content.get("candidates", [])),
        None if agreement is None else Agreement.from_dict(agreement),
        unpacked(content.get("choice_faces", ())),
        None if reference is None else Reference.from_dict(reference),
    )


def check_fp16(model: onnx.ModelProto, contract: Contract) -> None:
    """Refuse FP16 for a float32 ``model`` that overflows in it, or answers otherwise, on synthetic faces and noise.

    ONNX Runtime computes FP16 graphs of a CPU in FP32 and keeps what would overflow, so activations are looked at
    one by one. It is checked before Q/DQ are put in: there, a value that FP16 moves over a rounding step moves by a
    whole step.

    Raises:
        EdgeferError: names the layer and its largest value, or the difference of the logits.
    """
    converted = to_fp16(model)
    _check_activations(model, converted, contract)
    # as written: onnxruntime's fusions make operators of FP16 graphs that it has no kernels for
    sessions = OnnxRuntimeSession(serialise(model)), OnnxRuntimeSession(serialise(converted), optimise=False)
    try:
        parity = measure_parity(*sessions, contract)
        require_parity(parity, REFERENCE.tolerance_of("fp16"), "the network in FP32 and in FP16")
    except EdgeferError as cause:
        raise EdgeferError(
            f"the network does not survive FP16: {cause.message}", hint="build with --fp32, or --int8 without --fp16"
        ) from cause


def _check_activations(model: onnx.ModelProto, converted: onnx.ModelProto, contract: Contract) -> None:
    inferred = onnx.shape_inference.infer_shapes(converted).graph
    in_fp16 = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    makers = {name: node for node in GraphView(model).nodes for name in node.output if name in in_fp16}
    session = OnnxRuntimeSession(serialise(with_outputs(model, makers)))
    for faces in parity_faces(contract):
        for face in faces:
            for name, value in session.run({INPUT_NAME: face[None]}).items():
                largest = float(np.abs(value).max(initial=0.0))
                if name in makers and not largest <= _MAX_FP16:
                    maker = makers[name]
                    raise EdgeferError(
                        f"the network does not survive FP16: {maker.op_type} '{layer_name(maker)}' reaches "
                        f"{largest:.4g}, and FP16 ends at {_MAX_FP16:.0f}",
                        hint="build with --fp32, or --int8 without --fp16",
                    )
