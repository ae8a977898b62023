"""Single pictures: every face with its probabilities, for `edgefer predict` and the page."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from edgefer.camera.align import cut_all
from edgefer.camera.detection import Detection, Detector, Square
from edgefer.camera.opencv import Pixels
from edgefer.camera.recognise import probabilities
from edgefer.camera.seen import Face
from edgefer.camera.smooth import Probabilities, Smoothing
from edgefer.camera.track import Tracked
from edgefer.engines.classifier import Classifier
from edgefer.faces import Image, prepare

UNSURE_UNDER = Smoothing().unsure_under


@dataclass(frozen=True, eq=False)
class StillFace:
    """A face, its probabilities (float32 classes), its label (the most probable) and whether that is sure enough."""

    detection: Detection
    probabilities: Probabilities
    label: str
    sure: bool

    @property
    def confidence(self) -> float:
        """Probability of the label."""
        return float(self.probabilities.max())

    def drawn_as(self, number: int) -> Face:
        """For the overlay."""
        return Face(Tracked(number, self.detection, False), self.probabilities, self.label if self.sure else None)


@dataclass(frozen=True, eq=False)
class Reading:
    """The faces of a picture, largest first; ms that finding and labelling took; the crops as the network saw them."""

    faces: tuple[StillFace, ...]
    detect_ms: float
    infer_ms: float
    crops: tuple[Image, ...]


def find(pixels: Pixels, detector: Detector | None) -> list[Detection]:
    """Faces in uint8 H×W×3 BGR ``pixels``, largest first; without a detector the whole picture is one face."""
    if detector is None:
        height, width = pixels.shape[:2]
        return [Detection((0.0, 0.0, float(width), float(height)), 1.0, _whole(width, height))]
    return sorted(detector.detect(pixels), key=lambda face: -face.box[2] * face.box[3])


def read(
    pixels: Pixels,
    detector: Detector | None,
    classifier: Classifier,
    *,
    level: bool = True,
    unsure_under: float = UNSURE_UNDER,
    found: list[Detection] | None = None,
) -> Reading:
    """Find and label all faces of a picture.

    Args:
        pixels: uint8 H×W×3 BGR.
        detector: None takes the whole picture as one face, without the contract's crop margin.
        classifier: the engine.
        level: turn tilted faces upright first.
        unsure_under: labels below this probability are marked as unsure.
        found: faces that are known already, e.g. from another engine's turn.
    """
    start = time.perf_counter()
    faces = find(pixels, detector) if found is None else found
    middle = time.perf_counter()
    contract = classifier.contract
    if detector is None:
        crops = prepare(pixels[:, :, ::-1], replace(contract, crop_margin=0.0))[None]
    else:
        crops = cut_all(pixels, faces, contract, level=level)
    rows = probabilities(classifier, crops)
    labelled = tuple(
        StillFace(face, row, contract.labels[int(row.argmax())], bool(row.max() >= unsure_under))
        for face, row in zip(faces, rows, strict=True)
    )
    end = time.perf_counter()
    return Reading(labelled, 1000.0 * (middle - start), 1000.0 * (end - middle), tuple(crops))


def _whole(width: int, height: int) -> Square:
    return Square(width / 2, height / 2, float(max(width, height)))
