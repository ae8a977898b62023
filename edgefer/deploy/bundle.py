"""A folder that a device without PyTorch builds, checks and benches from: model, calibration, faces, answers, a script.

The faces are golden ones with the float model's answers, and those that the device evaluates on, with a baseline's
answers.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer import __version__
from edgefer.atomic import atomic_folder, check_vacant, sha256_file
from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.data import FaceSet, aligned, open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource
from edgefer.deploy.wheel import write_wheel
from edgefer.engines.classifier import relative_difference
from edgefer.engines.load import load_baseline
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.compat import GENERATIONS, SPANS, target_of
from edgefer.engines.tensorrt.options import PRECISIONS, BuilderOptions, check_options, trtexec_command
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.golden import Golden
from edgefer.graph.fp16 import to_fp32
from edgefer.graph.onnx_file import load_model, metadata_of, serialise
from edgefer.graph.rewrite import rewrite
from edgefer.manifest import PRECISION_KEY, Calibration
from edgefer.measure.accuracy import Predictions
from edgefer.measure.environment import describe_environment
from edgefer.measure.evaluate import evaluate
from edgefer.optimize.calibrate import from_table
from edgefer.optimize.calibration_table import CalibrationTable, read_table, shipped_table, signature
from edgefer.optimize.prepared import write_table
from edgefer.optimize.settings import Quantisation
from edgefer.optimize.tensorrt_file import for_tensorrt, prepare_file
from edgefer.progress import announce
from edgefer.runtimes import CPU, REFERENCE, TENSORRT, TOLERANCE, for_target

SCHEMA: Final = 1
MANIFEST: Final = "bundle.json"
MODEL, CALIBRATION, GOLDEN, GOLDEN_FACES = "model.onnx", "calibration.jsonl", "golden.json", "golden.faces.bin"
FACES, BASELINE, CONTRACT = "faces.npz", "baseline.npz", "contract.json"
TENSORRT_FILES: Final = {False: "tensorrt.flags.onnx", True: "tensorrt.types.onnx"}
"""What TensorRT builds from: by flags, or by the types in the file, as its version decides precision."""

SYNTHETIC: Final = 350
"""Number of synthetic faces where no others are given: 50 of each class."""

_GOLDEN_FACES: Final = 4
_MAX_TOLERANCE: Final = 0.9
_BATCH: Final = 64
_HOST_SECONDS: Final = 0.5
_BEGIN, _END = "# settings: begin\n", "# settings: end\n"
_SET_BY_SCRIPT: Final = ("--onnx=", "--saveEngine=")


@dataclass(frozen=True)
class EvaluationFaces:
    """Faces with labels, and what the baseline answered to them.

    Attributes:
        faces: the faces as they were opened.
        origin: their name in messages; without folders, since a bundle travels.
        count: number of faces.
        synthetic: whether they are synthetic, so that an accuracy says nothing about people.
        baseline: its name; ``""`` until it was asked.
        top1: its share of right answers, 0–1.
    """

    faces: FaceSet
    origin: str
    count: int
    synthetic: bool
    baseline: str = ""
    top1: float = 0.0


@dataclass(frozen=True)
class Bundle:
    """Summary of a written bundle.

    Attributes:
        path: the folder.
        precision: ``"int8+fp16"``, …: of TensorRT engines; CPU engines are INT8 or FP32.
        files: name → bytes.
        faces: the faces and the baseline that engines are evaluated with.
    """

    path: Path
    precision: str
    files: dict[str, int]
    faces: EvaluationFaces

    def summary(self) -> str:
        """A few lines for a person."""
        size = sum(self.files.values()) / 1e6
        faces = f"{self.faces.count:,} {'' if self.faces.synthetic else 'faces of '}{self.faces.origin}"
        return (
            f"{self.path}: {len(self.files)} files, {size:.2f} MB; {self.precision.upper()} for TensorRT, {faces}\n"
            f"copy it to the device, then: sh {self.path.name}/run.sh"
        )


def make_bundle(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str | None = None,
    quantisation: Quantisation | None = None,
    data: str | FaceSet | None = None,
    limit: int = 1000,
    baseline: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Bundle:
    """Write a bundle.

    Args:
        model: a file written by :func:`edgefer.export`.
        output: the folder; it must be empty, or not be there.
        precision: see :data:`edgefer.engines.tensorrt.options.PRECISIONS`; None: ``"int8+fp16"`` with calibration data
            or a table that is given or ships, else ``"fp16"``, which is announced.
        quantisation: calibration data, or a calibration table instead.
        data: faces to evaluate on: their `test` part, copied into the bundle. None: synthetic faces.
        limit: maximum number of them, sampled by ``seed``.
        baseline: the network that the device compares answers with, see :func:`edgefer.engines.load.load_baseline`.
            None: the float model in :data:`edgefer.runtimes.REFERENCE`.
        seed: seed of that sample, and of the synthetic faces.

    Raises:
        EdgeferError: bad input; ``output`` has something in it; INT8 without calibration; another model's table.
    """
    check_vacant(output)
    source, settings = Path(model), quantisation or Quantisation()
    loaded = load_model(source)
    _check_float(source, loaded[0])
    contract, chosen = loaded[1], _precision(precision, loaded[1], settings)
    for name in GENERATIONS:
        check_options(BuilderOptions(), target_of(name), chosen)
    with atomic_folder(output) as folder:
        (folder / MODEL).write_bytes(source.read_bytes())
        table = _calibration_table(folder, loaded, chosen, settings)
        names = _tensorrt_files(folder, loaded, chosen, settings, table)
        golden = _golden(folder / MODEL, [folder / name for name in names.values()], contract, chosen)
        (folder / GOLDEN).write_text(json.dumps(golden.to_dict()), encoding="utf-8")
        (folder / GOLDEN_FACES).write_bytes(golden.faces.tobytes())
        (folder / CONTRACT).write_text(json.dumps(contract.to_dict(), indent=1) + "\n", encoding="utf-8")
        faces = _evaluation_faces(data, contract, limit, seed)
        faces = faces if table is None else _without_calibration(faces, table.calibration)
        faces = _write_faces(folder, faces, baseline or folder / MODEL, contract)
        host = _host_figures(folder / MODEL, contract, faces)
        script = _script(contract, chosen, names, golden, has_table=table is not None, host=host)
        (folder / "run.sh").write_text(script, encoding="utf-8")
        (folder / "run.sh").chmod(0o755)
        wheel = write_wheel(folder)
        text = _readme(contract, chosen, faces, table).replace("WHEEL", wheel.name).replace("HOST", host)
        (folder / "README.md").write_text(text, encoding="utf-8")
        record = {
            "architecture": contract.architecture,
            "precision": chosen,
            "model_sha256": sha256_file(source),
            "weights_sha256": contract.lineage.get("weights_sha256", ""),
            "calibration": None if table is None else asdict(table.calibration),
            TENSORRT.name: names,
        }
        sizes = _write_manifest(folder, record, faces)
    return Bundle(Path(output), chosen, sizes, faces)


def _check_float(source: Path, model: onnx.ModelProto) -> None:
    stated = metadata_of(model).get(PRECISION_KEY, "fp32")
    if stated != "fp32" or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise EdgeferError(
            f"{source} is {stated.upper()} already, and a bundle is made of the float model",
            hint="give the model.onnx that `edgefer export` wrote",
        )


def _precision(asked: str | None, contract: Contract, settings: Quantisation) -> str:
    settings.check(TENSORRT.target, asked or "int8", command="deploy bundle")
    if asked is None:
        if settings.data is not None or settings.table is not None or _shipped(contract) is not None:
            return "int8+fp16"
        announce(
            "note: there is neither calibration data nor a calibration table for these weights of "
            f"{contract.architecture}: FP16, not INT8"
        )
        return "fp16"
    if asked not in PRECISIONS:
        raise EdgeferError(f"a bundle is not made for {asked.upper()}", hint=f"one of: {', '.join(PRECISIONS)}")
    return asked


def _shipped(contract: Contract) -> CalibrationTable | None:
    """The calibration table that ships, if it is for these very weights."""
    return shipped_table(contract.architecture, contract.lineage.get("weights_sha256", ""))


def _calibration_table(
    folder: Path, loaded: tuple[onnx.ModelProto, Contract], precision: str, settings: Quantisation
) -> CalibrationTable | None:
    """The calibration table of a CPU's INT8, checked against the model, written into the folder."""
    if not precision.startswith("int8"):
        return None
    model, contract = loaded
    if settings.data is not None:
        return write_table(folder / MODEL, folder / CALIBRATION, settings)
    found = _shipped(contract) if settings.table is None else read_table(settings.table)
    if found is None:
        raise EdgeferError(
            f"INT8 is asked for, and no calibration table ships for these weights of {contract.architecture}",
            hint="give --calib DATA or --calibration-table TABLE, or leave --int8 out",
        )
    from_table(found, rewrite(model, contract).model, contract, settings)
    found.write(folder / CALIBRATION)
    return found


