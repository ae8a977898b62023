"""Where faces come from: an array (in memory or memory-mapped), or image files that are decoded on demand."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError, require

Faces = NDArray[np.uint8]
Rows = NDArray[np.int64]


class Source(Protocol):
    """Faces that can be read by row number."""

    def __len__(self) -> int: ...

    def read(self, rows: Rows) -> Sequence[Faces] | Faces:
        """The faces of ``rows``: uint8 H×W×C each, as one N×H×W×C array where all share a size."""

    def name(self, row: int) -> str:
        """What messages call the face of ``row``."""


class ArraySource:
    """Faces in one uint8 array, N×H×W or N×H×W×C with C = 1 (grey) or 3 (RGB); a memory map stays one."""

    def __init__(self, images: Faces) -> None:
        self._images = images[..., None] if images.ndim == 3 else images

    def __len__(self) -> int:
        return len(self._images)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """For another process: a memory map travels as the place of its bytes in the file, not as the bytes."""
        images = self._images
        if isinstance(images, np.memmap) and images.filename is not None and images.flags.c_contiguous:
            return _mapped, (str(images.filename), _file_offset(images), images.shape)
        return ArraySource, (np.asarray(images),)

    def read(self, rows: Rows) -> Faces:
        """The faces of ``rows``, uint8 N×H×W×C; consecutive rows are a view and cost no copy."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and bool(np.all(np.diff(rows) == 1)):
            return self._images[int(rows[0]) : int(rows[-1]) + 1]
        return self._images[rows]

    def name(self, row: int) -> str:
        """Its number, from 0."""
        return f"image {row}"


def _file_offset(images: np.memmap[Any, Any]) -> int:
    """Where in its file a map's first byte lies; ``offset`` tells that of the map it is a part of."""
    whole: Any = images._mmap  # type: ignore[attr-defined]  # the mmap object has no public name
    start = images.offset - images.offset % mmap.ALLOCATIONGRANULARITY
    return int(start + images.ctypes.data - np.frombuffer(whole, np.uint8).ctypes.data)


def _mapped(path: str, offset: int, shape: tuple[int, ...]) -> ArraySource:
    return ArraySource(np.memmap(path, np.uint8, mode="r", offset=offset, shape=shape))


class FileSource:
    """Image files, decoded when they are asked for: grey files to H×W×1, colour files to RGB H×W×3."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Rows) -> list[Faces]:
        """Decode the files of ``rows``; sizes may differ.

        Raises:
            EdgeferError: OpenCV is missing, or a file cannot be read or decoded.
        """
        return [read_image(self.paths[int(row)]) for row in rows]

    def name(self, row: int) -> str:
        """Its file."""
        return str(self.paths[row])


def read_image(path: Path) -> Faces:
    """Decode one image file to uint8 H×W×1 (grey) or H×W×3 (RGB), turned as its EXIF orientation says.

    Raises:
        EdgeferError: OpenCV is missing, or the file is missing, empty, or no image.
    """
    cv2 = require("cv2", "camera", "reading image files")
    try:
        encoded = np.fromfile(path, dtype=np.uint8)  # imread fails on names outside the system's code page
    except OSError as cause:
        raise EdgeferError(f"cannot read the image {path}: {cause.strerror or cause}") from cause
    if not len(encoded):
        raise EdgeferError(f"the image {path} is empty (0 bytes)", hint="delete it or copy it again")
    decoded = cv2.imdecode(encoded, cv2.IMREAD_ANYCOLOR)
    if decoded is None or decoded.size == 0:
        raise EdgeferError(
            f"the image {path} cannot be decoded ({len(encoded)} bytes)", hint="it is damaged or no image: delete it"
        )
    face: Faces = decoded[..., None] if decoded.ndim == 2 else np.ascontiguousarray(decoded[..., ::-1])
    return face


def face_hash(face: Faces) -> str:
    """16 hexadecimal digits of the SHA-256 of a face's shape and pixels."""
    return hashlib.sha256(f"{face.shape}".encode() + face.tobytes()).hexdigest()[:16]
