"""Calibration: from a dataset to ranges, and the record of which faces made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME, Contract
from edgefer.data import FaceSet, aligned, open_dataset
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.manifest import Calibration
from edgefer.optimize.settings import Recipe
from edgefer.progress import announce, progress
from edgefer.quantize.observation import DEFAULT_BUDGET, activation_bytes, observe
from edgefer.quantize.ranges import Ranges

_BATCH = 64


def calibration_faces(data: str | FaceSet, contract: Contract, recipe: Recipe) -> FaceSet:
    """The recipe's draw from the ``calib`` part of ``data``, or from the split that ``data`` names itself.

    Raises:
        EdgeferError: the data cannot be read, their classes are not the contract's, or a class has no face.
    """
    faces = open_dataset(data) if isinstance(data, str) else data
    if faces.picked in ("test", "private"):
        raise EdgeferError(
            f"{faces.origin} are test faces: ranges made from them would flatter the report",
            hint="calibrate on the `calib` part: leave the split out of --calib",
        )
    faces = faces.split("calib") if faces.picked in (None, "all") else faces
    faces = aligned(faces, contract.labels)
    if faces.classes != contract.labels:
        raise EdgeferError(
            f"{faces.origin} has the classes {', '.join(faces.classes)}, the model {', '.join(contract.labels)}",
            hint="say what becomes of each class: --map OLD=NEW,…; OLD= leaves one out",
        )
    if recipe.per_class is not None:
        return _per_class(faces, recipe.per_class, recipe.seed)
    if len(faces) < recipe.faces:
        announce(
            f"calibrating with all {len(faces):,} faces of {faces.origin}: fewer than the {recipe.faces:,} asked for"
        )
    return faces.stratified(min(recipe.faces, len(faces)), recipe.seed)


def _per_class(faces: FaceSet, wanted: int, seed: int) -> FaceSet:
    """``wanted`` faces of each class, or all that there are; prints how many."""
    taken = {label: min(wanted, there) for label, there in faces.per_class_counts().items()}
    short = [f"{label} {count}" for label, count in taken.items() if count < wanted]
    announce(
        f"calibrating with {sum(taken.values()):,} faces of {faces.origin}: {wanted} of each class"
        + (f", but all there are of {', '.join(short)}" if short else "")
    )
    return faces.stratified(sum(taken.values()), seed)


def calibrate(model: onnx.ModelProto, contract: Contract, faces: FaceSet, recipe: Recipe) -> tuple[Ranges, Calibration]:
    """Stream ``faces`` through the float ``model`` once; memory does not depend on how many they are.

    Returns:
        The ranges, and what the manifest says about them.

    Raises:
        EdgeferError: an activation is not finite; every face is one flat grey, black for example.
    """
    batches = _seen(faces, contract)
    with progress("calibrating", len(faces)) as advance:
        budget = max(DEFAULT_BUDGET, activation_bytes(model))  # a large network's faces go through one at a time
        ranges = observe(
            model,
            _runner,
            batches,
            budget_bytes=budget,
            name_of=lambda face: f"face {face} of the draw ({faces.name_of(face)} of {faces.origin})",
            advance=advance,
        )
    return ranges, record_of(faces, recipe)


def record_of(faces: FaceSet, recipe: Recipe) -> Calibration:
    """What the manifest says about the faces that ranges were made from."""
    return Calibration(
        faces_sha256=faces.fingerprint(),
        n=len(faces),
        per_class=faces.per_class_counts(),
        method=recipe.method,
        seed=recipe.seed,
        origin=faces.origin,
        face_hashes=faces.face_hashes(),
    )


def _seen(faces: FaceSet, contract: Contract) -> Iterator[NDArray[np.uint8]]:
    """The faces, a batch at a time; refused at the end if there was nothing to be seen on any."""
    flat = True
    for images, _ in faces.batches(_BATCH, contract):
        flat = flat and bool((np.ptp(images.reshape(len(images), -1), axis=1) == 0).all())
        yield images
    if flat and len(faces):
        level = int(images.flat[0])
        raise EdgeferError(
            f"all {len(faces):,} calibration faces of {faces.origin} are flat "
            f"({'black' if level == 0 else f'grey level {level}'}): ranges made from them fit no real face",
            hint="look at them: `edgefer data inspect DATA --sheet faces.png`; calibrate on real faces",
        )


def _runner(model: bytes) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    session = OnnxRuntimeSession(model, threads=1)
    return lambda batch: session.run({INPUT_NAME: batch})
