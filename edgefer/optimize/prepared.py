"""The model that a build makes its files of: read, rewritten, calibrated; and what a build returns."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgefer.atomic import sha256_file
from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.classifier import make_golden
from edgefer.engines.cpu import instruction_set
from edgefer.engines.load import WEIGHTS_SUFFIXES, export_line
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model, metadata_of, serialise, stamp
from edgefer.graph.rewrite import Rewritten, rewrite
from edgefer.manifest import Calibration, Manifest, Precision, manifest_path
from edgefer.measure.accuracy import Predictions
from edgefer.measure.agreement import Agreement, measure_agreement
from edgefer.measure.paired import Paired
from edgefer.optimize.calibrate import Calibrated, by_table, on_faces
from edgefer.optimize.calibration_table import CalibrationTable, check_table_path
from edgefer.optimize.candidates import Candidate, CandidateResult, Variant
from edgefer.optimize.certainty import say_what_certifies
from edgefer.optimize.given_faces import MAX_APART, GivenFaces, Purpose, at_most, divide_faces
from edgefer.optimize.settings import AUTO, EQUALISE, Quantisation
from edgefer.provenance import beginnings
from edgefer.quantize.corrections import Corrected
from edgefer.quantize.graphview import refuse_quantised
from edgefer.quantize.plan import plan_to_the_end
from edgefer.quantize.qdq import QUANTISATION_KEY, quantise
from edgefer.quantize.scheme import named_scheme
from edgefer.runtimes import CPU

if TYPE_CHECKING:
    from edgefer.engines.tensorrt.inspect import Audit


@dataclass(frozen=True)
class PreparedModel:
    """A model that was read, rewritten and, for INT8, calibrated: all candidates of one build are made of it.

    Attributes:
        rewritten: the model that float files are made of.
        model_sha256, model_file: hash of the file that was read, and its name, ``""`` where it was none.
        method: calibration method, which turns histograms into ranges.
        calibrated: the parts that INT8 files are made of, after calibration.
        record: the manifest's entry on calibration.
        given: the images that were given, divided; None where ranges come from a table.
        chooses: whether the images apart evaluate candidates.
    """

    rewritten: Rewritten
    contract: Contract
    model_sha256: str
    method: str
    calibrated: Calibrated | None = None
    record: Calibration | None = None
    model_file: str = ""
    given: GivenFaces | None = None
    chooses: bool = False

    @property
    def model(self) -> onnx.ModelProto:
        """The float network that INT8 files are made of: equalised where that was done."""
        return self.rewritten.model if self.calibrated is None else self.calibrated.model

    def calibrate(self, settings: Quantisation, purpose: Purpose | None = None) -> PreparedModel:
        """The same with ranges: from faces, from a table, or from the table that ships.

        ``purpose`` is that of the faces that set none; None: as the settings need them. Then ``max_drop`` is to be
        certified, and what the faces can certify is said first.
        """
        model = self.rewritten.model
        if settings.data is None:
            found = by_table(model, self.contract, settings)
            return replace(self, calibrated=found, record=found.record)
        max_drop = settings.max_drop if purpose is None else None
        if purpose is None:
            needed = Purpose.COMPARISON if settings.method == AUTO else Purpose.ENGINE
            purpose = needed if max_drop is None else Purpose.CHOICE
        given = divide_faces(settings, self.contract, purpose)
        if max_drop is not None:
            say_what_certifies(given.evaluation, max_drop)
        found = on_faces(model, self.contract, given.ranges, settings)
        return replace(self, calibrated=found, record=found.record, given=given, chooses=purpose.chooses)

    def agreement(self, candidate: Candidate, threads: int = 1) -> Agreement | None:
        """Measure how often ``candidate`` answers as the float network does in the same runtime; None if it is float.

        At most :data:`MAX_APART` of the images that set no range are asked about.
        """
        if not candidate.precision.has_int8:
            return None
        if self.given is None:
            return Agreement(reason="the ranges come from a calibration table, and no images were given")
        if self.given.apart is None:
            return Agreement(reason=self.given.reason)
        faces = at_most(self.given.apart, MAX_APART)
        float_file = self.build(Variant(candidate.variant.runtime, "fp32"))
        with float_file.open(self.contract, threads) as plain, candidate.open(self.contract, threads) as int8:
            return measure_agreement(plain, int8, faces)

    def with_method(self, method: str) -> PreparedModel:
        """The same with another method, in its record too."""
        record = None if self.record is None else replace(self.record, method=method)
        return replace(self, method=method, record=record)

    def uncorrected(self) -> PreparedModel:
        """The same without corrections that depend on the plan: other numbers in the same layers take the same time."""
        return self if self.calibrated is None else replace(self, calibrated=replace(self.calibrated, corrector=None))

    def build(self, variant: Variant, keep_float: Collection[str] = ()) -> Candidate:
        """The file of ``variant``; the layers ``keep_float`` of an INT8 one stay float."""
        copy = onnx.ModelProto()
        if variant.scheme is None:
            copy.CopyFrom(self.rewritten.model)
            stamp(copy, self.contract, variant.precision)
            return Candidate(variant, serialise(copy), Precision(variant.precision, variant.precision))
        found = self.calibrated
        if found is None:
            raise ValueError("an INT8 variant needs ranges")
        copy.CopyFrom(found.model)
        plan = plan_to_the_end(copy, named_scheme(variant.scheme), keep_float=keep_float)
        corrected = Corrected(copy, {})
        if found.corrector is not None:
            corrected = found.corrector.correct(copy, plan, found.ranges, self.method)
        made = quantise(corrected.model, plan, found.ranges, method=self.method, same_model=found.corrector is None)
        how = {key: value for key, value in metadata_of(made.model).items() if key == QUANTISATION_KEY}
        stamp(made.model, self.contract, variant.precision, how)
        precision = Precision(variant.precision, variant.precision, made.layers)
        return Candidate(variant, serialise(made.model), precision, corrected.changes)

    def changes(self, candidate: Candidate) -> dict[str, int]:
        """Pass or correction → in how many places it changed the exported graph."""
        if candidate.variant.scheme is None or self.calibrated is None:
            return dict(self.rewritten.changes)
        scales = self.calibrated.scales
        return {**self.rewritten.changes, **({EQUALISE: len(scales)} if scales else {}), **candidate.corrected}

    def manifest(
        self, candidate: Candidate, results: Sequence[CandidateResult] = (), agreement: Agreement | None = None
    ) -> Manifest:
        """Open the engine once, pin its answers, and say what it is."""
        with candidate.open(self.contract) as classifier:
            golden = make_golden(classifier)
            version = classifier.runtime_version
        return Manifest(
            model_sha256=self.model_sha256,
            model_file=self.model_file,
            weights_sha256=self.contract.lineage.get("weights_sha256", ""),
            target=CPU,
            runtime=candidate.variant.runtime,
            runtime_version=version,
            instruction_set=instruction_set(),
            contract=self.contract,
            precision=candidate.precision,
            calibration=self.record if candidate.precision.has_int8 else None,
            golden=golden,
            rewrites=self.changes(candidate),
            candidates=tuple(result.to_dict() for result in results),
            agreement=None if agreement is None else agreement.to_dict(),
            choice_faces=self.choice_faces,
        )

    @property
    def choice_faces(self) -> tuple[str, ...]:
        """The manifest's ``choice_faces``: a benchmark leaves them out."""
        if not self.chooses or self.given is None:
            return ()
        return beginnings(self.given.evaluation.face_hashes())


