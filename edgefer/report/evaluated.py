"""The faces that a benchmark evaluates: those of the test part that nothing under test has met before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefer.data import FaceSet, open_dataset
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, check_classes, columns_of, numbered
from edgefer.measure.paired import check_same_faces
from edgefer.models.weights import Met, met_by_shipped
from edgefer.progress import announce, as_many, number_of
from edgefer.provenance import begin_as, beginnings

CHOOSING_SPLITS = ("train", "fit", "val", "calib")
MIN_LEFT = 100
"""Distinct faces that must remain where some are left out; see :func:`evaluated_faces`."""


@dataclass(frozen=True)
class LeftOut:
    """Faces that were not evaluated, since an engine or the baseline knows them.

    Attributes:
        given: number of test faces before.
        reasons: reason → number of faces, each counted once: ``trained mini_xception``.
    """

    given: int
    reasons: Mapping[str, int]

    @property
    def faces(self) -> int:
        """Number of faces that were left out."""
        return sum(self.reasons.values())

    def sentence(self) -> str:
        """``14 of 3,579 test faces are left out: 12 trained mini_xception, 2 calibrated a.onnx``."""
        told = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.items())
        return f"{self.faces:,} of {number_of(self.given, 'test face')} {as_many(self.faces, 'are left out')}: {told}"


def opened_faces(data: str | os.PathLike[str] | FaceSet) -> FaceSet:
    """The ``test`` part of ``data``, or what ``DATA:split`` names.

    Raises:
        EdgeferError: the data cannot be read, or there is no face.
    """
    faces = data if isinstance(data, FaceSet) else open_dataset(data)
    faces = faces.require_labels("measuring accuracy").picked_or("test")
    if len(faces) == 0:
        raise EdgeferError(f"{faces.origin} has 0 faces: nothing can be evaluated on it", hint="choose another split")
    return faces


def evaluated_faces(
    faces: FaceSet,
    classifiers: Sequence[Classifier],
    baseline: Predictions | None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[FaceSet, LeftOut | None, Predictions | None]:
    """Leave out the faces that trained, chose or calibrated a network under test, and say so on stderr.

    Of what remains, if it is more than ``limit``, a sample by ``seed`` is evaluated.

    They are found by the hashes that weights and manifests record, which are of exact pixels. Near-duplicates within
    ``faces`` of those that were found go too. Of a ``baseline`` of predictions, only faces that it answered remain.

    What remains is evaluated: its accuracy is an estimate like any other, with a wider interval. It is refused where
    fewer than :data:`MIN_LEFT` distinct faces remain: Wilson's interval of a top-1 is then wider than 20 points and
    Tango's of a drop than 7, even where no answer changed, so that nothing that a benchmark asks could be answered. A
    class that lost all its faces is no reason to refuse: top-1 and the other classes stand, and a warning says so.

    Returns:
        The faces; what was left out, None for nothing; and the baseline's answers to these faces.

    Raises:
        EdgeferError: too few remain; classes differ; or the baseline's faces are others and have no hashes.
    """
    for one in classifiers:  # whose answers come in the order of the faces' classes
        columns_of(one.name, one.contract.labels, faces.origin, faces.classes)
    if baseline is not None:
        check_classes(baseline.name, tuple(baseline.classes), faces.origin, faces.classes)
    reasons: dict[str, NDArray[np.bool_]] = {}
    for reason, known in _met(classifiers):
        reasons[reason] = begin_as(faces.face_hashes(), known)
    if any(hit.any() for hit in reasons.values()):
        groups = numbered(faces.group_keys())
        hit_groups = groups[np.logical_or.reduce(list(reasons.values()))]
        reasons["nearly the same as these"] = np.isin(groups, hit_groups)
    if baseline is not None and len(baseline.hashes):
        reasons[f"without an answer in {Path(baseline.name).name}"] = ~baseline.has_predicted(faces)
    counts, out = {}, np.zeros(len(faces), dtype=np.bool_)
    for reason, hit in reasons.items():
        if count := int((hit & ~out).sum()):
            counts[reason] = count
        out |= hit
    left_out = LeftOut(len(faces), counts) if counts else None
    if left_out is not None:
        faces = _remaining(faces, ~out, left_out)
    if limit is not None and limit < len(faces):
        # at random and not balanced: the share of each class, and so the expected top-1, stays that of all faces
        faces = faces.subset(np.sort(np.random.default_rng(seed).choice(len(faces), limit, replace=False)))
    if baseline is None:
        return faces, left_out, None
    if len(baseline.hashes):
        return faces, left_out, baseline.on(faces)
    groups = numbered(faces.group_keys())
    check_same_faces(baseline, faces.origin, faces.fingerprint(), faces.labels, groups)
    return faces, left_out, baseline


def _met(classifiers: Sequence[Classifier]) -> Iterator[tuple[str, frozenset[str]]]:
    """What each network is known to have met: ``trained a.onnx, b.onnx`` and the beginnings of the faces' hashes."""
    names: dict[tuple[str, frozenset[str]], list[str]] = {}
    for one in classifiers:
        calibration = None if one.manifest is None else one.manifest.calibration
        calibrated = frozenset(() if calibration is None else beginnings(calibration.face_hashes))
        met = {**_met_of_weights(one), "calibrated": calibrated}
        chose = frozenset(() if one.manifest is None else one.manifest.choice_faces)
        met["chose"] = met.get("chose", frozenset()) | chose
        for how, known in met.items():
            if known:
                names.setdefault((how, known), []).append(Path(one.name).name)
    for (how, known), called in sorted(names.items(), key=lambda item: item[0][0], reverse=True):  # trained first
        yield f"{how} {', '.join(dict.fromkeys(called))}", known


