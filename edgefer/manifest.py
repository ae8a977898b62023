"""What lies beside an engine: what it was made of, where it may run and what it must answer.

``x.onnx`` has ``x.onnx.json`` and ``x.engine`` has ``x.engine.json``. The JSON is read by programs in other languages
too, so it is flat and each key has one meaning (schema 1; unknown keys are to be ignored, a higher schema refused):

===================  =================================================================================================
key                  value
===================  =================================================================================================
``schema``           1
``edgefer``          version of edgefer that wrote it
``created``          UTC, ISO 8601
``engine``           ``{"file": name without folder, "sha256": hex, "bytes": int}``
``model_sha256``     of the exported model.onnx that the engine was built from, hex
``model_file``       its name without folder; absent or ``""`` where unknown
``weights_sha256``   of the weights that were exported, hex; ``""`` where unknown
``target``           ``"cpu"``, ``"tensorrt"``, …
``runtime``          ``{"name": "onnxruntime", "version": "1.31.1"}``: what it was built and checked with; the
                     version ``""`` is any: of a float file that ships
``instruction_set``  list of CPU features of the machine that built it, e.g. ``["avx2", "avx512_vnni"]``; empty: any CPU
``contract``         labels, height, width, channels, normalisation, architecture, crop_margin, lineage, and
                     ``"test_time_flip": true`` where it is
``precision``        ``{"asked": "int8", "got": "int8", "layers": [{"layer", "op", "asked", "got"}, …]}``
``calibration``      null, or ``{"faces_sha256", "n", "per_class": {label: int}, "method", "seed", "origin",
                     "face_hashes": faces}``, the set as :mod:`edgefer.provenance` packs it, or a list of hashes
``golden``           ``{"shape": [n, height, width, channels], "faces": base64 of the uint8 values in C order,
                     "logits": [[float, …], …], "tolerance": {runtime name: float}}``; an engine passes where
                     ``max |logits − golden| ≤ tolerance · max |golden|``
``rewrites``         rewrite pass → in how many places it changed the exported graph; absent in old manifests
``candidates``       list of what an automatic choice measured and did not take; empty where there was none
``agreement``        of an INT8 engine with the float network, ``{"share", "ci95", "images", "agreeing", "origin",
                     "effect"}``, on images that set no range; absent or null where it was not measured
``device``           the GPU that a TensorRT engine is for, ``"Orin, SM87"``; absent or ``""`` on a CPU
``portable``         list of what a TensorRT engine was also built for: ``"version"`` (later versions), ``"hardware"``
                     (other GPUs from Ampere on); absent or empty: exactly ``runtime`` and ``device``
``batches``          ``[min, max]`` batch size of a TensorRT engine; absent or null: any
``dla_core``         the DLA core that a TensorRT engine runs on; absent or null: none
``note``             what whoever uses it must know, ``"RTX, SM86, built ahead of time, not run"``; absent or ``""``
``audit``            what the compiler made of it, an object a fused layer: ``{"layer", "kind", "asked", "got",
                     "origins": [ONNX node, …]}``; absent or empty where the runtime does not tell
``choice_faces``     the faces that candidates were compared on, packed likewise or a list; absent or empty where
                     nothing was chosen by their answers
===================  =================================================================================================
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from edgefer.atomic import described_file, sha256_file, write_pair
from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.golden import Golden
from edgefer.intake import read_json, reading
from edgefer.provenance import packed, unpacked

SCHEMA = 1
PRECISION_KEY = "edgefer.precision"  # in an ONNX file's metadata: what it computes in, for files without a manifest
WEIGHTED: Final = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators that multiply activations by constant weights: where the arithmetic is. They start a stretch of INT8."""

_LAYER = ("layer", "op", "asked", "got")
_REBUILD = "build the engine again with `edgefer build-engine`; engine and manifest are written together"


@dataclass(frozen=True)
class LayerPrecision:
    """The precision that one layer was asked for and got: ``"int8"``, ``"fp16"``, ``"bf16"`` or ``"fp32"``."""

    layer: str
    op: str
    asked: str
    got: str


@dataclass(frozen=True)
class Precision:
    """The precision that the whole engine was asked for and got, e.g. ``"int8+bf16"``, and each layer of it."""

    asked: str
    got: str
    layers: tuple[LayerPrecision, ...] = ()

    @property
    def has_int8(self) -> bool:
        """Whether any layer computes in INT8."""
        return "int8" in self.got.split("+") or any(layer.got == "int8" for layer in self.layers)

    def counted(self) -> str:
        """``5 of 6 weighted layers in INT8, 1 in FP32``; empty where no layer is listed."""
        return counted_layers(self.layers)