def read_float_model(model: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Contract]:
    """Read the model of a build and its contract.

    Raises:
        EdgeferError: it holds weights and no graph, is refused by :func:`edgefer.graph.onnx_file.load_model`, or is
            quantised already.
    """
    if Path(model).suffix in WEIGHTS_SUFFIXES:
        raise EdgeferError(
            f"{model} holds weights, and an engine is built from a graph",
            hint=f"export it first: {export_line(Path(model))}",
        )
    proto, contract = load_model(model)
    refuse_quantised(proto, str(model))
    return proto, contract


def prepare_model(
    model: str | os.PathLike[str],
    precision: str,
    settings: Quantisation,
    no_rewrite: Collection[str] = (),
    purpose: Purpose | None = None,
) -> PreparedModel:
    """Read the model, rewrite it and, for INT8, calibrate it; see :meth:`PreparedModel.calibrate` for ``purpose``."""
    proto, contract = read_float_model(model)
    rewritten = rewrite(proto, contract, skip=no_rewrite)
    method = settings.recipe(contract.architecture).method
    prepared = PreparedModel(rewritten, contract, sha256_file(model), method, model_file=Path(model).name)
    return prepared.calibrate(settings, purpose) if precision.startswith("int8") else prepared


def write_table(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    quantisation: Quantisation,
    *,
    no_rewrite: Collection[str] = (),
) -> CalibrationTable:
    """Calibrate ``model`` and write what :func:`by_table` needs to do so again without faces.

    Args:
        model: a file written by :func:`edgefer.export`.
        output: the table; ``<name of the weights>.calibration.jsonl`` where it is to ship.
        quantisation: settings with ``data``; a table keeps the correction ``"equalise"`` (done if None): the others
            depend on the plan.
        no_rewrite: rewrite passes to leave out.

    Raises:
        EdgeferError: bad input; ``output`` is no .jsonl; the model does not say which weights it has.
    """
    quantisation.check("cpu", "int8", command="calibrate")
    if os.path.realpath(model) == os.path.realpath(output):
        raise EdgeferError(f"{output} is the model itself, which would be lost", hint="choose another output path")
    check_table_path(output)
    if quantisation.corrections is None:
        quantisation = replace(quantisation, corrections=(EQUALISE,))
    prepared = prepare_model(model, "int8", quantisation, no_rewrite, Purpose.TABLE)
    done = prepared.calibrated
    assert done is not None  # it is INT8
    table = CalibrationTable.of(prepared.contract, prepared.rewritten.model, done.scales, done.ranges, done.record)
    table.write(output)
    return table


