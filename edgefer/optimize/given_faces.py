"""The division of what a user gives for calibration: images that set ranges, and images apart from those.

The images apart set no range. They measure the agreement of the INT8 engine with float or, where something is chosen by
its answers, evaluate candidates. The ranges need neither labels nor classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from edgefer.contract import Contract
from edgefer.data import FaceSet, aligned, open_dataset
from edgefer.data.inspection import UNREADABLE, without_unreadable
from edgefer.data.splits import TEST
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import check_classes
from edgefer.optimize.calibration_table import shipped_table
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce, as_many, number_of
from edgefer.provenance import begin_as

HELD_BACK = 0.1
"""Share of the images given that is held back to measure the agreement, if nothing else is left for it."""
MIN_APART, MAX_APART = 20, 500
"""Number of images that measure an agreement: with 20 its interval is 16 points wide where all agree, with 500 one."""
FEW = 2 * MIN_APART
"""Smaller sets give all their images: the ranges need them more."""


class Purpose(Enum):
    """What the images do that set no range."""

    TABLE = "no engine is built"
    ENGINE = "measure the agreement with float"
    COMPARISON = "compare answers with float"
    """Methods or layers are told apart by how near their answers come to float's: labels are used where there are."""
    CHOICE = "evaluate candidates"
    """By accuracy, which needs labels."""

    @property
    def chooses(self) -> bool:
        """Whether something is chosen by what is answered to these images."""
        return self in (Purpose.COMPARISON, Purpose.CHOICE)


@dataclass(frozen=True)
class GivenFaces:
    """Attributes:
    ranges: the images that set the ranges, in the order in which corrections look at them.
    apart: images that set no range; None where there are none: ``reason`` says why.
    """

    ranges: FaceSet
    apart: FaceSet | None = None
    reason: str = ""

    @property
    def evaluation(self) -> FaceSet:
        """The images that evaluate candidates, of a division for a purpose that chooses."""
        assert self.apart is not None
        return self.apart


def divide_faces(settings: Quantisation, contract: Contract, purpose: Purpose) -> GivenFaces:
    """Divide the images of ``settings.data``, and say on stderr how many do what.

    - Images without labels, and what ``DATA:split`` names, are used whole. So is a labelled set without splits, but for
      its ``test`` part. Images apart from the ranges are what ``--calib-faces`` leaves over or, where that is too
      little, about a tenth is held back. Candidates are evaluated on half of a named split, or on the ``val`` part of a
      set without splits; answers to images without labels are compared on those held back.
    - Of other data the ``calib`` part sets the ranges, and ``val`` is apart. Where a calibration table ships for the
      very weights, the recipe's number of images is taken, so that the engine is the table's.

    Images that cannot be read are left out and counted.

    Raises:
        EdgeferError: test faces; no labels, or other classes than the network's, where candidates are evaluated; too
            few faces.
    """
    assert settings.data is not None  # Quantisation.check looked
    faces = settings.data if isinstance(settings.data, FaceSet) else open_dataset(settings.data)
    if faces.picked in ("test", "private"):
        whole = faces.origin.removesuffix(f":{faces.picked}")
        raise EdgeferError(
            f"{faces.origin} are test faces, and test faces set no ranges: what `bench` measures on them would be "
            "flattered",
            hint=f"--calib {whole}, without ':{faces.picked}', takes the part that calibrates; --calib {whole}:all "
            "takes every face, if nothing will be measured on these",
        )
    if purpose is Purpose.CHOICE:
        faces.require_labels("evaluation by accuracy (--auto, --max-drop)")
    if settings.per_class is not None:
        faces.require_labels("--per-class")
    try:
        return _divided(faces, settings, contract, purpose)
    except EdgeferError:
        readable = without_unreadable(faces)
        if not 0 < len(readable) < len(faces):
            raise
    faults = readable.faults[UNREADABLE]
    announce(
        f"note: {faces.origin}: {len(faults):,} of {number_of(len(faces), 'image')} cannot be read and "
        f"{as_many(len(faults), 'are left out')} ({'; '.join(faults[:2])}{'; …' * (len(faults) > 2)})"
    )
    return _divided(readable, settings, contract, purpose)


def _divided(faces: FaceSet, settings: Quantisation, contract: Contract, purpose: Purpose) -> GivenFaces:
    if faces.picked is None and faces.declared_parts is not None and faces.labelled:
        pool = faces.split("calib")
        ships = shipped_table(contract.architecture, contract.lineage.get("weights_sha256", "")) is not None
        ranges = _sample(pool, settings, contract, only_recipe=ships)
        found = GivenFaces(ranges, None if purpose is Purpose.TABLE else faces.split("val"))
    else:
        pool = faces if faces.picked is not None else faces.split("train")
        found = _of_pool(faces, pool, settings, contract, purpose)
    apart = found.apart
    if apart is None and purpose.chooses:
        raise EdgeferError(
            f"{pool.origin}: {found.reason}, and none is left to {purpose.value}",
            hint="give more images; `build-engine` with a --method of its own needs none apart",
        )
    if apart is not None and purpose.chooses and apart.labelled:
        apart = aligned(apart, contract.labels)
        if purpose is Purpose.CHOICE:
            check_classes("the network", contract.labels, apart.origin, apart.classes)
    elif apart is not None:
        apart = at_most(apart, MAX_APART)
    found = replace(found, apart=apart)
    for part in (found.ranges, apart):
        if part is not None:
            part.face_hashes()  # what cannot be read is found here
    _announce(pool, found, settings, purpose)
    return found


