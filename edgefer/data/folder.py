"""Image files: a folder for each class (ROOT/<class>/*, ROOT/<split>/<class>/*), or without labels a folder or a list.

RAF-DB, CK+ and AffectNet are unpacked to a folder for each class. Images that lie in ROOT itself, or directly in split
folders, have no labels; so have those of a text file with one path per line, relative to the list.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefer.data import classes, splits
from edgefer.data.rafdb import NUMBERS
from edgefer.data.sources import FileSource, Loaded, is_file, opened, without_missing
from edgefer.errors import EdgeferError
from edgefer.progress import announce, as_many, number_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_LAYOUT = (
    "lay it out as ROOT/<class>/*.jpg or ROOT/<split>/<class>/*.jpg (jpg, jpeg, png, bmp, webp); without labels, as "
    "ROOT/*.jpg"
)


def is_list(path: Path) -> bool:
    """Whether it is called a text file."""
    return is_file(path, ".txt", ".lst")


def load_list(path: Path, *, root: Path | None = None, allow_missing: bool = False) -> Loaded:
    """List the images that a text file names, one path per line; they have no labels and are decoded later.

    Args:
        path: the list; blank lines and lines that begin with # are skipped.
        root: the folder that the paths are relative to; that of the list if None.
        allow_missing: leave out images that are not there.

    Raises:
        EdgeferError: it cannot be read, names no image, or images are missing.
    """
    with opened(path) as stream:
        try:
            lines = [line.strip() for line in stream.read().decode("utf-8-sig").splitlines()]
        except UnicodeDecodeError as cause:
            raise EdgeferError(f"{path} is not a text file", hint="write one path of an image per line") from cause
    base = path.parent if root is None else root
    paths = [base / line for line in lines if line and not line.startswith("#")]
    if not paths:
        raise EdgeferError(f"{path} names no image", hint="write one path per line, relative to the list")
    there, faults = without_missing(paths, np.zeros(len(paths), np.int64), str(path), allow_missing)
    found = [paths[row] for row in np.flatnonzero(there >= 0)]
    return Loaded.without_labels(FileSource(found), names=tuple(one.name for one in found), faults=faults)


def load_folder(root: Path) -> Loaded:
    """List the images of a folder; they are decoded later.

    Raises:
        EdgeferError: no images, or a layout that mixes splits and classes.
    """
    children = _folders(root)
    flat = _without_class_folders(root, children)
    if flat is not None:
        return flat
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
        announce(f"note: {root}: {what} left out: {len(names):,} ({', '.join(names[:3])}{', …' * (len(names) > 3)})")
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


def _without_class_folders(root: Path, children: list[Path]) -> Loaded | None:
    """The images that lie in ``root``, or in split folders, where there is no class folder; None where there is."""
    places = children if children and all(splits.part_named(child.name) is not None for child in children) else [root]
    folders = [child for place in places for child in _entries(place) if child.is_dir()]
    if any(path.suffix.lower() in IMAGE_SUFFIXES for folder in folders for path in _entries(folder)):
        return None
    entries = [(path, splits.part_named(place.name) or 0) for place in places for path in _entries(place)]
    entries = [(path, part) for path, part in entries if path not in folders]
    images = [(path, part) for path, part in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    known = set(images)
    if not images:
        return None
    unlabelled = f"its {number_of(len(images), 'image')} {as_many(len(images), 'have no labels')}"
    announce(f"note: {root}: no class folders: {unlabelled}")
    if folders:
        announce(f"note: {root}: folders without images are passed over: {', '.join(sorted(f.name for f in folders))}")
    faults: dict[str, tuple[str, ...]] = {}
    if others := tuple(str(path) for path, part in entries if (path, part) not in known):
        some = f"{len(others):,} of its {number_of(len(entries), 'file')} {as_many(len(others), 'are')}"
        announce(f"note: {root}: {some} not JPEG, PNG, BMP or WebP ({', '.join(others[:3])})")
        faults["files that are not JPEG, PNG, BMP or WebP"] = others
    parts = np.asarray([part for _, part in images], np.int8)
    return Loaded.without_labels(
        FileSource([path for path, _ in images]),
        None if places == [root] else splits.settle(parts, str(root)),
        names=tuple(path.name for path, _ in images),
        faults=faults,
    )


def _folders(root: Path) -> list[Path]:
    return [child for child in _entries(root) if child.is_dir()]


def _entries(root: Path) -> list[Path]:
    try:
        return sorted(child for child in root.iterdir() if not child.name.startswith((".", "__")))
    except OSError as cause:
        raise EdgeferError(f"cannot list the folder {root}: {cause.strerror}", hint="check its permissions") from cause