@dataclass(frozen=True)
class Evaluation:
    """Answers of candidates compared with the float network's.

    Attributes:
        prepared: the model that candidates are made of.
        faces: the faces that candidates are evaluated on; labels of no meaning where they have none of the network's.
        float_file: the float network's file, and its answers ``wanted``.
        threads: number of the engines' threads.
        labelled: whether the faces have the network's labels: without, answers are compared, and no accuracy is known.
    """

    prepared: PreparedModel
    faces: FaceSet
    float_file: Candidate
    wanted: Predictions
    threads: int = 1
    labelled: bool = True

    @classmethod
    def of(cls, prepared: PreparedModel, runtime: str, faces: FaceSet, threads: int = 1) -> Evaluation:
        """Build the float network for ``runtime`` and ask it about ``faces``."""
        float_file, labels = prepared.build(Variant(runtime, "fp32")), prepared.contract.labels
        labelled = sorted(faces.classes) == sorted(labels)
        if not labelled:
            nothing = np.zeros(len(faces), np.int64)
            faces = faces.relabelled(np.arange(len(faces)), nothing, labels, soft=None, dropped={})
        wanted = float_file.answers(prepared.contract, faces, threads)
        return cls(prepared, faces, float_file, wanted, threads, labelled)

    def on(self, faces: FaceSet) -> Evaluation:
        """The same on other faces."""
        return replace(self, faces=faces, wanted=self.float_file.answers(self.prepared.contract, faces, self.threads))

    def answers(self, candidate: Candidate) -> Predictions:
        """The answers of ``candidate``."""
        return candidate.answers(self.prepared.contract, self.faces, self.threads)

    def paired(self, candidate: Candidate) -> Paired:
        """The answers of ``candidate`` beside the float network's."""
        return Paired.from_predictions(self.wanted, self.answers(candidate))


@dataclass(frozen=True)
class BuildResult:
    """The file that was written, and what there is to say about it.

    Attributes:
        path: path of the engine, or of the ONNX file with ``onnx_only``.
        manifest: the manifest written beside it; None with ``onnx_only``.
        reason: why it is this one, or what to type next; ``""`` where there is nothing to say.
        audit: TensorRT's precision of each layer.
        candidates: results of all candidates, where one was chosen.
        agreement: agreement of an INT8 engine with the float network, on images that set no range; None for float.
    """

    path: Path
    manifest: Manifest | None
    reason: str = ""
    audit: Audit | None = None
    candidates: tuple[CandidateResult, ...] = ()
    agreement: Agreement | None = None

    def summary(self) -> str:
        """A few lines for a person."""
        size = f"{self.path.stat().st_size / 1e6:.2f} MB"
        if self.manifest is None:
            line = f"{self.path}: ONNX for the target, {size}, no engine"
        else:
            got = self.manifest.precision
            line = f"{self.path}: {got.got.upper()} for {self.manifest.runtime}, {size}"
            line += f", {got.counted()}" if got.layers else ""
            line += f"; manifest: {manifest_path(self.path).name}"
        said = [] if self.agreement is None else [self.agreement.sentence()]
        return "\n".join([line, *said, *([self.reason] if self.reason else [])])
