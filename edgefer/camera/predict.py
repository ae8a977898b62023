"""Pictures to labelled faces: the engine, and every face of a picture with its probabilities."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from edgefer.camera.detection import Detection, Detector, Square, cut_all
from edgefer.camera.detectors import AUTO, open_detector
from edgefer.camera.frame import LabelledFace
from edgefer.camera.overlay import draw_faces
from edgefer.camera.pictures import Pixels, read_picture, to_bgr, write_picture
from edgefer.camera.smooth import Probabilities, Smoothing
from edgefer.camera.track import TrackedFace
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.faces import Image, prepare
from edgefer.models import default_engine

MIN_CONFIDENCE = Smoothing().min_confidence


@dataclass(frozen=True, eq=False)
class PredictedFace:
    """A face, its probabilities (float32 classes), its label and whether that is sure enough to be shown."""

    detection: Detection
    probabilities: Probabilities
    label: str
    sure: bool

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height in pixels of the picture."""
        return self.detection.box

    @property
    def confidence(self) -> float:
        """Probability of the label."""
        return float(self.probabilities.max())

    def __repr__(self) -> str:
        box = "{:.0f},{:.0f} {:.0f}×{:.0f}".format(*self.box)
        return f"{self.label} {100 * self.confidence:.0f} %{'' if self.sure else ' (unsure)'} at {box}"


@dataclass(frozen=True, eq=False)
class Prediction:
    """The faces of a picture, largest first.

    Attributes:
        labels: the classes, in the order of probabilities.
        size: width and height of the picture in pixels.
        faces: largest first.
        detect_ms, infer_ms: duration of finding and of labelling.
        crops: the faces as the network saw them.
    """

    labels: tuple[str, ...]
    size: tuple[int, int]
    faces: tuple[PredictedFace, ...]
    detect_ms: float
    infer_ms: float
    crops: tuple[Image, ...]

    def __repr__(self) -> str:
        faces = "; ".join(map(repr, self.faces)) or "no face found: detector=None takes the picture itself as a face"
        return f"<Prediction of {self.size[0]}×{self.size[1]} pixels: {faces}>"

    def to_json(self) -> dict[str, Any]:
        """For `edgefer predict --json`: boxes in pixels, label → probability."""
        return {
            "width": self.size[0],
            "height": self.size[1],
            "detect_ms": round(self.detect_ms, 2),
            "infer_ms": round(self.infer_ms, 2),
            "faces": [
                {
                    "box": [round(v, 1) for v in face.detection.box],
                    "score": round(face.detection.score, 3),
                    "label": face.label,
                    "sure": face.sure,
                    "probabilities": {
                        name: round(float(p), 4) for name, p in zip(self.labels, face.probabilities, strict=True)
                    },
                }
                for face in self.faces
            ],
        }

    def rows(self) -> list[str]:
        """A line for each face: number, box, label, probability and the next two labels, for `edgefer predict`."""
        lines = []
        for number, face in enumerate(self.faces, 1):
            box = "{:.0f},{:.0f} {:.0f}×{:.0f}".format(*face.detection.box)
            order = sorted(range(len(self.labels)), key=lambda i: -face.probabilities[i])
            others = ", ".join(f"{self.labels[i]} {100 * face.probabilities[i]:.0f} %" for i in order[1:3])
            doubt = "" if face.sure else "  (unsure)"
            share = f"{100 * face.confidence:.0f} %"
            lines.append(f"{number:>4}  {box:<21} {face.label:<12} {share:>11}  {others}{doubt}")
        return lines

    def save(self, path: Path, pixels: Pixels) -> None:
        """Draw boxes and labels onto ``pixels``, the picture, and write it."""
        shown = [
            LabelledFace(
                TrackedFace(number, face.detection, False), face.probabilities, face.label if face.sure else None
            )
            for number, face in enumerate(self.faces, 1)
        ]
        draw_faces(pixels, shown, self.labels)
        write_picture(path, pixels)


Picture = Pixels | str | os.PathLike[str]
"""A file, or uint8 H×W×3 in OpenCV's order (BGR), H×W×4 or H×W."""


@overload
def predict(
    picture: Picture,
    engine: Classifier | str | os.PathLike[str] | None = None,
    detector: Detector | str | None = AUTO,
    *,
    level: bool = True,
    min_confidence: float = MIN_CONFIDENCE,
) -> Prediction: ...


@overload
def predict(
    picture: list[Any] | tuple[Any, ...],
    engine: Classifier | str | os.PathLike[str] | None = None,
    detector: Detector | str | None = AUTO,
    *,
    level: bool = True,
    min_confidence: float = MIN_CONFIDENCE,
) -> list[Prediction]: ...


