"""A folder a class, as RAF-DB, CK+ and AffectNet are unpacked: ``root/<class>/*`` or ``root/<split>/<class>/*``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefer.data import classes, splits
from edgefer.data.loaded import Loaded
from edgefer.data.rafdb import NUMBERS
from edgefer.data.sources import FileSource
from edgefer.errors import EdgeferError
from edgefer.progress import announce

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_LAYOUT = "lay it out as ROOT/<class>/*.jpg or ROOT/<split>/<class>/*.jpg (jpg, jpeg, png, bmp, webp)"


def load_folder(root: Path) -> Loaded:
    """List the images of a folder; they are decoded later.

    Raises:
        EdgeferError: no images, or a layout that mixes splits and classes.
    """
    children = _folders(root)
    part_of = {child: splits.part_named(child.name) for child in children}
    declared = [child for child in children if part_of[child] is not None]
    if declared and len(declared) < len(children):
        others = ", ".join(sorted(child.name for child in children if part_of[child] is None))
        raise EdgeferError(f"{root} has split folders and others beside them ({others})", hint=_LAYOUT)
    class_folders = [folder for child in declared for folder in _folders(child)] if declared else children
    titles = {folder.name for folder in class_folders}
    numbering = classes.order(titles)
    if titles == NUMBERS:
        announce(f"note: {root}: folders 1…7 are read as RAF-DB numbers them ({', '.join(classes.RAFDB)})")
    faults = _faults(class_folders)
    for what, names in faults.items():
        announce(f"note: {root}: {len(names):,} {what} left out ({', '.join(names[:3])}{', …' * (len(names) > 3)})")
    paths, labels, parts = [], [], []
    for folder in sorted(class_folders):
        images = _images(folder)
        paths += images
        labels += [numbering[folder.name][0]] * len(images)
        parts += [(part_of.get(folder.parent) if declared else None) or 0] * len(images)
    if not paths:
        raise EdgeferError(f"{root} has no images in class folders", hint=_LAYOUT)
    named = dict(numbering.values())
    return Loaded(
        FileSource(paths),
        np.asarray(labels, np.int64),
        tuple(named[label] for label in range(len(named))),
        splits.settle(np.asarray(parts, np.int8), str(root)) if declared else None,
        names=tuple(path.name for path in paths),
        faults=faults,
    )


def _faults(folders: list[Path]) -> dict[str, tuple[str, ...]]:
    """What class folders hold besides images: kind → paths."""
    found: dict[str, list[str]] = {}
    for path in (entry for folder in folders for entry in sorted(_entries(folder))):
        if path.is_dir():
            found.setdefault("folders inside class folders", []).append(str(path))
        elif not path.exists():
            found.setdefault("links that lead nowhere", []).append(str(path))
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            found.setdefault("files of no kind of image that is read", []).append(str(path))
    return {what: tuple(paths) for what, paths in found.items()}


def _folders(root: Path) -> list[Path]:
    return sorted(child for child in _entries(root) if child.is_dir())


def _images(folder: Path) -> list[Path]:
    return sorted(child for child in _entries(folder) if child.suffix.lower() in IMAGE_SUFFIXES and child.is_file())


def _entries(root: Path) -> list[Path]:
    try:
        return [child for child in root.iterdir() if not child.name.startswith((".", "__"))]
    except OSError as cause:
        raise EdgeferError(f"cannot list the folder {root}: {cause.strerror}", hint="check its permissions") from cause
