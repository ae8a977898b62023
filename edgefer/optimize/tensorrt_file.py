"""The ONNX file that a version of TensorRT builds from: rewritten, quantised and typed for it, on any host."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import onnx

from edgefer.atomic import sha256_file
from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.tensorrt.accept import check_model
from edgefer.engines.tensorrt.compat import Target
from edgefer.engines.tensorrt.options import DEFAULTS, BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.graph.half import to_half
from edgefer.graph.load import metadata_of
from edgefer.graph.rewriting import PASSES, Rewritten, check_names, rewrite
from edgefer.graph.save import serialise, stamp
from edgefer.manifest import PRECISION_KEY, Calibration, calibration_from
from edgefer.optimize.calibrate import calibrate, calibration_faces
from edgefer.optimize.half import check_half
from edgefer.optimize.ranging import ranged_from
from edgefer.optimize.recipe import Recipe, recipe_for
from edgefer.optimize.tables import Table
from edgefer.progress import announce
from edgefer.quantize.flavour import TENSORRT, TENSORRT_HALF
from edgefer.quantize.plan import make_plan
from edgefer.quantize.qdq import QUANTISATION_KEY, quantise
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.tail import idle_layers

ORIGIN_KEY: Final = "edgefer.origin"
"""The metadata key of what a device cannot know of a file that a host wrote: model, faces, target; JSON."""

REWRITES: Final = ("fold-batchnorm", "merge-depthwise")
"""The passes that are run for TensorRT.

Q/DQ needs batch norms in the weights. Merging the kernel sizes of a mixed depthwise layer takes copies away: ddamfn in
FP16 is 579 layers in TensorRT-RTX 1.7 with it and 964 without, in INT8 546 and 837. Splitting a PRelu is for CPUs: it
makes more layers here (993), since the compiler fuses one as it is.
"""


@dataclass(frozen=True)
class Faces:
    """What INT8 ranges are made from: the arguments of :func:`edgefer.build_engine` of the same names."""

    calib: str | FaceSet | None = None
    count: int | None = None
    method: str | None = None
    seed: int | None = None
    table: Table | None = None
    """Ranges without faces, where the table was made of the graph that TensorRT gets: :func:`for_tensorrt`."""


@dataclass(frozen=True)
class Prepared:
    """A file for one version of TensorRT, and what is known about it.

    Attributes:
        model: typed and quantised as the version wants it, with its metadata.
        contract: of the network.
        precision: ``"int8+fp16"``, ….
        model_sha256: of the exported model.onnx.
        calibration: the faces behind the ranges.
        rewrites: pass → in how many places.
        ranges: with implicit quantisation, what was observed; else None.
        method: how ranges were cut.
    """

    model: onnx.ModelProto
    contract: Contract
    precision: str
    model_sha256: str
    calibration: Calibration | None = None
    rewrites: dict[str, int] = field(default_factory=dict)
    ranges: Ranges | None = None
    method: str = ""

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return serialise(self.model)


def prepare_file(
    path: str | os.PathLike[str],
    loaded: tuple[onnx.ModelProto, Contract],
    precision: str,
    target: Target,
    faces: Faces,
    options: BuilderOptions = DEFAULTS,
    *,
    observe: bool = True,
    no_rewrite: Collection[str] = (),
) -> Prepared:
    """Make of an exported model the file that ``target`` builds ``precision`` from.

    A file that was made so already, on a host with ``--onnx-only``, is taken as it is.

    Args:
        path: the model.
        loaded: what :func:`~edgefer.graph.load.load_model` read from it.
        precision: of :data:`edgefer.engines.tensorrt.options.PRECISIONS`.
        target: the version.
        faces: what INT8 ranges are made from.
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
    if stated != "fp32" or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return _as_it_is(path, model, contract, precision, stated, target, faces, options)
    rewritten = for_tensorrt(model, contract, no_rewrite)
    plain, ranges, record = rewritten.model, None, known.calibration
    recipe = recipe_for(contract.architecture).overridden(faces.count, None, faces.seed, faces.method)
    if precision.startswith("int8") and (observe or not options.implicit):
        if faces.table is not None:
            done = ranged_from(faces.table, plain, contract, recipe)
            plain, ranges, record = done.model, done.ranges, done.record
        else:
            ranges, record = _observed(plain, contract, faces, recipe)
    weak = options.weakly_typed(target)
    made = _typed(plain, contract, precision, None if options.implicit else ranges, recipe, weak=weak)
    origin = {
        "model_sha256": known.model_sha256 or sha256_file(path),
        "calibration": None if record is None else asdict(record),
        "rewrites": rewritten.changes,
        "target": target.title,
    }
    how = {key: value for key, value in metadata_of(made).items() if key == QUANTISATION_KEY}
    written = "fp32" if options.implicit or (precision == "fp16" and weak) else precision
    stamp(made, contract, written, {**how, ORIGIN_KEY: json.dumps(origin, sort_keys=True)})
    check_model(made, target, precision, options)
    return Prepared(
        made,
        contract,
        precision,
        str(origin["model_sha256"]),
        record,
        dict(rewritten.changes),
        ranges if options.implicit else None,
        recipe.method,
    )