def _of_pool(faces: FaceSet, pool: FaceSet, settings: Quantisation, contract: Contract, purpose: Purpose) -> GivenFaces:
    """Divide ``pool``, all of ``faces`` that may be used."""
    if purpose is Purpose.TABLE:
        return GivenFaces(_sample(pool, settings, contract))
    if purpose.chooses and faces.labelled:
        if faces.picked is None:
            apart = faces.split("val")
            rest = pool.apart_from(apart)
        else:
            rest, apart = pool.held_back(len(pool) // 2)
        return GivenFaces(_sample(rest, settings, contract), apart)
    numbered = settings.faces is not None or settings.per_class is not None
    if numbered:
        ranges = _sample(pool, settings, contract)
        apart = pool.apart_from(ranges)
        if len(apart) >= MIN_APART:
            return GivenFaces(ranges, apart)
    count = min(MAX_APART, max(MIN_APART, round(HELD_BACK * len(pool))))
    rest, apart = pool.held_back(count if len(pool) >= FEW else 0)
    if len(apart) >= MIN_APART:
        if numbered:
            option = "--calib-faces" if settings.per_class is None else "--per-class"
            announce(
                f"note: {option} {settings.faces or settings.per_class:,} would leave fewer than {MIN_APART} of "
                f"{pool.origin}'s {len(pool):,} images to {purpose.value}: {len(apart):,} are held back first"
            )
        return GivenFaces(_sample(rest, settings, contract), apart)
    all_set = f"all {len(pool):,} images set" if len(pool) != 1 else "the only image sets"
    few = f"{all_set} the ranges, {FEW} or more are needed to hold {MIN_APART} back"
    alike = "too many images are near-duplicates of each other to hold some back"
    return GivenFaces(_sample(pool, settings, contract), None, few if len(pool) < FEW else alike)


def _sample(faces: FaceSet, settings: Quantisation, contract: Contract, *, only_recipe: bool = False) -> FaceSet:
    """The images that set ranges: as many as were asked for, else all, or the recipe's number."""
    recipe, count = settings.recipe(contract.architecture), len(faces)
    if settings.per_class is not None:
        count = sum(min(settings.per_class, there) for there in faces.per_class_counts().values())
    elif settings.faces is not None or only_recipe:
        count = min(recipe.faces, count)  # the number that was asked for is in it
    return faces.stratified(count, recipe.seed)


def at_most(faces: FaceSet, count: int) -> FaceSet:
    """``faces``, or a random sample of ``count`` of them, which is the same every time."""
    if len(faces) <= count:
        return faces
    return faces.subset(np.sort(np.random.default_rng(0).choice(len(faces), count, replace=False)))


def left_to_measure(faces: FaceSet, known: Collection[str]) -> int:
    """Number of distinct faces of the ``test`` part that `bench` could evaluate.

    Args:
        faces: a whole data set, or one opened as ``DATA:all``.
        known: hashes, or their beginnings, of faces that calibrated or chose: they and their near-duplicates are no
            such faces.
    """
    parts = faces.declared_parts if faces.declared_parts is not None else faces.redivided().declared_parts
    keys = faces.group_keys()
    met = keys[begin_as(faces.face_hashes(), known)]
    return len(np.unique(keys[(parts == TEST) & ~np.isin(keys, met)]))


def _announce(pool: FaceSet, found: GivenFaces, settings: Quantisation, purpose: Purpose) -> None:
    """One line on what the images do, and notes on what is unusual about them."""
    ranges, apart = found.ranges, found.apart
    set_them = as_many(len(ranges), "set the ranges")
    number = f"all {len(ranges):,} images" if len(ranges) > 1 else "the only image"
    if len(ranges) < len(pool):
        number = f"{len(ranges):,} of {len(pool):,} images"
    line = f"{pool.origin}: {number} {set_them}"
    if apart is not None:
        same = apart.origin == ranges.origin
        others = number_of(len(apart), "other") if same else f"{len(apart):,} of {apart.origin}"
        line += f", {others} {as_many(len(apart), purpose.value)}"
    announce(line)
    counts = ranges.per_class_counts()
    short = [f"{count:,} of {name}" for name, count in counts.items() if 0 < count < (settings.per_class or 0)]
    if short:
        announce(f"note: there are fewer than {settings.per_class} images of a class: {', '.join(short)}")
    if settings.faces is not None and len(pool) < settings.faces:
        announce(f"note: {settings.faces:,} images were asked for, and {pool.origin} has {len(pool):,}")
    if missing := [name for name, count in counts.items() if not count]:
        announce(f"note: {pool.origin} has no image of {', '.join(missing)}: the others set the ranges")
    if pool.picked == "all" and pool.labelled:
        announce(
            f"note: {pool.origin} includes the test part, and `bench` leaves out the faces that calibrate: without "
            "':all' no test face calibrates"
        )
