"""The faces in a bundle: golden ones with the float model's answers, and those that the device judges on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.data import FaceSet, aligned, draw, open_dataset, save_npz
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource
from edgefer.engines.classifier import difference
from edgefer.engines.load import load_baseline
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.golden import Golden
from edgefer.measure.accuracy import Predictions
from edgefer.measure.evaluate import evaluate
from edgefer.runtimes import TOLERANCE

DRAWN: Final = 350
"""Faces that are drawn where none are given: 50 of each class."""

_GOLDEN_FACES: Final = 4
_MOST_APART: Final = 0.9
_BATCH: Final = 64


@dataclass(frozen=True)
class Judged:
    """Faces with labels, and what the baseline answered to them.

    Attributes:
        faces: as they were opened.
        origin: what messages call them; without folders, since a bundle travels.
        count: how many.
        drawn: whether they are drawings, on which an accuracy says nothing about people.
        baseline: its name; ``""`` until it was asked.
        top1: its share of right answers, 0–1.
    """

    faces: FaceSet
    origin: str
    count: int
    drawn: bool
    baseline: str = ""
    top1: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For the bundle's manifest."""
        return {
            "origin": self.origin,
            "n": self.count,
            "drawn": self.drawn,
            "baseline": self.baseline,
            "baseline_top1": self.top1,
        }


def golden_of(model: Path, device_files: Sequence[Path], contract: Contract, precision: str) -> Golden:
    """Drawn faces with the float model's logits; the tolerance is by precision, not by runtime.

    An INT8 engine is another network than the float one: as far as the files for the device are from it here (in ONNX
    Runtime, on these faces), any INT8 engine may be, on top of what runtimes differ by.
    """
    faces = golden_faces(contract, _GOLDEN_FACES)
    logits = _answers(model, faces)
    apart = 0.0
    if "int8" in precision:
        apart = max(difference(_answers(file, faces), logits) for file in set(device_files))
    tolerance = {**TOLERANCE, "int8": min(_MOST_APART, TOLERANCE["int8"] + apart)}
    return Golden(faces, logits, tolerance)


def _answers(model: Path, faces: Any) -> Any:
    logits = OnnxRuntimeSession(model, optimise=False).run({INPUT_NAME: faces})[OUTPUT_NAME]
    return np.asarray(logits, dtype=np.float32)


def judged_faces(data: str | FaceSet | None, contract: Contract, limit: int, seed: int) -> Judged:
    """The `test` part of ``data``, or drawn faces, in the order of the contract's labels.

    Raises:
        EdgeferError: no such faces; labels that are not the network's; no drawings for its labels.
    """
    if data is None:
        return Judged(_drawn(contract, seed), "drawn faces", DRAWN, drawn=True)
    faces = (open_dataset(data) if not isinstance(data, FaceSet) else data).part("test")
    if not len(faces):
        raise EdgeferError(f"{faces.origin} has 0 faces: nothing can be judged on it", hint="choose another split")
    if len(faces) > limit:
        chosen = np.random.default_rng(seed).choice(len(faces), limit, replace=False)
        faces = faces.subset(np.sort(chosen))
    faces = aligned(faces, contract.labels)
    return Judged(faces, Path(faces.origin).name, len(faces), drawn=False)


def _drawn(contract: Contract, seed: int) -> FaceSet:
    if set(contract.labels) != set(FER2013):
        raise EdgeferError(
            f"there are no drawn faces for the labels {', '.join(contract.labels)}",
            hint="--data DATA: its test faces go into the bundle",
        )
    images, labels = draw(DRAWN, seed)
    return aligned(FaceSet(ArraySource(images), labels, FER2013, origin="drawn faces"), contract.labels)


def write_judged(
    judged: Judged, faces_file: Path, answers_file: Path, baseline: str | os.PathLike[str], contract: Contract
) -> Judged:
    """Write the faces, cut to the contract's size, and the baseline's answers to exactly those."""
    images = np.concatenate([batch for batch, _ in judged.faces.batches(_BATCH, contract)])
    save_npz(faces_file, images, judged.faces.labels, contract.labels, ["test"] * len(images))
    faces = open_dataset(str(faces_file)).part("test")
    name = "model.onnx in ONNX Runtime" if Path(baseline).name == "model.onnx" else Path(baseline).name
    if str(baseline).endswith(".npz"):
        answers = Predictions.load(baseline)
        if answers.faces_sha256 != faces.fingerprint():
            raise EdgeferError(
                f"{baseline} are answers to other faces than those of the bundle",
                hint="give the network itself: --baseline NAME|WEIGHTS|ENGINE",
            )
    else:
        with load_baseline(baseline, contract=contract) as classifier:
            answers = evaluate(classifier, faces, batch_size=_BATCH)
    answers = replace(answers, name=name)
    answers.save(answers_file)
    return replace(judged, count=len(faces), baseline=name, top1=answers.top1)
