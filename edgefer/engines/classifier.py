"""A session that knows its contract: uint8 faces in, logits out, everything else refused by name.

Golden vectors are what an engine answered when it was built; it is asked again before it serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.session import Session, TensorSpec
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.golden import Golden
from edgefer.manifest import Manifest
from edgefer.runtimes import runtime_named

Logits = NDArray[np.float32]

_BATCHES = (1, 2, 4, 8)
"""Sizes that batches are filled up to: a runtime that compiles a network for each size (OpenVINO, TensorRT profiles)
then compiles four, not one for every number of people who walk past."""


class Classifier:
    """Faces in, logits out; a context manager that closes its session.

    Args:
        session: a loaded network with one input ``faces`` and one output ``logits``.
        contract: the contract of the faces and logits.
        precision: precision of the network's arithmetic: ``"fp32"``, ``"int8"``, ….
        size_bytes: size of the file it was loaded from.
        name: what messages call it: a path or a network's name.
        manifest: the manifest beside the engine, if it is one.
        met: how it is known to have met faces, ``"trained"`` or ``"chose"`` → beginnings of their hashes.

    Raises:
        EdgeferError: the session's input or output is not the contract's.
    """

    def __init__(
        self,
        session: Session,
        contract: Contract,
        *,
        precision: str,
        size_bytes: int,
        name: str,
        manifest: Manifest | None = None,
        met: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.contract = contract
        self.precision = precision
        self.size_bytes = size_bytes
        self.name = name
        self.manifest = manifest
        self.met = dict(met or {})
        self.runtime = session.name
        self.runtime_version = session.version
        self._session: Session | None = session
        _check_tensors(session, contract, name)

    @classmethod
    def of_engine(cls, session: Session, manifest: Manifest, name: str) -> Classifier:
        """A classifier over the engine that ``manifest`` describes."""
        got, size = manifest.precision.got, manifest.engine_bytes
        return cls(session, manifest.contract, precision=got, size_bytes=size, name=name, manifest=manifest)

    @property
    def session(self) -> Session:
        """The session, for what only a runtime can tell (profiles, layers).

        Raises:
            EdgeferError: the classifier was closed.
        """
        if self._session is None:
            raise EdgeferError(f"{self.name} was used after it was closed", hint="use it inside its `with` block")
        return self._session

    def logits(self, batch: NDArray[Any]) -> Logits:
        """Logits, float32 N×classes, of uint8 N×H×W×C faces of the contract's shape.

        Raises:
            EdgeferError: wrong dtype or shape, an empty batch, logits that are not finite, or closed already.
        """
        session = self.session
        self._check_batch(batch)
        logits = np.asarray(session.run({INPUT_NAME: batch})[OUTPUT_NAME], dtype=np.float32)
        wanted = (len(batch), len(self.contract.labels))
        if logits.shape != wanted:
            raise EdgeferError(
                f"{self.name} returned logits of shape {_by(logits.shape)} where {_by(wanted)} were due",
                hint="its batch size is baked in; export the model again with a dynamic batch",
            )
        if not np.isfinite(logits).all():
            bad = int((~np.isfinite(logits)).any(axis=1).sum())
            raise EdgeferError(
                f"{self.name} ({self.precision}, {self.runtime}) gave logits that are not finite for {bad} of "
                f"{len(batch)} faces",
                hint="a value overflowed: build with --bf16 or --fp32 instead of --fp16, or check the weights for NaN",
            )
        return logits

    def logits_of_all(self, faces: NDArray[Any]) -> Logits:
        """:meth:`logits` of any number of faces, in batches that the engine takes; the last face fills up the last one.

        An engine may be built for one batch size, or for a maximum batch size.
        """
        smallest, largest = self.session.inputs[0].limits
        size = len(faces) if largest is None else largest
        if smallest <= len(faces) <= size:
            return self.logits(faces)
        rows = []
        for start in range(0, len(faces), size):
            batch = faces[start : start + size]
            lacking = max(0, smallest - len(batch))
            filled = np.concatenate([batch, np.repeat(batch[-1:], lacking, axis=0)]) if lacking else batch
            rows.append(self.logits(filled)[: len(batch)])
        return np.concatenate(rows) if rows else self.logits(faces)

    def probabilities(self, batch: NDArray[Any]) -> Logits:
        """Softmax of :meth:`logits`: float32 N×classes, rows sum to 1. Raises the same errors."""
        logits = self.logits(batch)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float32)

    def probabilities_of_all(self, faces: NDArray[Any]) -> Logits:
        """:meth:`probabilities` of any number of faces, none included, in batches of few sizes.

        The last face fills up the last batch.
        """
        if not len(faces):
            return np.zeros((0, len(self.contract.labels)), np.float32)
        low, high = self.session.inputs[0].limits
        sizes = sorted({max(low, size if high is None else min(high, size)) for size in _BATCHES})
        rows = []
        for start in range(0, len(faces), sizes[-1]):
            batch = faces[start : start + sizes[-1]]
            lacking = next(size for size in sizes if size >= len(batch)) - len(batch)
            filled = np.concatenate([batch, np.repeat(batch[-1:], lacking, axis=0)]) if lacking else batch
            rows.append(self.probabilities(filled)[: len(batch)])
        return np.concatenate(rows)

    def close(self) -> None:
        """Close the session. A second call does nothing; any other use afterwards is an error."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_batch(self, batch: NDArray[Any]) -> None:
        if batch.dtype == np.uint8 and batch.ndim == 4 and batch.shape[1:] == self.contract.face_shape and len(batch):
            return
        raise EdgeferError(
            f"{self.name} takes uint8 N×{_by(self.contract.face_shape)}, not {batch.dtype} {_by(batch.shape)}",
            hint="bring faces into shape with edgefer.faces.prepare or prepare_batch; do not normalise them, "
            "the engine does",
        )


