"""A folder that a device without PyTorch builds, checks and benches from: model, ranges, answers, one script."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import onnx

from edgefer import __version__
from edgefer.atomic import atomic_folder, check_vacant, sha256_file
from edgefer.contract import Contract
from edgefer.data import FaceSet, refuse_overlap
from edgefer.deploy.bundle_faces import Judged, golden_of, judged_faces, write_judged
from edgefer.deploy.bundle_text import readme, script
from edgefer.engines.tensorrt.compat import GENERATIONS, target_of
from edgefer.engines.tensorrt.options import PRECISIONS, BuilderOptions, check_options
from edgefer.errors import EdgeferError
from edgefer.graph.load import load_model, metadata_of
from edgefer.graph.rewriting import rewrite
from edgefer.manifest import PRECISION_KEY, Calibration
from edgefer.optimize.ranging import ranged_from, write_table
from edgefer.optimize.recipe import recipe_for
from edgefer.optimize.tables import Table, read_table, shipped_table, signature
from edgefer.optimize.tensorrt_file import Faces, for_tensorrt, prepare_file
from edgefer.progress import announce

SCHEMA: Final = 1
MANIFEST: Final = "bundle.json"
MODEL, RANGES, GOLDEN, GOLDEN_FACES = "model.onnx", "ranges.jsonl", "golden.json", "golden.faces.bin"
FACES, BASELINE = "faces.npz", "baseline.npz"
TENSORRT_FILES: Final = {False: "tensorrt.flags.onnx", True: "tensorrt.types.onnx"}
"""What TensorRT builds from: by flags, or by the types in the file, as its version decides precision."""


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
        path: the folder.
        precision: ``"int8+fp16"``, …: of TensorRT engines; CPU engines are INT8 or FP32.
        files: name → bytes.
        faces: what is judged on, and by what baseline.
    """

    path: Path
    precision: str
    files: dict[str, int]
    faces: Judged

    def summary(self) -> str:
        """A few lines for a person."""
        size = sum(self.files.values()) / 1e6
        faces = f"{self.faces.count:,} {'drawn faces' if self.faces.drawn else f'faces of {self.faces.origin}'}"
        return (
            f"{self.path}: {len(self.files)} files, {size:.2f} MB; {self.precision.upper()} for TensorRT, {faces}\n"
            f"copy it to the device, then: sh {self.path.name}/run.sh"
        )


