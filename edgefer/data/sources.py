"""Where faces come from: an array (in memory or memory-mapped), or image files that are decoded on demand."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.intake import decode_image, opencv

Faces = NDArray[np.uint8]
Rows = NDArray[np.int64]


class Source(Protocol):
    """Faces that can be read by row number."""

    def __len__(self) -> int: ...

    def blocks(self, rows: Rows) -> Iterator[Faces]:
        """The faces of ``rows`` in order, uint8 N×H×W×C: all in one array, or each file as it is asked for."""

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

    def blocks(self, rows: Rows) -> Iterator[Faces]:
        """One block; consecutive rows are a view and cost no copy."""
        consecutive = len(rows) and rows[-1] - rows[0] + 1 == len(rows) and bool(np.all(np.diff(rows) == 1))
        yield self._images[int(rows[0]) : int(rows[-1]) + 1] if consecutive else self._images[rows]

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

    def blocks(self, rows: Rows) -> Iterator[Faces]:
        """Decode one file after the other, so that only one large image is held; sizes may differ.

        Raises:
            EdgeferError: OpenCV is missing, or a file cannot be read or decoded.
        """
        for row in rows:
            yield read_image(self.paths[int(row)])[None]

    def name(self, row: int) -> str:
        """Its file."""
        return str(self.paths[row])


def read_image(path: Path) -> Faces:
    """Decode one image file to uint8 H×W×1 (grey) or H×W×3 (RGB), turned as its EXIF orientation says.

    Raises:
        EdgeferError: OpenCV is missing, or the file is missing, empty, too large, or no image.
    """
    cv2 = opencv("reading image files")
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise EdgeferError(f"cannot read the image {path}: {cause.strerror or cause}") from cause
    decoded = decode_image(content, f"the image {path}", cv2.IMREAD_ANYCOLOR)
    face: Faces = decoded[..., None] if decoded.ndim == 2 else np.ascontiguousarray(decoded[..., ::-1])
    return face


def face_hash(face: Faces) -> str:
    """16 hexadecimal digits of the SHA-256 of a face's shape and pixels."""
    digest = hashlib.sha256(f"{face.shape}".encode())
    digest.update(np.ascontiguousarray(face).data)
    return digest.hexdigest()[:16]
