"""OpenCV, and picture files and uploads as uint8 BGR, whatever depth, channels or orientation they come with.

Pictures are uint8 H×W×3 in OpenCV's order (blue, green, red) everywhere in this package; faces are turned to the
contract's channels when they are cut out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import write_bytes
from edgefer.errors import EdgeferError
from edgefer.intake import decode_image, require_opencv
from edgefer.progress import announce

Pixels = NDArray[np.uint8]
"""uint8 H×W×3, BGR."""

# It and its decoders write "moov atom not found" and the like to stderr; what a file lacks is said by our errors.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

cv2: Any = require_opencv("reading pictures and cameras")


SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

_BAND_PIXELS = 1 << 18  # converted at once: what a large picture takes besides itself stays small


def read_picture(path: str | os.PathLike[str]) -> Pixels:
    """Read one file.

    Raises:
        EdgeferError: there is no such file, it is empty, or :func:`decode_picture` refuses it.
    """
    file = Path(path)
    try:
        content = file.read_bytes()
    except OSError as cause:
        raise EdgeferError(f"cannot read {file}: {cause.strerror}", hint="check the path") from cause
    return decode_picture(content, str(file))


def pictures_of(paths: Iterable[Path], leave_out: Path | None = None) -> list[Path]:
    """``paths`` with each folder replaced by the pictures in and below it, in the order of their names.

    What is found in a folder is announced; hidden files, and the folder ``leave_out``, are passed over.

    Raises:
        EdgeferError: a folder has no pictures.
    """
    found: list[Path] = []
    skipped = None if leave_out is None else leave_out.resolve()
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        pictures: list[Path] = []
        others = 0
        for folder, inner, names in os.walk(path, followlinks=False):
            inner[:] = sorted(n for n in inner if not n.startswith(".") and Path(folder, n).resolve() != skipped)
            files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
            chosen = [file for file in files if file.suffix.lower() in SUFFIXES]
            pictures += chosen
            others += len(files) - len(chosen)
        if not pictures:
            raise EdgeferError(f"the folder {path} has no pictures", hint=f"it is searched for {' '.join(SUFFIXES)}")
        left = f" ({others:,} other file{'s' if others != 1 else ''} left out)" if others else ""
        announce(f"{path}: {len(pictures):,} picture{'s' if len(pictures) != 1 else ''}{left}")
        found += pictures
    return found


def decode_picture(content: bytes, name: str) -> Pixels:
    """Decode a JPEG, PNG, WebP, BMP, TIFF, …; ``name`` stands in messages.

    The EXIF orientation is applied. 16-bit values are divided by 257, so that 65535 becomes 255; what is transparent
    shows white, as viewers do.

    Raises:
        EdgeferError: it is empty, no picture, damaged, too large, or neither 8 nor 16 bits deep.
    """
    return to_bgr(decode_image(content, name), name)


def to_bgr(found: NDArray[Any], name: str) -> Pixels:
    """Bring an array of OpenCV's into uint8 H×W×3.

    Raises:
        EdgeferError: it has no pixels, or another depth or number of channels.
    """
    shape = "×".join(map(str, found.shape))
    if found.size == 0:
        raise EdgeferError(f"{name} has no pixels ({shape})", hint="skip empty frames")
    if found.dtype not in (np.uint8, np.uint16) or found.ndim not in (2, 3):
        raise EdgeferError(
            f"{name} has {found.dtype} values of shape {shape}",
            hint="pictures have 8 or 16 bits per channel: convert it first",
        )
    channels = 1 if found.ndim == 2 else found.shape[2]
    if channels not in (1, 3, 4):
        raise EdgeferError(f"{name} has {channels} channels", hint="pictures have 1, 3 or 4: convert it first")
    if channels == 3 and found.dtype == np.uint8:
        return found
    pixels = np.empty((*found.shape[:2], 3), np.uint8)
    rows = max(1, _BAND_PIXELS // found.shape[1])
    for top in range(0, len(found), rows):
        pixels[top : top + rows] = _band(found[top : top + rows], channels)
    return pixels


def _band(found: NDArray[Any], channels: int) -> Pixels:
    if found.dtype == np.uint16:
        found = ((found.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if channels == 1:
        return np.asarray(cv2.cvtColor(found, cv2.COLOR_GRAY2BGR))
    if channels == 3:
        return found
    colour, alpha = found[:, :, :3].astype(np.uint16), found[:, :, 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)  # at most 65,152: no overflow


def encode_jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    """``pixels`` as JPEG."""
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def write_picture(path: str | os.PathLike[str], pixels: Pixels) -> None:
    """Write ``pixels`` in the format of the suffix, whole or not at all."""
    write_bytes(path, bytes(cv2.imencode(Path(path).suffix, pixels)[1]))


def shrunk(pixels: Any, width: int, height: int) -> Any:
    """``pixels`` at a smaller size: averaged where much smaller, else interpolated, which takes a sixth of the time."""
    much = 2 * height <= pixels.shape[0]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if much else cv2.INTER_LINEAR)