def for_tensorrt(model: onnx.ModelProto, contract: Contract, no_rewrite: Collection[str] = ()) -> Rewritten:
    """The exported ``model`` with :data:`REWRITES` and no others."""
    return rewrite(model, contract, skip=[*no_rewrite, *(name for name in PASSES if name not in REWRITES)])


def _observed(model: onnx.ModelProto, contract: Contract, faces: Faces, recipe: Recipe) -> tuple[Ranges, Calibration]:
    if faces.calib is None:
        raise EdgeferError(
            "INT8 is asked for, and the model has neither Q/DQ nor calibration",
            hint="--calib DATA sets the ranges: its `calib` part is used, never its test faces",
        )
    return calibrate(model, contract, calibration_faces(faces.calib, contract, recipe), recipe)


def _typed(
    model: onnx.ModelProto,
    contract: Contract,
    precision: str,
    ranges: Ranges | None,
    recipe: Recipe,
    *,
    weak: bool,
) -> onnx.ModelProto:
    """Q/DQ where INT8 is explicit, FP16 tensors where types decide; checked against the float32 form."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    half = "fp16" in precision and not weak
    if half:
        check_half(model, contract)
    if precision.startswith("int8") and ranges is not None:
        flavour = TENSORRT_HALF if half else TENSORRT
        plan = make_plan(made, flavour, keep_float=idle_layers(made, flavour))
        made = quantise(made, plan, flavour, ranges, method=recipe.method).model
    return to_half(made) if half else made


def _as_it_is(
    path: str | os.PathLike[str],
    model: onnx.ModelProto,
    contract: Contract,
    precision: str,
    stated: str,
    target: Target,
    faces: Faces,
    options: BuilderOptions,
) -> Prepared:
    """A file that ``--onnx-only`` wrote: its faces and its model are in its metadata."""
    check_model(model, target, precision, options)
    if stated != precision:
        raise EdgeferError(
            f"{Path(path)} is {stated.upper()}, and {precision.upper()} is asked for",
            hint=f"--{stated.replace('+', ' --')}, or start from the float model.onnx",
        )
    if faces.calib is not None:
        announce("note: --calib is not used: the file's ranges were set when it was written")
    known = _origin(model)
    return Prepared(
        model, contract, precision, known.model_sha256 or sha256_file(path), known.calibration, known.rewrites
    )


@dataclass(frozen=True)
class _Origin:
    """What :data:`ORIGIN_KEY` says; nothing in a file that was exported."""

    model_sha256: str
    calibration: Calibration | None
    rewrites: dict[str, int]


def _origin(model: onnx.ModelProto) -> _Origin:
    content = json.loads(metadata_of(model).get(ORIGIN_KEY, "{}"))
    record = content.get("calibration")
    return _Origin(
        str(content.get("model_sha256", "")),
        None if record is None else calibration_from(record),
        {str(name): int(places) for name, places in content.get("rewrites", {}).items()},
    )
