"""One argument, ``DATA`` or ``DATA:split``, opens every kind of data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgefer.data import splits
from edgefer.data.faceset import FaceSet
from edgefer.data.fer2013 import load_csv
from edgefer.data.ferplus import apply_votes
from edgefer.data.folder import load_folder
from edgefer.data.loaded import Loaded
from edgefer.data.npz import load_npz
from edgefer.errors import EdgeferError

_KINDS = "a FER2013 csv (or csv.gz), an npz with images and labels, or a folder of images, a class each"


def open_dataset(
    spec: str | os.PathLike[str],
    *,
    votes: str | os.PathLike[str] | None = None,
    exclude: str | os.PathLike[str] | None = None,
) -> FaceSet:
    """Open ``PATH`` or ``PATH:split``: csv, csv.gz, npz, or a folder with a folder a class.

    Args:
        spec: the path; ``:train``, ``:fit``, ``:val``, ``:calib``, ``:test``, ``:private`` or ``:all`` picks a split.
        votes: FER+'s ``fer2013new.csv``, or ``"npz"`` for the array ``ferplus_votes`` of the npz itself; the classes
            are then FER+'s eight.
        exclude: another data set, e.g. the test faces where they are in a file of their own: faces with the same pixels
            are left out of ``train``, ``fit``, ``val`` and ``calib``. (Within one data set that is done by itself.)

    Returns:
        The faces; images in files are decoded later, when they are asked for.

    Raises:
        EdgeferError: there is no such file, it is damaged or of no known kind, or it has no faces of that split.
    """
    path, split = _parse(os.fspath(spec))
    loaded = _reader(path)(path)
    if votes is not None:
        loaded = apply_votes(loaded, os.fspath(votes), str(path))
    faces = _faces(loaded, str(path))
    splits.announce_dropped(faces.origin, {}, faces.dropped)
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


def _reader(path: Path) -> Callable[[Path], Loaded]:
    if path.is_dir():
        return load_folder
    name = path.name.lower()
    if name.endswith(".npz"):
        return load_npz
    if name.endswith((".csv", ".csv.gz")):
        return load_csv
    raise EdgeferError(f"{path} is of no known kind", hint=f"pass {_KINDS}")


def _faces(loaded: Loaded, origin: str) -> FaceSet:
    kept = np.flatnonzero(loaded.labels >= 0)
    if not len(kept):
        raise EdgeferError(f"{origin} has no labelled face", hint=f"pass {_KINDS}")
    faces = FaceSet(
        loaded.source,
        loaded.labels[kept],
        loaded.classes,
        origin=origin,
        parts=None if loaded.parts is None else loaded.parts[kept],
        rows=kept,
        dropped=loaded.dropped,
    )
    faces.source_votes = loaded.votes
    return faces