def _tensorrt_files(
    folder: Path,
    loaded: tuple[onnx.ModelProto, Contract],
    precision: str,
    settings: Quantisation,
    table: CalibrationTable | None,
) -> dict[str, str]:
    """TensorRT version of :data:`GENERATIONS` → the file that it builds from."""
    if table is not None:
        if signature(for_tensorrt(*loaded).model) == table.graph_sha256:
            settings = Quantisation(table=folder / CALIBRATION)
        elif settings.data is None:
            raise EdgeferError(
                f"{table.origin} was made of the graph that CPUs get, and TensorRT's is another one",
                hint="--calib DATA calibrates both",
            )
    names = {}
    for version in GENERATIONS:
        target = target_of(version)
        names[version] = name = TENSORRT_FILES[target.has.strong_typing]
        if not (folder / name).exists():
            (folder / name).write_bytes(prepare_file(folder / MODEL, loaded, precision, target, settings).content)
    return names


def _write_manifest(folder: Path, record: dict[str, Any], faces: EvaluationFaces) -> dict[str, int]:
    """Write the record with the hash of every file; the files' sizes."""
    listed = {path.name: path for path in sorted(folder.iterdir())}
    content = {
        "schema": SCHEMA,
        "edgefer": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **record,
        "faces": {
            "origin": faces.origin,
            "n": faces.count,
            "synthetic": faces.synthetic,
            "baseline": faces.baseline,
            "baseline_top1": faces.top1,
        },
        "files": {name: {"sha256": sha256_file(path), "bytes": path.stat().st_size} for name, path in listed.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {name: path.stat().st_size for name, path in {**listed, MANIFEST: folder / MANIFEST}.items()}


def _golden(model: Path, device_files: Sequence[Path], contract: Contract, precision: str) -> Golden:
    """Golden faces with the float model's logits; the tolerance is by precision, not by runtime.

    An INT8 engine is another network than the float one: as far as the files for the device are from it here (in ONNX
    Runtime, on these faces), any INT8 engine may be, on top of what runtimes differ by.
    """
    faces = golden_faces(contract, _GOLDEN_FACES)
    logits = _answers(model, faces)
    distance = 0.0
    if "int8" in precision:
        distance = max(relative_difference(_answers(file, faces), logits) for file in set(device_files))
    tolerance = {**TOLERANCE, "int8": min(_MAX_TOLERANCE, TOLERANCE["int8"] + distance)}
    return Golden(faces, logits, tolerance)


def _answers(model: Path, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Answers in float32 arithmetic: see :func:`~edgefer.graph.fp16.to_fp32`."""
    twin = serialise(to_fp32(onnx.load(model)))
    logits = OnnxRuntimeSession(twin, optimise=False).run({INPUT_NAME: faces})[OUTPUT_NAME]
    return np.asarray(logits, dtype=np.float32)


def _evaluation_faces(data: str | FaceSet | None, contract: Contract, limit: int, seed: int) -> EvaluationFaces:
    """The `test` part of ``data``, or synthetic faces, in the order of the contract's labels.

    Raises:
        EdgeferError: no such faces; labels that are not the network's; no synthetic faces for its labels.
    """
    if data is None:
        if set(contract.labels) != set(FER2013):
            raise EdgeferError(
                f"there are no synthetic faces for the labels {', '.join(contract.labels)}",
                hint="--data DATA: its test faces go into the bundle",
            )
        images, labels = synthetic_faces(SYNTHETIC, seed)
        faces = aligned(FaceSet(ArraySource(images), labels, FER2013, origin="synthetic faces"), contract.labels)
        return EvaluationFaces(faces, faces.origin, SYNTHETIC, synthetic=True)
    faces = open_dataset(data) if not isinstance(data, FaceSet) else data
    faces = faces.require_labels("--data").picked_or("test")
    if not len(faces):
        raise EdgeferError(f"{faces.origin} has 0 faces to evaluate on", hint="choose another split")
    if len(faces) > limit:
        chosen = np.random.default_rng(seed).choice(len(faces), limit, replace=False)
        faces = faces.subset(np.sort(chosen))
    faces = aligned(faces, contract.labels)
    return EvaluationFaces(faces, Path(faces.origin).name, len(faces), synthetic=False)


def _without_calibration(given: EvaluationFaces, calibration: Calibration) -> EvaluationFaces:
    """Leave out the faces that the ranges came from, and say how many.

    Raises:
        EdgeferError: none is left.
    """
    faces = given.faces.without(calibration.face_hashes, "calibrated")
    known = given.count - len(faces)
    if known:
        announce(f"note: {known:,} of the {given.count:,} faces of {given.origin} calibrated it, and are left out")
    if not len(faces):
        raise EdgeferError(
            f"all {given.count:,} faces of {given.origin} are calibration faces ({calibration.origin})",
            hint="--data DATA with other faces",
        )
    return replace(given, faces=faces, count=len(faces))


def _write_faces(
    folder: Path, given: EvaluationFaces, baseline: str | os.PathLike[str], contract: Contract
) -> EvaluationFaces:
    """Write the faces, cut to the contract's size, and the baseline's answers to exactly those."""
    images = np.concatenate([batch for batch, _ in given.faces.batches(_BATCH, contract)])
    save_npz(folder / FACES, images, given.faces.labels, contract.labels, ["test"] * len(images))
    faces = open_dataset(str(folder / FACES)).picked_or("test")
    name = f"{MODEL} in {REFERENCE.title}" if Path(baseline).name == MODEL else Path(baseline).name
    if str(baseline).endswith(".npz"):
        answers = Predictions.load(baseline)
        if not answers.has_predicted(faces).all():
            raise EdgeferError(
                f"{baseline} are answers to other faces than those of the bundle",
                hint="give the network itself: --baseline NAME|WEIGHTS|ENGINE",
            )
        answers = answers.on(faces)
    else:
        with load_baseline(baseline, contract=contract) as classifier:
            answers = evaluate(classifier, faces, batch_size=_BATCH)
    answers = replace(answers, name=name)
    answers.save(folder / BASELINE)
    return replace(given, count=len(faces), baseline=name, top1=answers.top1)


def _host_figures(model: Path, contract: Contract, faces: EvaluationFaces) -> str:
    """A sentence about the float model on this machine, to read beside what the device prints."""
    face = golden_faces(contract, 1)
    session = OnnxRuntimeSession(model)
    calls: list[float] = []
    until = time.perf_counter() + _HOST_SECONDS
    while not calls or time.perf_counter() < until:
        began = time.perf_counter()
        session.run({INPUT_NAME: face})
        calls.append(time.perf_counter() - began)
    about = describe_environment()
    right = "" if faces.synthetic else f", {100 * faces.top1:.2f} % of the faces right"
    took = f"{1000 * float(np.median(calls)):.2f} ms for a face (median of {len(calls)} calls){right}"
    return f"{about['cpu']}: the float model in {REFERENCE.title}, one thread: {took}"


def _script(
    contract: Contract, precision: str, names: dict[str, str], golden: Golden, *, has_table: bool, host: str
) -> str:
    """``run.sh`` of this package with its settings filled in.

    Args:
        contract: the network's contract.
        precision: the precision of TensorRT engines.
        names: version of :data:`~edgefer.engines.tensorrt.compat.GENERATIONS` → the file that it builds from.
        golden: its tolerance is what trtexec's engine is compared within.
        has_table: whether a calibration table is in the bundle.
        host: what :func:`_host_figures` says.
    """
    body = files("edgefer.deploy").joinpath("run.sh").read_text(encoding="utf-8")
    face = "x".join(map(str, contract.face_shape))
    first, last = names[GENERATIONS[0]], names[GENERATIONS[-1]]
    cpu = tuple(for_target(CPU))
    settings = {
        "CPU_RUNTIMES": " ".join(cpu),
        "CPU_PRECISION": f"--int8 --calibration-table {CALIBRATION}" if has_table else "--fp32",
        "TENSORRT_PRECISION": " ".join(f"--{part}" for part in precision.split("+")),
        "FLAGS_FILE": first,
        "TYPES_FILE": last,
        "TYPES_FROM": str(SPANS["strong_typing"].since[0]),
        "FACE": face,
        "GOLDEN_SHAPE": f"{len(golden.faces)}x{face}",
        "HOST": host,
        "TOLERANCE": f"{max(golden.tolerance[part] for part in precision.split('+')):g}",
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    head, _, rest = body.replace("TARGETS", "|".join((TENSORRT.name, *cpu)), 1).partition(_BEGIN)
    return head + lines + _flags(contract, precision, names) + rest.partition(_END)[2]


def _flags(contract: Contract, precision: str, names: dict[str, str]) -> str:
    """A shell function that sets ``file`` and ``flags`` for a version as trtexec says it: 8502, 100300."""
    lines = ["trtexec_settings() {  # NV_TENSORRT_VERSION"]
    for version in GENERATIONS:
        target = target_of(version)
        words = shlex.split(trtexec_command(Path(MODEL), contract, target, precision, BuilderOptions()))
        flags = shlex.join(word for word in words[1:] if not word.startswith(_SET_BY_SCRIPT))
        setting = f"file={shlex.quote(names[version])} flags={shlex.quote(flags)}"
        lines.append(f'    [ "$1" -lt {target.number} ] || {{ {setting}; }}' if lines[1:] else f"    {setting}")
    return "\n".join([*lines, "}", ""])


def _readme(contract: Contract, precision: str, faces: EvaluationFaces, table: CalibrationTable | None) -> str:
    """The bundle's README: its files, and the commands for each device."""
    about_faces = (
        f"The faces in `{FACES}` may be pictures of people, with a licence of their own: keep this folder only where "
        "they may be kept.\n"
    )
    if faces.synthetic:
        about_faces = (
            f"The faces in `{FACES}` are synthetic: agreement and latency mean something on them, the share of right "
            "answers\ndoes not. `edgefer deploy bundle … --data DATA` puts real ones in.\n"
        )
    about_table = "There is no calibration table: engines for CPUs are built in FP32."
    if table is not None:
        about_table = (
            f"`{CALIBRATION}` comes from {table.calibration.n:,} faces of {table.calibration.origin}. TensorRT's files "
            "have their ranges inside."
        )
    rows = for_target(CPU).values()
    text = files("edgefer.deploy").joinpath("bundle_readme.md").read_text(encoding="utf-8")
    return text.format(
        architecture=contract.architecture,
        size="×".join(map(str, contract.face_shape)),
        labels=", ".join(contract.labels),
        precision=precision.upper().replace("+", " with the rest in "),
        count=faces.count,
        origin=faces.origin if faces.synthetic else f"test faces of {faces.origin}",
        baseline=faces.baseline,
        top1=100 * faces.top1,
        about_faces=about_faces,
        about_table=about_table,
        from_types=SPANS["strong_typing"].since[0],
        cpu_commands="\n".join(
            f"    {f'sh run.sh --target {row.name}':<41}  # this CPU, with {row.title}" for row in rows
        ),
        cpu_extras=" or ".join(f"`pip install './WHEEL[{row.extra}]'`" for row in rows),
    )