def _check_tensors(session: Session, contract: Contract, name: str) -> None:
    """The session must have exactly the contract's input and output; a fixed batch size is allowed here."""
    for kind, found, wanted in (
        ("input", session.inputs, TensorSpec(INPUT_NAME, "uint8", (None, *contract.face_shape))),
        ("output", session.outputs, TensorSpec(OUTPUT_NAME, "float32", (None, len(contract.labels)))),
    ):
        fits = len(found) == 1 and (found[0].name, found[0].dtype) == (wanted.name, wanted.dtype)
        if not fits or found[0].shape[1:] != wanted.shape[1:]:
            raise EdgeferError(
                f"{name} has the {kind} {', '.join(map(str, found)) or 'nothing'}; its contract asks for {wanted}",
                hint="the file and its contract do not belong together: export or build it again",
            )


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def make_golden(classifier: Classifier, *, count: int = 4) -> Golden:
    """Ask ``classifier``, as just built, about ``count`` synthetic faces and pin its answers."""
    faces = golden_faces(classifier.contract, count)
    tolerance = runtime_named(classifier.runtime).tolerance_of(classifier.precision)
    return Golden(faces, classifier.logits(faces), {classifier.runtime: tolerance})


def relative_difference(found: Logits, golden: Logits) -> float:
    """``max |found − golden| / max |golden|``."""
    scale = float(np.abs(golden).max())
    return float(np.abs(found - golden).max()) / max(scale, float(np.finfo(np.float32).tiny))


def check_golden(classifier: Classifier, golden: Golden) -> float:
    """Ask ``classifier`` about the golden faces; return the largest difference relative to the largest golden logit.

    Raises:
        EdgeferError: the difference is over the tolerance of the classifier's runtime, or there is none for it.
    """
    if classifier.runtime not in golden.tolerance:
        raise EdgeferError(
            f"{classifier.name} was never checked with {classifier.runtime}: its golden vectors are for "
            f"{', '.join(golden.tolerance)}",
            hint=f"run it with {' or '.join(golden.tolerance)}, or build it for {classifier.runtime}",
        )
    allowed = golden.tolerance[classifier.runtime]
    found = relative_difference(classifier.logits(golden.faces), golden.logits)
    if not found <= allowed:
        raise EdgeferError(
            f"{classifier.name} does not answer here as when it was built: its golden logits differ by {found:.3g} of "
            f"their scale with {classifier.runtime} {classifier.runtime_version}, {allowed:.3g} is allowed",
            hint="this CPU or runtime computes it differently: build the engine again on this machine",
        )
    return found