def counted_layers(layers: Sequence[LayerPrecision]) -> str:
    """How many layers compute in what, of those of :data:`WEIGHTED`: they do the work, the rest follows them.

    All layers are counted where none of them is such a one; the text is empty where none is listed.
    """
    weighted = [layer for layer in layers if layer.op in WEIGHTED]
    word, counted = ("weighted layers", weighted) if weighted else ("layers", list(layers))
    found = sorted(Counter(layer.got for layer in counted).items(), key=lambda one: (one[0] != "int8", -one[1]))
    if not found:
        return ""
    (first, number), *rest = found
    parts = [f"{number} of {len(counted)} {word} in {first.upper()}", *(f"{n} in {kind.upper()}" for kind, n in rest)]
    return ", ".join(parts)


@dataclass(frozen=True)
class Calibration:
    """The faces and the method that the INT8 ranges came from.

    ``face_hashes`` has the beginnings of the faces' hashes (:func:`~edgefer.provenance.beginnings`).
    """

    faces_sha256: str
    n: int
    per_class: Mapping[str, int]
    method: str
    seed: int
    origin: str
    face_hashes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :func:`calibration_from` is the inverse."""
        return {**self.__dict__, "per_class": dict(self.per_class), "face_hashes": packed(self.face_hashes)}


@dataclass(frozen=True, eq=False)
class Manifest:
    """What travels beside an engine; see the module's docstring for each value.

    The last five are filled in by :func:`write_engine`.
    """

    model_sha256: str
    weights_sha256: str
    target: str
    runtime: str
    runtime_version: str
    instruction_set: tuple[str, ...]
    contract: Contract
    precision: Precision
    calibration: Calibration | None
    golden: Golden
    rewrites: Mapping[str, int] = field(default_factory=dict)
    candidates: tuple[Mapping[str, Any], ...] = ()
    agreement: Mapping[str, Any] | None = None
    device: str = ""
    portable: tuple[str, ...] = ()
    batches: tuple[int, int] | None = None
    dla_core: int | None = None
    note: str = ""
    audit: tuple[Mapping[str, Any], ...] = ()
    choice_faces: tuple[str, ...] = ()
    model_file: str = ""
    edgefer: str = ""
    created: str = ""
    engine_file: str = ""
    engine_sha256: str = ""
    engine_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the module's docstring; :meth:`from_dict` is its inverse."""
        return {
            "schema": SCHEMA,
            "edgefer": self.edgefer,
            "created": self.created,
            "engine": {"file": self.engine_file, "sha256": self.engine_sha256, "bytes": self.engine_bytes},
            "model_sha256": self.model_sha256,
            "model_file": self.model_file,
            "weights_sha256": self.weights_sha256,
            "target": self.target,
            "runtime": {"name": self.runtime, "version": self.runtime_version},
            "instruction_set": list(self.instruction_set),
            "contract": self.contract.to_dict(),
            "precision": asdict(self.precision),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "golden": self.golden.to_dict(),
            "rewrites": dict(self.rewrites),
            "candidates": [dict(candidate) for candidate in self.candidates],
            "agreement": None if self.agreement is None else dict(self.agreement),
            "device": self.device,
            "portable": list(self.portable),
            "batches": None if self.batches is None else list(self.batches),
            "dla_core": self.dla_core,
            "note": self.note,
            "audit": [dict(layer) for layer in self.audit],
            "choice_faces": packed(self.choice_faces) if self.choice_faces else [],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], origin: str) -> Manifest:
        """Read what :meth:`to_dict` wrote; ``origin`` names the file in errors. Unknown keys are ignored.

        Raises:
            EdgeferError: the schema is newer, a key is missing, or a value is of the wrong kind.
        """
        try:
            schema = content["schema"]
            if type(schema) is not int:
                raise TypeError(f"schema is {schema!r}")
            if schema > SCHEMA:
                raise EdgeferError(
                    f"{origin} was made by a newer edgefer ({content.get('edgefer', '?')}): its schema is {schema}, "
                    f"this edgefer reads up to {SCHEMA}",
                    hint="upgrade with `pip install -U edgefer`, or build the engine again here",
                )
            return cls._from_schema_1(content, origin)
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as cause:
            raise EdgeferError(
                f"{origin} is not a manifest that edgefer wrote: {type(cause).__name__}: {cause}", hint=_REBUILD
            ) from cause

    @classmethod
    def _from_schema_1(cls, content: Mapping[str, Any], origin: str) -> Manifest:
        precision, calibration, engine = content["precision"], content["calibration"], content["engine"]
        return cls(
            model_sha256=str(content["model_sha256"]),
            weights_sha256=str(content["weights_sha256"]),
            target=str(content["target"]),
            runtime=str(content["runtime"]["name"]),
            runtime_version=str(content["runtime"]["version"]),
            instruction_set=tuple(str(name) for name in content["instruction_set"]),
            contract=Contract.from_dict(content["contract"], origin),
            precision=Precision(
                str(precision["asked"]),
                str(precision["got"]),
                tuple(LayerPrecision(*(str(x[key]) for key in _LAYER)) for x in precision["layers"]),
            ),
            calibration=None if calibration is None else calibration_from(calibration),
            golden=Golden.from_dict(content["golden"]),
            rewrites={str(name): int(places) for name, places in content.get("rewrites", {}).items()},
            candidates=tuple(dict(candidate) for candidate in content["candidates"]),
            agreement=None if content.get("agreement") is None else dict(content["agreement"]),
            device=str(content.get("device", "")),
            portable=tuple(str(name) for name in content.get("portable", ())),
            batches=_batches(content.get("batches")),
            dla_core=None if content.get("dla_core") is None else int(content["dla_core"]),
            note=str(content.get("note", "")),
            model_file=str(content.get("model_file", "")),
            audit=tuple(dict(layer) for layer in content.get("audit", ())),
            choice_faces=unpacked(content.get("choice_faces", ())),
            edgefer=str(content["edgefer"]),
            created=str(content["created"]),
            engine_file=str(engine["file"]),
            engine_sha256=str(engine["sha256"]),
            engine_bytes=int(engine["bytes"]),
        )