def make_bundle(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str | None = None,
    calib: str | FaceSet | None = None,
    table: str | os.PathLike[str] | None = None,
    data: str | FaceSet | None = None,
    limit: int = 1000,
    baseline: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Bundle:
    """Write a bundle.

    Args:
        model: what :func:`edgefer.export` wrote.
        output: the folder; it must be empty, or not be there.
        precision: of :data:`edgefer.engines.tensorrt.options.PRECISIONS`; None: ``"int8+fp16"`` where ranges are
            given or ship, else ``"fp16"``, which is announced.
        calib: faces that set the ranges: their `calib` part.
        table: a range table instead, as `edgefer calibrate` wrote it.
        data: faces to judge on: their `test` part, copied into the bundle. None: drawn faces.
        limit: so many of them at most, drawn at random by ``seed``.
        baseline: whose answers the device compares with, see :func:`edgefer.engines.load.load_baseline`. None: the
            float model in ONNX Runtime.
        seed: of that draw, and of the drawn faces.

    Raises:
        EdgeferError: bad input; ``output`` has something in it; INT8 without ranges; ranges of another model.
    """
    check_vacant(output)
    source = Path(model)
    loaded = load_model(source)
    _check_float(source, loaded[0])
    chosen = _precision(precision, loaded[1], calib, table)
    for name in GENERATIONS:
        check_options(BuilderOptions(), target_of(name), chosen)
    with atomic_folder(output) as folder:
        (folder / MODEL).write_bytes(source.read_bytes())
        ranges = _ranges(folder, loaded, chosen, calib, table)
        files = _tensorrt_files(folder, loaded, chosen, calib, ranges)
        golden = golden_of(folder / MODEL, [folder / name for name in files.values()], loaded[1], chosen)
        (folder / GOLDEN).write_text(json.dumps(golden.to_dict()), encoding="utf-8")
        (folder / GOLDEN_FACES).write_bytes(golden.faces.tobytes())
        (folder / "contract.json").write_text(json.dumps(loaded[1].to_dict(), indent=1) + "\n", encoding="utf-8")
        judged = judged_faces(data, loaded[1], limit, seed)
        if ranges is not None:
            what = f"the calibration faces ({ranges.calibration.origin})"
            refuse_overlap(ranges.calibration.face_hashes, judged.faces.face_hashes(), what, judged.origin)
        judged = write_judged(judged, folder / FACES, folder / BASELINE, baseline or folder / MODEL, loaded[1])
        (folder / "run.sh").write_text(script(loaded[1], chosen, files, golden, ranges is not None), encoding="utf-8")
        (folder / "run.sh").chmod(0o755)
        (folder / "README.md").write_text(readme(loaded[1], chosen, judged, ranges), encoding="utf-8")
        record = None if ranges is None else ranges.calibration
        sizes = _write_manifest(folder, source, loaded[1], chosen, files, judged, record)
    return Bundle(Path(output), chosen, sizes, judged)


def _check_float(source: Path, model: onnx.ModelProto) -> None:
    stated = metadata_of(model).get(PRECISION_KEY, "fp32")
    if stated != "fp32" or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise EdgeferError(
            f"{source} is {stated.upper()} already, and a bundle is made of the float model",
            hint="give the model.onnx that `edgefer export` wrote",
        )


def _precision(
    asked: str | None, contract: Contract, calib: str | FaceSet | None, table: str | os.PathLike[str] | None
) -> str:
    if calib is not None and table is not None:
        raise EdgeferError("--calib and --ranges both set the ranges", hint="give one of them")
    given = calib is not None or table is not None
    if asked is None:
        if given or _shipped(contract) is not None:
            return "int8+fp16"
        announce(
            f"note: no ranges are given and none ship for these weights of {contract.architecture}: FP16, not INT8"
        )
        return "fp16"
    if asked not in PRECISIONS:
        raise EdgeferError(f"a bundle is not made for {asked.upper()}", hint=f"one of: {', '.join(PRECISIONS)}")
    if given and not asked.startswith("int8"):
        raise EdgeferError(f"--{asked} has no ranges to set", hint="leave out --calib and --ranges, or add --int8")
    return asked


def _shipped(contract: Contract) -> Table | None:
    """The range table that ships, if it is for these very weights."""
    return shipped_table(contract.architecture, contract.lineage.get("weights_sha256", ""))


def _ranges(
    folder: Path,
    loaded: tuple[onnx.ModelProto, Contract],
    precision: str,
    calib: str | FaceSet | None,
    table: str | os.PathLike[str] | None,
) -> Table | None:
    """The range table of a CPU's INT8, checked against the model, written into the folder."""
    if not precision.startswith("int8"):
        return None
    model, contract = loaded
    if calib is not None:
        return write_table(folder / MODEL, calib, folder / RANGES)
    found = _shipped(contract) if table is None else read_table(table)
    if found is None:
        raise EdgeferError(
            f"INT8 is asked for, and no ranges ship for these weights of {contract.architecture}",
            hint="--calib DATA sets them, or --ranges TABLE, or leave --int8 out",
        )
    ranged_from(found, rewrite(model, contract).model, contract, recipe_for(contract.architecture))
    found.write(folder / RANGES)
    return found


def _tensorrt_files(
    folder: Path,
    loaded: tuple[onnx.ModelProto, Contract],
    precision: str,
    calib: str | FaceSet | None,
    ranges: Table | None,
) -> dict[str, str]:
    """TensorRT version of :data:`GENERATIONS` → the file that it builds from."""
    fits = _fits_tensorrt(loaded, calib, ranges)
    faces = Faces(table=folder / RANGES) if fits else Faces(calib)
    names = {}
    for version in GENERATIONS:
        target = target_of(version)
        names[version] = name = TENSORRT_FILES[target.has.strong_typing]
        if not (folder / name).exists():
            (folder / name).write_bytes(prepare_file(folder / MODEL, loaded, precision, target, faces).content)
    return names


def _fits_tensorrt(loaded: tuple[onnx.ModelProto, Contract], calib: str | FaceSet | None, ranges: Table | None) -> bool:
    """Whether TensorRT gets the graph that the ranges were observed on; else it needs faces of its own."""
    if ranges is None:
        return False
    fits = signature(for_tensorrt(*loaded).model) == ranges.graph_sha256
    if not fits and calib is None:
        raise EdgeferError(
            f"{ranges.origin} was made of the graph that CPUs get, and TensorRT's is another one",
            hint="--calib DATA makes ranges for both",
        )
    return fits


def _write_manifest(
    folder: Path,
    source: Path,
    contract: Contract,
    precision: str,
    files: dict[str, str],
    judged: Judged,
    record: Calibration | None,
) -> dict[str, int]:
    listed = {path.name: path for path in sorted(folder.iterdir())}
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "edgefer": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "architecture": contract.architecture,
        "precision": precision,
        "model_sha256": sha256_file(source),
        "weights_sha256": contract.lineage.get("weights_sha256", ""),
        "calibration": None if record is None else asdict(record),
        "tensorrt": files,
        "faces": judged.to_dict(),
        "files": {name: {"sha256": sha256_file(path), "bytes": path.stat().st_size} for name, path in listed.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {name: path.stat().st_size for name, path in {**listed, MANIFEST: folder / MANIFEST}.items()}
