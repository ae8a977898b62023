"""The whole way on single pictures: how many faces are found, how well they are cut out, and what that costs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scenes import Place, overlap, paste, room, spread

from edgefer.camera.detection import Detector, cut
from edgefer.camera.predict import probabilities
from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.faces import prepare_batch
from edgefer.measure.accuracy import Predictions, wilson_interval
from edgefer.measure.paired import Paired

SIDES = (64, 96, 144, 200)
TILTS = (0.0, 10.0, 20.0)
ROOMS = 25  # shares no factor with the twelve pairs of side and tilt
_NEAR = 0.5
"""A detection belongs to the face if its centre lies within so many sides of the face's."""


def measure_stills(
    faces: FaceSet, detectors: dict[str, Detector], classifier: Classifier, seed: int = 0
) -> dict[str, Any]:
    """Each of ``faces`` pasted into a scene of 640×480 at one of the sides and tilts, in turn, either way.

    Returns:
        For each detector and for ``level=False``: the share found (with Wilson interval, and by side and tilt), the
        crops' intersection over union with the pasted square, wrong finds, and the accuracy on what was found, paired
        with that of the faces themselves.
    """
    generator = np.random.default_rng(seed)
    rooms = [room(generator) for _ in range(ROOMS)]
    cells = itertools.cycle(itertools.product(SIDES, TILTS))
    taken: dict[str, dict[str, list[Any]]] = {
        name: {"rows": [], "cells": [], "overlaps": [], "level": [], "as_is": [], "wrong": []} for name in detectors
    }
    for row in range(len(faces)):
        side, tilt = next(cells)
        place = spread(1, float(side), generator, float(generator.choice([-1, 1])) * tilt)[0]
        scene = rooms[row % len(rooms)].copy()
        paste(scene, faces.images([row])[0].squeeze(), place)
        for name, detector in detectors.items():
            _look(scene, place, detector, classifier, row, (side, tilt), taken[name])
    return {
        "faces": len(faces),
        "sides": list(SIDES),
        "tilts": list(TILTS),
        "detectors": {name: _evaluated(faces, classifier, taken[name]) for name in detectors},
    }


def _look(
    scene: NDArray[np.uint8],
    place: Place,
    detector: Detector,
    classifier: Classifier,
    row: int,
    cell: tuple[int, float],
    taken: dict[str, list[Any]],
) -> None:
    found = detector.detect(scene)
    near = [d for d in found if np.hypot(d.crop.x - place.x, d.crop.y - place.y) < _NEAR * place.side]
    taken["wrong"].append(len(found) - len(near))
    taken["cells"].append((*cell, bool(near)))
    if near:
        crop = near[0].crop
        taken["rows"].append(row)
        taken["overlaps"].append(overlap(crop, place.square))
        taken["level"].append(cut(scene, crop, classifier.contract))
        taken["as_is"].append(cut(scene, crop, classifier.contract, level=False))


def _evaluated(faces: FaceSet, classifier: Classifier, taken: dict[str, list[Any]]) -> dict[str, Any]:
    outcomes = [hit for _, _, hit in taken["cells"]]
    result: dict[str, Any] = {
        "found": {"share": float(np.mean(outcomes)), "ci95": list(wilson_interval(sum(outcomes), len(outcomes)))},
        "found_by_side": _by(taken["cells"], 0),
        "found_by_tilt": _by(taken["cells"], 1),
        "wrong_finds": int(sum(taken["wrong"])),
    }
    if not taken["rows"]:
        return result
    subset = faces.subset(np.array(taken["rows"]))
    direct = probabilities(classifier, prepare_batch(subset.images(np.arange(len(subset))), classifier.contract))
    baseline = _predictions(subset, classifier, direct, "the faces themselves")
    result["crop_iou"] = {
        "mean": float(np.mean(taken["overlaps"])),
        "p10": float(np.percentile(taken["overlaps"], 10)),
        "median": float(np.median(taken["overlaps"])),
    }
    result["top1_direct"] = baseline.top1
    for kind in ("level", "as_is"):
        answers = _predictions(subset, classifier, probabilities(classifier, np.stack(taken[kind])), kind)
        result[kind] = {"top1": answers.top1, **Paired.from_predictions(baseline, answers).to_dict()}
    return result


def _by(cells: list[Any], key: int) -> dict[str, float]:
    values = sorted({cell[key] for cell in cells})
    return {f"{value:g}": float(np.mean([cell[2] for cell in cells if cell[key] == value])) for value in values}


def _predictions(faces: FaceSet, classifier: Classifier, values: NDArray[np.float32], name: str) -> Predictions:
    return Predictions(values, faces.labels, classifier.contract.labels, faces.fingerprint(), name)
