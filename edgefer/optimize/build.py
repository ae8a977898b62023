"""From an exported model to an engine with its manifest: the place that joins quantisation, engines and measurement."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgefer.atomic import sha256_file, write_bytes
from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.cpu import instruction_set
from edgefer.engines.golden import make_golden
from edgefer.errors import EdgeferError
from edgefer.graph.load import load_model
from edgefer.graph.rewriting import Rewritten, check_names, rewrite
from edgefer.manifest import Calibration, Manifest, write_engine
from edgefer.optimize.choose import Figures, choose, timed, verdict
from edgefer.optimize.ranging import ranged_by_table, ranged_on_faces
from edgefer.optimize.recipe import recipe_for
from edgefer.optimize.refiner import EQUALISE, Refiner
from edgefer.optimize.result import BuildResult
from edgefer.optimize.tensorrt import TARGETS, build_tensorrt
from edgefer.optimize.tensorrt_file import Faces
from edgefer.optimize.variants import Built, Variant, build, variants_of
from edgefer.progress import announce
from edgefer.quantize.graphview import refuse_quantised
from edgefer.quantize.ranges import Ranges


@dataclass(frozen=True)
class Job:
    """What every variant of one build shares.

    Attributes:
        rewritten: what float files are made of.
        model: what INT8 files are made of: equalised too.
    """

    rewritten: Rewritten
    model: onnx.ModelProto
    contract: Contract
    model_sha256: str
    ranges: Ranges | None
    calibration: Calibration | None
    method: str
    refiner: Refiner | None = None
    equalised: int = 0  # activations of ``model``

    def build(self, variant: Variant, keep_float: Collection[str] = ()) -> Built:
        """The file of ``variant``; the layers ``keep_float`` of an INT8 one stay float."""
        model = self.rewritten.model if variant.flavour is None else self.model
        return build(variant, model, self.contract, self.ranges, self.method, keep_float, self.refiner)

    def manifest(self, built: Built, candidates: Sequence[Figures] = ()) -> Manifest:
        """Open the engine once, pin its answers, and say what it is."""
        with built.open(self.contract) as classifier:
            golden = make_golden(classifier)
            version = classifier.runtime_version
        return Manifest(
            model_sha256=self.model_sha256,
            weights_sha256=self.contract.lineage.get("weights_sha256", ""),
            target="cpu",
            runtime=built.variant.runtime,
            runtime_version=version,
            instruction_set=instruction_set(),
            contract=self.contract,
            precision=built.precision,
            calibration=self.calibration if built.precision.has_int8 else None,
            golden=golden,
            rewrites=self._changes(built),
            candidates=tuple(figure.to_dict() for figure in candidates),
        )

    def _changes(self, built: Built) -> dict[str, int]:
        """Pass or refining step → in how many places it changed the exported graph."""
        if built.variant.flavour is None:
            return dict(self.rewritten.changes)
        layers = sum(layer.got == "int8" and layer.op in ("Conv", "Gemm") for layer in built.precision.layers)
        steps = dict.fromkeys(self.refiner.steps if self.refiner is not None else (), layers)
        return {**self.rewritten.changes, **({EQUALISE: self.equalised} if self.equalised else {}), **steps}


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str,
    calib: str | FaceSet | None = None,
    calib_faces: int | None = None,
    method: str | None = None,
    target: str = "cpu",
    runtime: str = "onnxruntime",
    onnx_only: bool = False,
    threads: int = 1,
    batch: int = 1,
    seed: int | None = None,
    no_rewrite: Collection[str] = (),
    version: str | None = None,
    builder: Mapping[str, Any] | None = None,
    per_class: int | None = None,
    refine: Collection[str] | None = None,
    table: str | os.PathLike[str] | None = None,
    max_drop: float | None = None,
) -> BuildResult:
    """Build an engine from an exported ``model`` and write it with its manifest.

    Args:
        model: what :func:`edgefer.export` wrote.
        output: the engine: an ``.onnx`` file for a CPU, an ``.engine`` file of TensorRT.
        precision: ``"fp32"``, ``"int8"``; for a CPU also ``"bf16"`` or ``"int8+bf16"`` (the rest in bfloat16), for
            TensorRT ``"fp16"`` or ``"int8+fp16"``.
        calib: for INT8, a dataset (path or FaceSet); its ``calib`` part is used unless the path names a split.
        calib_faces: how many of them; with ``method`` and ``seed``, overrides the architecture's recipe.
        method: how histograms become ranges; ``"auto"`` tries all, with ``calib``'s `val` part.
        seed: of the draw.
        target: ``"cpu"``, ``"tensorrt"`` or ``"tensorrt-rtx"``.
        runtime: of a CPU: ``"onnxruntime"`` or ``"openvino"``.
        onnx_only: write the ONNX file that the target takes, and no manifest.
        threads: with ``batch``, what variants are timed with, where a flavour has to be chosen.
        batch: faces a timed call.
        no_rewrite: passes of :data:`edgefer.graph.rewriting.PASSES` to leave out.
        version: of TensorRT, or a JetPack: what ``onnx_only`` writes for; else the one that is installed.
        builder: options of TensorRT's builder: :data:`edgefer.engines.tensorrt.options.NAMES`.
        per_class: so many faces of each class set the ranges, or as many as there are.
        refine: steps of :data:`edgefer.optimize.refiner.ALL_STEPS`; the default ones if None.
        table: ranges without faces, as `edgefer calibrate` wrote them; those that ship where there is no ``calib``.
        max_drop: for INT8: see :func:`edgefer.optimize.budget.build_within`.

    Raises:
        EdgeferError: bad input, or a precision that the runtime or this CPU does not have.
    """
    of_a_cpu = {
        "runtime": runtime != "onnxruntime",
        "threads": threads != 1,
        "batch": batch != 1,
        **{name: v is not None for name, v in (("per_class", per_class), ("refine", refine), ("table", table))},
        "max_drop": max_drop is not None,
    }
    of_tensorrt = {"version": version is not None, "builder": bool(builder)}
    _refuse_misplaced(target, of_a_cpu if target in TARGETS else of_tensorrt if target == "cpu" else {})
    if os.path.realpath(model) == os.path.realpath(output):
        raise EdgeferError(f"{output} is the model itself, which would be lost", hint="choose another output path")
    if target in TARGETS:
        faces = Faces(calib, calib_faces, method, seed)
        return build_tensorrt(
            *(model, output),
            precision=precision,
            target=target,
            faces=faces,
            builder=builder or {},
            version=version,
            onnx_only=onnx_only,
            no_rewrite=no_rewrite,
        )
    destination = checked_output(output, target)
    variants = variants_of(precision, runtime)
    if max_drop is not None and not precision.startswith("int8"):
        raise EdgeferError(f"{precision.upper()} has no layers to keep out of INT8", hint="leave out max_drop")
    if precision.startswith("int8") and (max_drop is not None or method == "auto"):
        from edgefer.optimize.judged import build_judged  # it is made of what stands in this file

        any_method = method == "auto"
        usual = None if any_method else method

        def prepare(faces: FaceSet) -> Job:
            return prepare_job(model, precision, faces, calib_faces, usual, seed, no_rewrite, per_class, refine)

        return build_judged(
            *(prepare, destination, variants, calib),
            any_method=any_method,
            max_drop=max_drop,
            onnx_only=onnx_only,
            threads=threads,
            batch=batch,
        )
    job = prepare_job(model, precision, calib, calib_faces, method, seed, no_rewrite, per_class, refine, table)
    built = [job.build(variant) for variant in variants]
    figures: list[Figures] = []
    if len(built) > 1:
        figures = choose(_timed(built, job.contract, threads, batch))
    winner = built[next((i for i, f in enumerate(figures) if f.chosen), 0)]
    if onnx_only:
        write_bytes(destination, winner.engine)
        return BuildResult(destination, None)
    manifest = write_engine(destination, winner.engine, job.manifest(winner, figures))
    return BuildResult(destination, manifest, verdict(figures) if figures else "")


def _refuse_misplaced(target: str, given: Mapping[str, bool]) -> None:
    """An argument that would change nothing is an error: whoever gave it expects it to matter."""
    wrong = [name for name, set_ in given.items() if set_]
    if wrong:
        raise EdgeferError(f"{', '.join(wrong)} would change nothing for the target '{target}'", hint="leave out")


def figures_of(built: Built) -> Figures:
    """An empty row for ``built``."""
    variant = built.variant
    return Figures(variant.label, variant.runtime, variant.precision, variant.flavour, len(built.engine))


def _timed(built: Sequence[Built], contract: Contract, threads: int, batch: int) -> list[Figures]:
    with ExitStack() as stack:
        engines = [stack.enter_context(b.open(contract, threads)) for b in built]
        return timed([figures_of(b) for b in built], engines, contract, batch, seed=0)


def checked_output(output: str | os.PathLike[str], target: str) -> Path:
    """The path to write, refused if the target or the suffix is not one that can be built."""
    if target != "cpu":
        raise EdgeferError(f"there is no target '{target}'", hint=f"one of: cpu, {', '.join(TARGETS)}")
    destination = Path(output)
    if destination.suffix != ".onnx":
        raise EdgeferError(
            f"an engine for a CPU is an ONNX file, and {destination} does not end in .onnx",
            hint=f"-o {destination.with_suffix('.onnx')}",
        )
    return destination


def prepare_job(
    model: str | os.PathLike[str],
    precision: str,
    calib: str | FaceSet | None,
    calib_faces: int | None,
    method: str | None,
    seed: int | None,
    no_rewrite: Collection[str] = (),
    per_class: int | None = None,
    refine: Collection[str] | None = None,
    table: str | os.PathLike[str] | None = None,
) -> Job:
    """Read the model, rewrite it and, for INT8, calibrate it."""
    check_names(no_rewrite)
    proto, contract = load_model(model)
    refuse_quantised(proto)
    rewritten = rewrite(proto, contract, skip=no_rewrite)
    recipe = recipe_for(contract.architecture).overridden(calib_faces, per_class, seed, method)
    plain = rewritten.model
    if not precision.startswith("int8"):
        if calib is not None:
            announce(f"note: --calib is not used: {precision.upper()} has no ranges to set")
        return Job(rewritten, plain, contract, sha256_file(model), None, None, recipe.method)
    if calib is not None and table is not None:
        raise EdgeferError(f"faces and the range table {table} both set the ranges", hint="give one of them")
    if calib is None:
        done = ranged_by_table(plain, contract, recipe, refine, table)
    else:
        done = ranged_on_faces(plain, contract, calib, recipe, refine)
    return Job(
        *(rewritten, done.model, contract, sha256_file(model), done.ranges, done.record, recipe.method),
        refiner=done.refiner,
        equalised=len(done.scales),
    )
