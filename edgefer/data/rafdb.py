"""RAF-DB (Li, Deng and Du, CVPR 2017): as it is distributed, a list of labels beside a folder of aligned faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefer.data import splits
from edgefer.data.classes import FER2013, RAFDB
from edgefer.data.sources import FileSource, Loaded, opened, without_missing
from edgefer.errors import EdgeferError

LIST = "list_patition_label.txt"  # so spelt by its authors
_PLACES = (LIST, f"EmoLabel/{LIST}", f"basic/EmoLabel/{LIST}")
_FACES = ("Image/aligned", "aligned")
_HINT = f"RAF-DB is EmoLabel/{LIST} with lines such as 'train_00001.jpg 5', and Image/aligned/train_00001_aligned.jpg"

NUMBERS = frozenset(str(number) for number in range(1, len(RAFDB) + 1))
"""Names of class folders that are RAF-DB's numbering: 1 surprise, 2 fear, … 7 neutral."""


def is_rafdb(path: Path) -> bool:
    """Whether RAF-DB's list of labels is below the folder ``path``."""
    return _list_below(path) is not None


def load_rafdb(path: Path, *, root: Path | None = None, allow_missing: bool = False) -> Loaded:
    """List the aligned faces of RAF-DB; they are decoded later. Classes come in FER2013's order.

    Args:
        path: the folder that has the list of labels.
        root: folder of the aligned faces; looked for beside the list if None.
        allow_missing: leave out images that are not there.

    Raises:
        EdgeferError: a line is malformed (says which), or images are missing.
    """
    listing = _list_below(path)
    if listing is None:
        raise EdgeferError(f"{path} has no {LIST}", hint=_HINT)
    names, labels, parts = [], [], []
    with opened(listing) as stream:
        lines = stream.read().decode("utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        part = splits.part_named(words[0].split("_")[0])
        if len(words) != 2 or words[1] not in NUMBERS or part is None:
            raise EdgeferError(f"{listing} line {number}: '{line.strip()[:60]}' is no image and label", hint=_HINT)
        names.append(words[0])
        labels.append(FER2013.index(RAFDB[int(words[1]) - 1]))
        parts.append(part)
    if not names:
        raise EdgeferError(f"{listing} has no lines", hint=_HINT)
    aligned = root or _aligned(listing)
    paths = [aligned / f"{Path(name).stem}_aligned{Path(name).suffix}" for name in names]
    numbers, missing = without_missing(paths, np.asarray(labels, np.int64), str(path), allow_missing)
    return Loaded(
        FileSource(paths),
        numbers,
        FER2013,
        np.asarray(parts, np.int8),
        names=tuple(file.name for file in paths),
        dropped={what: len(files) for what, files in missing.items()},
        faults=missing,
    )


def _list_below(folder: Path) -> Path | None:
    return next((folder / place for place in _PLACES if (folder / place).is_file()), None)


def _aligned(listing: Path) -> Path:
    for base in (listing.parent, listing.parent.parent):
        for place in _FACES:
            if (base / place).is_dir():
                return base / place
    return listing.parent.parent / _FACES[0]
