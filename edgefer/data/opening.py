"""One argument, ``DATA`` or ``DATA:split``, opens every kind of data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgefer.data import splits
from edgefer.data.affectnet import is_affectnet, load_affectnet
from edgefer.data.classes import relabel
from edgefer.data.faceset import FaceSet
from edgefer.data.fer2013 import load_csv
from edgefer.data.ferplus import apply_votes, distribution
from edgefer.data.folder import load_folder
from edgefer.data.inspection import without_unreadable
from edgefer.data.npz import load_npz
from edgefer.data.rafdb import find_list, load_rafdb
from edgefer.data.sources import Loaded
from edgefer.errors import EdgeferError

_KINDS = "a FER2013 csv (or csv.gz), AffectNet's csv, an npz with images and labels, or a folder of images by class"


@dataclass(frozen=True)
class ReadSettings:
    """How a data set is read.

    Attributes:
        classes: of an AffectNet csv: ``affectnet7``, ``affectnet8`` (if None) or ``affectnet9``.
        root: the folder of the images that a list (AffectNet's or RAF-DB's) names, if not beside the list.
        allow_missing: leave out images that such a list names and that do not exist.
        boxes: cut the faces of an AffectNet csv out of their images.
        relabelling: class → class, or ``""`` to leave its faces out; see :func:`edgefer.data.classes.relabel`.
    """

    classes: str | None = None
    root: str | os.PathLike[str] | None = None
    allow_missing: bool = False
    boxes: bool = True
    relabelling: Mapping[str, str] = field(default_factory=dict)


def open_dataset(
    spec: str | os.PathLike[str],
    *,
    votes: str | os.PathLike[str] | None = None,
    own_labels: bool = False,
    exclude: str | os.PathLike[str] | None = None,
    reading: ReadSettings | None = None,
    inspecting: bool = False,
) -> FaceSet:
    """Open ``PATH`` or ``PATH:split``: csv, csv.gz, npz, or a folder with a folder for each class (or RAF-DB's list).

    Args:
        spec: the path; ``:train``, ``:fit``, ``:val``, ``:calib``, ``:test``, ``:private`` or ``:all`` picks a split.
        votes: FER+'s ``fer2013new.csv``, or ``"npz"`` for the array ``ferplus_votes`` of the npz itself; the classes
            are then FER+'s eight, and ``.soft`` has the shares of the votes.
        own_labels: keep the data's own labels and classes beside the votes, which are then for ``.soft`` alone.
        exclude: another data set, e.g. the test faces where they are in a file of their own: faces with the same pixels
            are left out of ``train``, ``fit``, ``val`` and ``calib``. (Within one data set this is automatic.)
        reading: how the files are read; the defaults of :class:`ReadSettings` if None.
        inspecting: open even a faulty data set, to report its faults: images that a list names and that are missing are
            left out, and those that cannot be read before a split is picked; ``.faults`` lists both.

    Returns:
        The faces; images in files are decoded later, when they are asked for.

    Raises:
        EdgeferError: there is no such file, it is damaged or of no known kind, it has no faces of that split, or a
            setting has no effect with its kind.
    """
    path, split = _parse(os.fspath(spec))
    reading = reading or ReadSettings()
    loaded = _read(path, reading, inspecting)
    if votes is not None:
        loaded = apply_votes(loaded, os.fspath(votes), str(path), own_labels)
    faces = _faces(loaded, str(path))
    faces.voted = votes is not None and not own_labels
    if reading.relabelling:
        faces = relabel(faces, None, reading.relabelling)
    splits.announce_dropped(faces.origin, {}, faces.dropped)
    if inspecting and split is not None:
        faces = without_unreadable(faces)
    if exclude is not None:
        faces = faces.keeping_out(open_dataset(exclude))
    return faces if split is None else faces.split(split)


def _parse(spec: str) -> tuple[Path, str | None]:
    if Path(spec).exists():
        return Path(spec), None
    head, colon, tail = spec.rpartition(":")
    if colon and (tail in splits.NAMES or Path(head).exists()):
        splits.check_name(tail)
        spec = head
    if not Path(spec).exists():
        raise EdgeferError(f"there is no data set {spec}", hint=f"pass {_KINDS}")
    return Path(spec), tail if colon else None


def _read(path: Path, reading: ReadSettings, inspecting: bool) -> Loaded:
    """Read ``path`` with the reader of its kind, and refuse settings that have no effect with it."""
    root = None if reading.root is None else Path(reading.root)
    allow_missing = reading.allow_missing or inspecting
    csv = path.name.lower().endswith((".csv", ".csv.gz")) and path.is_file()
    if csv and is_affectnet(path):
        return load_affectnet(path, scheme=reading.classes, root=root, allow_missing=allow_missing, boxes=reading.boxes)
    _refuse({"--classes": reading.classes is not None, "--no-boxes": not reading.boxes}, path, "an AffectNet csv")
    if path.is_dir() and find_list(path) is not None:
        return load_rafdb(path, folder=root, allow_missing=allow_missing)
    _refuse({"--root": root is not None, "--allow-missing": reading.allow_missing}, path, "a list of images")
    if path.is_dir():
        return load_folder(path)
    if path.name.lower().endswith(".npz"):
        return load_npz(path)
    if csv:
        return load_csv(path)
    raise EdgeferError(f"{path} is of no known kind", hint=f"pass {_KINDS}")


def _refuse(given: Mapping[str, bool], path: Path, kind: str) -> None:
    names = [name for name, is_given in given.items() if is_given]
    if names:
        hint = "leave it out"
        if "--classes" in names and path.is_dir():
            hint += ": the classes of a folder are its folders, which --map OLD=NEW renames"
        effect = "has no effect" if len(names) == 1 else "have no effect"
        raise EdgeferError(f"{' and '.join(names)} {effect} with {path}, which is not {kind}", hint=hint)


def _faces(loaded: Loaded, origin: str) -> FaceSet:
    kept = np.flatnonzero(loaded.labels >= 0)
    if not len(kept):
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in loaded.dropped.items())
        raise EdgeferError(
            f"{origin} has no labelled face" + (f": all were left out: {reasons}" if reasons else ""),
            hint="choose other classes or labels" if reasons else f"pass {_KINDS}",
        )
    faces = FaceSet(
        loaded.source,
        loaded.labels[kept],
        loaded.classes,
        origin=origin,
        parts=None if loaded.parts is None else loaded.parts[kept],
        rows=kept,
        dropped=loaded.dropped,
    )
    faces.faults = dict(loaded.faults)
    if loaded.votes is not None:
        faces.soft = distribution(loaded.votes[kept], faces.labels, faces.classes)
    return faces