def _batches(content: Any) -> tuple[int, int] | None:
    if content is None:
        return None
    smallest, largest = map(int, content)
    return smallest, largest


def calibration_from(content: Mapping[str, Any]) -> Calibration:
    """Read what :meth:`Calibration.to_dict` wrote, now or before."""
    return Calibration(
        faces_sha256=str(content["faces_sha256"]),
        n=int(content["n"]),
        per_class={str(k): int(v) for k, v in content["per_class"].items()},
        method=str(content["method"]),
        seed=int(content["seed"]),
        origin=str(content["origin"]),
        face_hashes=unpacked(content["face_hashes"]),
    )


def manifest_path(engine: str | os.PathLike[str]) -> Path:
    """``x.onnx`` → ``x.onnx.json``.

    Of a link that has none beside it: the manifest beside what it points to. Of ``x.onnx.0a1b2c3d``, whose build was
    cut off before its last step (:func:`verify_file`): that of ``x.onnx``.
    """
    beside = Path(f"{os.fspath(engine)}.json")
    if beside.exists():
        return beside
    if os.path.islink(engine):
        return Path(f"{os.path.realpath(engine)}.json")
    return beside.with_name(re.sub(r"\.[0-9a-f]{8}\.json$", ".json", beside.name))


def write_engine(
    path: str | os.PathLike[str], engine: bytes, manifest: Manifest, folder: tuple[Path, Path] | None = None
) -> Manifest:
    """Write ``engine`` to ``path`` and its manifest beside it, as one step; return the manifest as written.

    Whatever stops it leaves the old pair or the new one (:func:`~edgefer.atomic.write_pair`, where ``folder`` is
    described too).

    Raises:
        EdgeferError: a file cannot be written.
    """
    from edgefer import __version__

    whole = replace(
        manifest,
        edgefer=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        engine_file=Path(path).name,
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        engine_bytes=len(engine),
    )
    text = json.dumps(whole.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_pair(path, engine, manifest_path(path), text + "\n", folder)
    return whole


def read_manifest(engine: str | os.PathLike[str]) -> Manifest:
    """The manifest beside the file ``engine``.

    Raises:
        EdgeferError: there is none, it is not JSON, lacks a key, or is of a newer schema.
    """
    path = manifest_path(engine)
    if not path.exists():
        raise EdgeferError(
            f"{engine} has no manifest: there is no {path}",
            hint=f"an engine never travels alone: copy {path.name} beside it, or build the engine again",
        )
    content = read_json(path, "manifest", _REBUILD)
    if not isinstance(content, dict):
        raise EdgeferError(f"{path} is not a manifest: it holds a {type(content).__name__}", hint=_REBUILD)
    with reading(f"the manifest {path}", _REBUILD):
        return Manifest.from_dict(content, str(path))


def verify_file(engine: str | os.PathLike[str], manifest: Manifest) -> Path:
    """The file that ``manifest`` was written for, byte for byte.

    It is ``engine``, or the file beside it whose build was cut off before its last step.

    Raises:
        EdgeferError: the file is missing, or its SHA-256 is another one.
    """
    path = Path(engine)
    described = described_file(path, manifest.engine_sha256)
    if described is not None:
        return described
    if not path.is_file():
        raise EdgeferError(f"there is no engine {path}", hint="check the path; `edgefer build-engine` makes engines")
    found = sha256_file(path)
    raise EdgeferError(
        f"{path} is not the engine its manifest describes: its sha256 is {found[:16]}… ({path.stat().st_size} "
        f"bytes), the manifest says {manifest.engine_sha256[:16]}… ({manifest.engine_bytes} bytes)",
        hint=f"one of the two was replaced or cut short: copy both, or {_REBUILD}",
    )
