"""Where faces come from: an array (in memory or memory-mapped), or image files that are decoded on demand."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import mmap
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.faces import crop
from edgefer.intake import decode_image, require_opencv
from edgefer.progress import announce, as_many, number_of, progress

Faces = NDArray[np.uint8]
Rows = NDArray[np.int64]
_LISTED = 5


class FaceSource(Protocol):
    """Faces that can be read by row number."""

    def __len__(self) -> int: ...

    def blocks(self, rows: Rows) -> Iterator[Faces]:
        """The faces of ``rows`` in order, uint8 N×H×W×C: all in one array, or each file as it is asked for."""

    def name(self, row: int) -> str:
        """The name of the face of ``row`` in messages."""


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
    """Image files, decoded when they are asked for: grey files to H×W×1, colour files to RGB H×W×3.

    ``boxes``, float64 N×4, are x, y, width and height of each image's face in pixels; None: the image is the face.

    Raises:
        EdgeferError: OpenCV is missing.
    """

    def __init__(self, paths: Sequence[Path], boxes: NDArray[np.float64] | None = None) -> None:
        require_opencv("reading image files")
        self.paths, self._boxes = tuple(paths), boxes

    def __len__(self) -> int:
        return len(self.paths)

    def blocks(self, rows: Rows) -> Iterator[Faces]:
        """Decode one file after the other, so that only one large image is held; sizes may differ.

        Raises:
            EdgeferError: a file cannot be read or decoded, or a box does not lie in its image.
        """
        for row in rows:
            image = read_image(self.paths[int(row)])
            if self._boxes is not None:
                x, y, width, height = (float(v) for v in self._boxes[int(row)])
                if min(x, y) < -1 or x + width > image.shape[1] + 1 or y + height > image.shape[0] + 1:
                    raise EdgeferError(
                        f"the face of {self.paths[int(row)]} is at x {x:g}, y {y:g}, {width:g}×{height:g} pixels, and "
                        f"the image has {image.shape[1]}×{image.shape[0]}",
                        hint="where the images were cut to their faces already, pass --no-boxes",
                    )
                image = np.ascontiguousarray(crop(image, (x, y, width, height)))
            yield image[None]

    def name(self, row: int) -> str:
        """Its file."""
        return str(self.paths[row])


def read_image(path: Path) -> Faces:
    """Decode one image file to uint8 H×W×1 (grey) or H×W×3 (RGB), turned as its EXIF orientation says.

    Raises:
        EdgeferError: OpenCV is missing, or the file is missing, empty, too large, or no image.
    """
    cv2 = require_opencv("reading image files")
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise EdgeferError(f"cannot read the image {path}: {cause.strerror or cause}") from cause
    decoded = decode_image(content, f"the image {path}", cv2.IMREAD_ANYCOLOR)
    face: Faces = decoded[..., None] if decoded.ndim == 2 else np.ascontiguousarray(decoded[..., ::-1])
    return face


def is_file(path: Path, *suffixes: str) -> bool:
    """Whether ``path`` is a file whose name ends in one of ``suffixes``, in capitals or not."""
    return path.name.lower().endswith(suffixes) and path.is_file()


def face_hash(face: Faces) -> str:
    """16 hexadecimal digits of the SHA-256 of a face's shape and pixels."""
    digest = hashlib.sha256(f"{face.shape}".encode())
    digest.update(np.ascontiguousarray(face).data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Loaded:
    """All rows of a source as a reader hands them over, before votes are joined and faces without a label left out.

    Attributes:
        labels: int64; −1 leaves the face out.
        classes: their names; without any, the source has no labels: all labels are −1, and every face stays.
        parts: indices into ``splits.DECLARED``, or None where the source declares no splits.
        votes: FER+ votes, N×10, where the source has them.
        names: file names, where the faces are files.
        dropped: reason → how many labels of −1 have it.
        faults: fault on disk → the files that have it.
    """

    source: FaceSource
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    parts: NDArray[np.int8] | None
    votes: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    faults: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def without_labels(cls, source: FaceSource, parts: NDArray[np.int8] | None = None, **more: Any) -> Loaded:
        """Faces that have no labels at all."""
        return cls(source, np.full(len(source), -1, np.int64), (), parts, **more)

    def kept(self) -> Rows:
        """The rows that are not left out."""
        return np.flatnonzero(self.labels >= 0) if self.classes else np.arange(len(self.labels))


def unlabelled(labels: NDArray[np.int64]) -> dict[str, int]:
    """The reason and count of faces that a source itself labels −1."""
    count = int((labels < 0).sum())
    return {"label −1": count} if count else {}


def without_missing(
    paths: Sequence[Path], labels: NDArray[np.int64], origin: str, allow_missing: bool
) -> tuple[NDArray[np.int64], dict[str, tuple[str, ...]]]:
    """Give −1 to faces whose files do not exist; files of faces that have no label are not looked for.

    Returns:
        The labels, and what is missing, for ``Loaded.faults``.

    Raises:
        EdgeferError: some are missing and ``allow_missing`` is False, or all are.
    """
    wanted = np.flatnonzero(labels >= 0)
    missing: list[int] = []
    with progress("looking for images", len(wanted)) as advance:
        for row in wanted.tolist():
            if not paths[row].is_file():
                missing.append(row)
            advance()
    if not missing:
        return labels, {}
    some = ", ".join(str(paths[row]) for row in missing[:_LISTED]) + (", …" if len(missing) > _LISTED else "")
    share = f"{len(missing):,} of {number_of(len(wanted), 'image')}"
    message = f"{origin}: {share} {as_many(len(missing), 'are')} missing on disk ({some})"
    if len(missing) == len(wanted):
        raise EdgeferError(message, hint="--root FOLDER says where the images lie that the list names")
    if not allow_missing:
        raise EdgeferError(message, hint="copy them, or pass --allow-missing to go on without them")
    announce(f"note: {message}; they are left out")
    labels = labels.copy()
    labels[missing] = -1
    return labels, {"image missing on disk": tuple(str(paths[row]) for row in missing)}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be gzipped; whatever goes wrong while it is read becomes an EdgeferError."""
    again = "copy or download it again"
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
        with cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb") as stream:
            yield stream
    except EOFError as cause:
        raise EdgeferError(f"{path} ends too soon: the gzip file is cut off", hint=again) from cause
    except (gzip.BadGzipFile, zlib.error) as cause:
        raise EdgeferError(f"{path} is a damaged gzip file ({cause})", hint=again) from cause
    except OSError as cause:
        hint = "check the path and its permissions"
        raise EdgeferError(f"cannot read {path}: {cause.strerror or cause}", hint=hint) from cause


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows of a csv that may be gzipped, without blank ones; each with its place for messages (file and line).

    Raises:
        EdgeferError: the file cannot be read, or is not text.
    """
    with opened(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        rows = csv.reader(text)
        try:
            yield from ((f"{path} line {rows.line_num}", row) for row in rows if row)
        except (UnicodeDecodeError, csv.Error) as cause:
            reason = "it is not a text file" if isinstance(cause, UnicodeDecodeError) else str(cause)
            raise EdgeferError(f"cannot read {path} as a csv: {reason}", hint="copy or unpack it again") from cause
