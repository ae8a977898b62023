"""Picture files and uploads to uint8 BGR, whatever depth, channels or turn they come with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import write_bytes
from edgefer.camera.opencv import MOST_PIXELS, Pixels, cv2
from edgefer.camera.pictureheader import read_header
from edgefer.errors import EdgeferError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


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


def decode_picture(content: bytes, name: str) -> Pixels:
    """Decode a JPEG, PNG, WebP, BMP, TIFF, …; ``name`` stands in messages.

    Turned upright by EXIF. 16-bit values are divided by 257, so that 65535 becomes 255; what is transparent shows
    white, as viewers do.

    Raises:
        EdgeferError: it is empty, no picture, damaged, too large, or neither 8 nor 16 bits deep.
    """
    if not content:
        raise EdgeferError(f"{name} is empty", hint="copy it again")
    header = read_header(content)
    if header is not None and header.width * header.height > MOST_PIXELS:
        raise EdgeferError(
            f"{name} has {header.width}×{header.height} pixels, more than {MOST_PIXELS / 1e6:g} million",
            hint="shrink it first: faces need no more than a few hundred pixels",
        )
    raw = np.frombuffer(content, np.uint8)
    try:
        if header is not None and header.kind == "JPEG":  # has a turn, and no transparency
            found = cv2.imdecode(raw, cv2.IMREAD_COLOR)
        else:
            found = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    except cv2.error as cause:  # larger than OpenCV itself allows
        raise EdgeferError(f"OpenCV refuses the size of {name}: {cause.err}", hint="shrink it first") from cause
    if found is None:
        what = (
            "cannot be decoded, it is damaged or cut short" if header else "is not a picture: " + _looks_like(content)
        )
        raise EdgeferError(f"{name} {what}", hint="give a JPEG, PNG, WebP, BMP or TIFF file")
    return to_bgr(found, name)


def to_bgr(found: NDArray[Any], name: str) -> Pixels:
    """Bring an array of OpenCV's into uint8 H×W×3.

    Raises:
        EdgeferError: it has no pixels, or another depth or number of channels.
    """
    if found.size == 0:
        raise EdgeferError(f"{name} has no pixels ({'×'.join(map(str, found.shape))})", hint="skip empty frames")
    if found.dtype == np.uint16:
        found = ((found.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if found.dtype != np.uint8 or found.ndim not in (2, 3):
        raise EdgeferError(
            f"{name} has {found.dtype} values of shape {'×'.join(map(str, found.shape))}",
            hint="pictures have 8 or 16 bits a channel: convert it first",
        )
    channels = 1 if found.ndim == 2 else found.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(found, cv2.COLOR_GRAY2BGR))
    if channels == 3:
        return found
    if channels == 4:
        colour, alpha = found[:, :, :3].astype(np.uint32), found[:, :, 3:].astype(np.uint32)
        return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    raise EdgeferError(f"{name} has {channels} channels", hint="pictures have 1, 3 or 4: convert it first")


def encode_jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    """``pixels`` as JPEG."""
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def write_picture(path: str | os.PathLike[str], pixels: Pixels) -> None:
    """Write ``pixels`` in the format of the suffix, whole or not at all."""
    write_bytes(path, bytes(cv2.imencode(Path(path).suffix, pixels)[1]))


def _looks_like(content: bytes) -> str:
    text = content[:24].decode("utf-8", errors="replace").rstrip("\ufffd")  # the last character may be cut in two
    if text and all(character.isprintable() or character.isspace() for character in text.replace("\ufffd", "\0")):
        return f"it begins with the text {text.splitlines()[0]!r}"
    if content[4:8] == b"ftyp":  # ISO/IEC 14496-12, 4.3
        return f"it is a {content[8:12].decode('ascii', 'replace').strip()} file, which OpenCV does not read"
    return f"it begins with the bytes {content[:4].hex(' ')}"
