"""Lists that name image files: which of them are there, and cutting faces out of them as they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefer.data.sources import Faces, FileSource, Rows
from edgefer.errors import EdgeferError
from edgefer.faces import crop
from edgefer.progress import announce, progress

_LISTED = 5
MISSING = "image missing on disk"


class BoxedFileSource(FileSource):
    """Image files of which a box each is the face: float64 N×4, x, y, width, height in pixels."""

    def __init__(self, paths: Sequence[Path], boxes: NDArray[np.float64]) -> None:
        super().__init__(paths)
        self._boxes = boxes

    def blocks(self, rows: Rows) -> Iterator[Faces]:
        """Decode one file after the other and cut its box out.

        Raises:
            EdgeferError: as :class:`FileSource`; or a box does not lie in its image.
        """
        for row, (image,) in zip(rows, super().blocks(rows), strict=True):
            x, y, width, height = (float(v) for v in self._boxes[int(row)])
            if min(x, y) < -1 or x + width > image.shape[1] + 1 or y + height > image.shape[0] + 1:
                raise EdgeferError(
                    f"the face of {self.paths[int(row)]} is at x {x:g}, y {y:g}, {width:g}×{height:g} pixels, and the "
                    f"image has {image.shape[1]}×{image.shape[0]}",
                    hint="where the images were cut to their faces already, pass --no-boxes",
                )
            yield np.ascontiguousarray(crop(image, (x, y, width, height)))[None]


def present(paths: Sequence[Path], wanted: NDArray[np.bool_], origin: str, allow_missing: bool) -> NDArray[np.bool_]:
    """Which of ``paths`` are files, of those ``wanted``; the others are counted and the first are listed.

    Raises:
        EdgeferError: some are missing and ``allow_missing`` is False, or all are.
    """
    found = np.zeros(len(paths), np.bool_)
    with progress("looking for images", len(paths)) as advance:
        for row, path in enumerate(paths):
            found[row] = bool(wanted[row]) and os.path.isfile(path)
            advance()
    lacking = np.flatnonzero(wanted & ~found)
    if not len(lacking):
        return found
    some = ", ".join(str(paths[row]) for row in lacking[:_LISTED]) + (", …" if len(lacking) > _LISTED else "")
    message = f"{origin}: {len(lacking):,} of {int(wanted.sum()):,} images are missing on disk ({some})"
    if not found.any():
        raise EdgeferError(message, hint="--root FOLDER says where the images lie that the list names")
    if not allow_missing:
        raise EdgeferError(message, hint="copy them, or pass --allow-missing to go on without them")
    announce(f"note: {message}; they are left out")
    return found