def _met_of_weights(one: Classifier) -> Met:
    return one.met or met_by_shipped(one.contract.lineage.get("weights_sha256", ""))


def unknown_training(classifiers: Sequence[Classifier]) -> Iterator[str]:
    """At most one sentence: the networks of which nothing tells the faces that trained them."""
    silent = [one for one in classifiers if not _met_of_weights(one).get("trained")]
    told = {one.contract.lineage.get("fit_sha256", "") for one in classifiers if one not in silent} - {""}
    silent = [one for one in silent if one.contract.lineage.get("fit_sha256") not in told]
    trained = [one for one in silent if "weights" not in one.contract.lineage]  # which says "random"
    if trained:
        names = ", ".join(dict.fromkeys(Path(one.name).name for one in trained))
        yield f"nothing tells which faces trained {names}: those among the test faces would flatter the accuracy"


def _remaining(faces: FaceSet, kept: NDArray[np.bool_], left_out: LeftOut) -> FaceSet:
    rest = faces.subset(np.flatnonzero(kept))
    distinct = len(np.unique(rest.group_keys())) if len(rest) else 0
    if distinct < MIN_LEFT:
        raise EdgeferError(
            f"{faces.origin}: {left_out.sentence()}; {number_of(distinct, 'distinct face')} "
            f"{as_many(distinct, 'remain')}, and {MIN_LEFT} are needed",
            hint="benchmark on faces that the networks have not met; `--exclude` keeps a file of test faces out of "
            "training and calibration",
        )
    announce(f"note: {left_out.sentence()}")
    return rest


def face_warnings(faces: FaceSet) -> Iterator[str]:
    """Sentences that limit what an accuracy on ``faces`` means."""
    if faces.picked in CHOOSING_SPLITS:
        yield f"{faces.origin} are faces that train or choose networks: an accuracy on them is flattered"
    lacking = [name for name, count in faces.per_class_counts().items() if not count]
    if lacking:
        yield f"{faces.origin} has no face of {', '.join(lacking)}: nothing is known about that"
    distinct = len(np.unique(faces.group_keys()))
    if distinct < len(faces):
        yield f"{len(faces):,} faces, {distinct:,} distinct: intervals count copies and near-duplicates once"
