"""A folder for each class, as RAF-DB, CK+ and AffectNet are unpacked: ROOT/<class>/* or ROOT/<split>/<class>/*."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefer.data import classes, splits
from edgefer.data.rafdb import NUMBERS
from edgefer.data.sources import FileSource, Loaded
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
    class_folders = sorted(folder for child in declared for folder in _folders(child)) if declared else children
    titles = {folder.name for folder in class_folders}
    numbering = classes.order(titles)
    if titles == NUMBERS:
        announce(f"note: {root}: folders 1…7 are read as RAF-DB numbers them ({', '.join(classes.RAFDB)})")
    paths: list[Path] = []
    labels, parts = [], []
    faults: dict[str, list[str]] = {}
    for folder in class_folders:
        for path in _entries(folder):
            if path.is_dir():
                faults.setdefault("folders inside class folders", []).append(str(path))
            elif not path.exists():
                faults.setdefault("links that lead nowhere", []).append(str(path))
            elif path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
                faults.setdefault("files that are not JPEG, PNG, BMP or WebP", []).append(str(path))
            else:
                paths.append(path)
                labels.append(numbering[folder.name][0])
                parts.append((part_of.get(folder.parent) if declared else None) or 0)
    for what, names in faults.items():
        announce(f"note: {root}: {len(names):,} {what} left out ({', '.join(names[:3])}{', …' * (len(names) > 3)})")
    if not paths:
        raise EdgeferError(f"{root} has no images in class folders", hint=_LAYOUT)
    named = dict(numbering.values())
    return Loaded(
        FileSource(paths),
        np.asarray(labels, np.int64),
        tuple(named[label] for label in range(len(named))),
        splits.settle(np.asarray(parts, np.int8), str(root)) if declared else None,
        names=tuple(path.name for path in paths),
        faults={what: tuple(names) for what, names in faults.items()},
    )


def _folders(root: Path) -> list[Path]:
    return [child for child in _entries(root) if child.is_dir()]


def _entries(root: Path) -> list[Path]:
    try:
        return sorted(child for child in root.iterdir() if not child.name.startswith((".", "__")))
    except OSError as cause:
        raise EdgeferError(f"cannot list the folder {root}: {cause.strerror}", hint="check its permissions") from cause