def predict(
    picture: Picture | list[Any] | tuple[Any, ...],
    engine: Classifier | str | os.PathLike[str] | None = None,
    detector: Detector | str | None = AUTO,
    *,
    level: bool = True,
    min_confidence: float = MIN_CONFIDENCE,
) -> Prediction | list[Prediction]:
    """Find and label all faces of a picture; of a list of pictures, with engine and detector opened once.

    Args:
        picture: a file; uint8 H×W×3 in OpenCV's order (BGR), H×W×4 or H×W; or a list of these.
        engine: an engine or its file; None for the engine that ships, of :data:`edgefer.models.DEFAULT`.
        detector: a detector or what :func:`open_detector` opens; None takes the whole picture as one face.
        level: turn tilted faces upright first.
        min_confidence: labels below this probability are marked as unsure.

    Returns:
        A prediction with boxes, labels and probabilities, or a list of them where a list was given.

    Raises:
        EdgeferError: a picture, the engine or the detector cannot be opened.
    """
    pictures = picture if isinstance(picture, list | tuple) else [picture]
    with ExitStack() as opened:
        classifier = engine if isinstance(engine, Classifier) else opened.enter_context(open_engine(engine))
        finder = opened.enter_context(closing(open_detector(detector))) if isinstance(detector, str) else detector
        found = []
        for one in pictures:
            pixels = to_bgr(one, "the array") if isinstance(one, np.ndarray) else read_picture(one)
            found.append(label_faces(pixels, finder, classifier, level=level, min_confidence=min_confidence))
    return found if pictures is picture else found[0]


def label_faces(
    pixels: Pixels,
    detector: Detector | None,
    classifier: Classifier,
    *,
    level: bool = True,
    min_confidence: float = MIN_CONFIDENCE,
    found: Sequence[Detection] | None = None,
) -> Prediction:
    """:func:`predict` with everything opened.

    Args:
        pixels: uint8 H×W×3 BGR.
        detector: None takes the whole picture as one face, without the contract's crop margin.
        classifier: the engine.
        level: turn tilted faces upright first.
        min_confidence: labels below this probability are marked as unsure.
        found: faces that are known already, e.g. from another engine's turn.
    """
    start = time.perf_counter()
    height, width = pixels.shape[:2]
    if found is not None:
        faces = list(found)
    elif detector is not None:
        faces = sorted(detector.detect(pixels), key=lambda face: -face.box[2] * face.box[3])
    else:
        side = float(max(width, height))
        square = Square(width / 2, height / 2, side)
        faces = [Detection((0.0, 0.0, float(width), float(height)), 1.0, square)]
    middle = time.perf_counter()
    contract = classifier.contract
    if detector is None:
        crops = prepare(pixels[:, :, ::-1], replace(contract, crop_margin=0.0))[None]
    else:
        crops = cut_all(pixels, faces, contract, level=level)
    rows = classifier.probabilities_of_all(crops)
    labelled = tuple(
        PredictedFace(face, row, contract.labels[int(row.argmax())], bool(row.max() >= min_confidence))
        for face, row in zip(faces, rows, strict=True)
    )
    end = time.perf_counter()
    times = 1000.0 * (middle - start), 1000.0 * (end - middle)
    return Prediction(contract.labels, (width, height), labelled, *times, tuple(crops))


def output_names(pictures: Sequence[Path], folder: Path) -> list[Path]:
    """What each picture is written as: ``stem.png``, numbered where two would have one name.

    Raises:
        EdgeferError: that is one of the pictures themselves.
    """
    read = {path.resolve() for path in pictures}
    names: dict[str, None] = {}  # in order, and quick to ask
    used: dict[str, int] = {}
    for path in pictures:
        name = f"{path.stem}.png"
        while name in names:
            used[path.stem] = used.get(path.stem, 1) + 1
            name = f"{path.stem}-{used[path.stem]}.png"
        names[name] = None
        if (folder / name).resolve() in read:
            raise EdgeferError(f"{folder / name} is read and would be replaced", hint="-o takes another folder")
    return [folder / name for name in names]


def open_engine(path: str | os.PathLike[str] | None, threads: int = 1) -> Classifier:
    """The engine at ``path``; the one that ships if None, for which no torch is needed.

    Raises:
        EdgeferError: whatever :func:`edgefer.load_engine` refuses.
    """
    return load_engine(default_engine() if path is None else path, threads)
