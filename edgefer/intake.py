"""What comes from outside: budgets before anything is decoded, and one boundary around every reader.

A file of two kilobytes can hold fifty million pixels, or a gigabyte of zeros. What an image or an archive will take in
memory is known from its headers, so it is refused before a decoder allocates it. Whatever a library raises in
:func:`reading` becomes one error of one line. OpenCV is imported here, with the same limit on pixels behind ours.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError, one_line, require
from edgefer.memory import available_memory

MAX_PIXELS = 50_000_000
"""Maximum number of pixels of an image; phones have 12 to 48 million."""

MAX_DECODED_BYTES = 200_000_000
"""Pixels × channels × bytes per sample: 50 million pixels with transparency, or 25 million of those with 16 bits."""

MAX_JSON_BYTES = 256 << 20
"""Maximum size of a JSON document; reports with 100,000 faces have some megabytes."""
MAX_ARCHIVE_MEMBERS = 100_000
"""Maximum number of files in an archive."""
_MEMORY_SHARE = 0.5
"""Share of the free memory that one thing from outside may take."""

_SHRINK = "shrink it first: faces need no more than a few hundred pixels"


@dataclass(frozen=True)
class ImageHeader:
    """What an image will be once it is decoded: width and height in pixels, ``bits`` per sample.

    Attributes:
        kind: ``JPEG``, ``PNG``, ``WebP``, ``GIF``, ``BMP``, ``TIFF`` or ``PNM``.
    """

    kind: str
    width: int
    height: int
    channels: int = 3
    bits: int = 8

    @property
    def decoded_bytes(self) -> int:
        """Size of the array that OpenCV decodes it into."""
        return self.width * self.height * self.channels * -(-self.bits // 8)


def cache_folder() -> Path:
    """Where files are kept that can be made or fetched again: ``$XDG_CACHE_HOME/edgefer`` or ``~/.cache/edgefer``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "edgefer"


def require_opencv(purpose: str) -> Any:
    """The module ``cv2``, with a limit on pixels that holds for every format; ``purpose`` as for ``require``.

    Raises:
        EdgeferError: it is not installed.
    """
    # OpenCV reads this when it is imported, and allocates by default what a header claims, up to 2³⁰ pixels.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    cv2 = require("cv2", "camera", purpose)
    if hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):  # older system packages lack it
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # faults are told by whoever decodes
    return cv2


def decode_image(content: bytes, name: str, flags: int | None = None) -> NDArray[Any]:
    """Decode an image with OpenCV: H×W or H×W×channels, BGR, of the file's own depth unless ``flags`` say otherwise.

    Args:
        content: the file.
        name: its name in messages.
        flags: flags of ``cv2.imdecode``; None decodes a JPEG to upright BGR and anything else unchanged.

    Raises:
        EdgeferError: OpenCV is missing; the image is empty, too large, damaged, or no image.
    """
    cv2 = require_opencv("reading images")
    if not content:
        raise EdgeferError(f"{name} is empty", hint="copy it again")
    header = image_header(content)
    if header is not None:
        check_size(header, name)
    if flags is None:  # a JPEG has an orientation, and no transparency
        flags = cv2.IMREAD_COLOR if header is not None and header.kind == "JPEG" else cv2.IMREAD_UNCHANGED
    try:
        found: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as cause:  # a format whose header is not read here, larger than OpenCV allows
        raise EdgeferError(f"OpenCV refuses to decode {name}: {cause.err}", hint=_SHRINK) from cause
    if found is None or found.size == 0:
        what = "cannot be decoded, it is damaged or cut short" if header else f"is not an image: {_looks_like(content)}"
        raise EdgeferError(f"{name} {what}", hint="give a JPEG, PNG, WebP, BMP or TIFF file")
    return found


def check_size(header: ImageHeader, name: str) -> None:
    """Refuse what would take too much memory.

    Raises:
        EdgeferError: more than MAX_PIXELS, or than MAX_DECODED_BYTES.
    """
    size = f"{name} has {header.width}×{header.height} pixels"
    if header.width * header.height > MAX_PIXELS:
        raise EdgeferError(f"{size}, more than {MAX_PIXELS / 1e6:g} million", hint=_SHRINK)
    if header.decoded_bytes > MAX_DECODED_BYTES:
        raise EdgeferError(
            f"{size} of {header.channels} × {header.bits} bits, which take {header.decoded_bytes / 1e6:.0f} MB: "
            f"at most {MAX_DECODED_BYTES / 1e6:g} MB are decoded",
            hint=_SHRINK,
        )


def image_header(content: bytes) -> ImageHeader | None:
    """The header of an image, from its first bytes; None if its kind is unknown, or it is cut short before its size."""
    parsers: dict[bytes, Callable[[bytes], ImageHeader | None]] = {
        b"\x89PNG\r\n\x1a\n": _png,
        b"\xff\xd8": _jpeg,
        b"RIFF": _webp,
        b"GIF8": _gif,
        b"BM": _bmp,
        b"II*\0": _tiff,
        b"MM\0*": _tiff,
        b"P": _pnm,
    }
    try:
        return next((parse(content) for magic, parse in parsers.items() if content.startswith(magic)), None)
    except (struct.error, IndexError):
        return None  # cut short


def _png(content: bytes) -> ImageHeader:
    width, height, bits, colour = struct.unpack(">IIBB", content[16:26])
    channels = {0: 1, 2: 3}.get(colour, 4)  # of a palette too: it may have transparency
    return ImageHeader("PNG", width, height, channels, max(bits, 8))


def _gif(content: bytes) -> ImageHeader:
    width, height = struct.unpack("<HH", content[6:10])
    return ImageHeader("GIF", width, height, 4)


def _bmp(content: bytes) -> ImageHeader:
    old = struct.unpack("<I", content[14:18])[0] == 12  # BITMAPCOREHEADER
    width, height, _, bits = struct.unpack("<HHHH" if old else "<iiHH", content[18 : 26 if old else 30])
    return ImageHeader("BMP", abs(width), abs(height), 4 if bits == 32 else 3)


def _pnm(content: bytes) -> ImageHeader | None:
    found = re.match(rb"P([1-6])\s(?:\s|#[^\n]*\n)*(\d+)\s+(\d+)\s+(\d+)?", content[:1000])
    if found is None:
        return None
    kind, width, height, maximum = (int(part or 0) for part in found.groups())
    return ImageHeader(
        "PNM", width, height, 3 if kind in (3, 6) else 1, 16 if kind not in (1, 4) and maximum > 255 else 8
    )


def _jpeg(content: bytes) -> ImageHeader | None:
    """Walk the segments to the first frame header, SOF0 to SOF15 (ITU-T T.81, B.1.1.3)."""
    at = 2
    while True:
        while content[at] != 0xFF:
            at += 1
        while content[at] == 0xFF:
            at += 1
        marker = content[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 3 : at + 7])
            return ImageHeader("JPEG", width, height)
        if marker == 0xDA:
            return None  # the image's data, before any size
        if not (0xD0 <= marker <= 0xD8 or marker == 0x01):
            at += struct.unpack(">H", content[at : at + 2])[0]


def _webp(content: bytes) -> ImageHeader | None:
    """The three kinds of WebP (RFC 9649, section 2)."""
    kind, data = content[12:16], content[20:30]
    if content[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (4, 7))
        return ImageHeader("WebP", width, height, 4 if data[0] & 0x10 else 3)
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[1:5])[0]
        return ImageHeader("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 4 if bits >> 28 & 1 else 3)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[6:10])
        return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF)
    return None


def _tiff(content: bytes) -> ImageHeader | None:
    """The first directory's ImageWidth, ImageLength, BitsPerSample and SamplesPerPixel (TIFF 6.0, section 2)."""
    order = "<" if content[:2] == b"II" else ">"
    start = struct.unpack(f"{order}I", content[4:8])[0]
    found = {258: 1, 277: 1}  # the defaults
    for entry in range(struct.unpack(f"{order}H", content[start : start + 2])[0]):
        at = start + 2 + 12 * entry
        tag, kind, count = struct.unpack(f"{order}HHI", content[at : at + 8])
        if tag in (256, 257, 258, 277) and kind in (3, 4):
            if kind == 3 and count > 2:  # more shorts than fit: they lie elsewhere
                at = struct.unpack(f"{order}I", content[at + 8 : at + 12])[0] - 8
            size = 2 if kind == 3 else 4
            found[tag] = struct.unpack(order + "HI"[kind - 3], content[at + 8 : at + 8 + size])[0]
    if 256 not in found or 257 not in found:
        return None
    channels = found[277] if found[277] in (1, 3) else 4
    return ImageHeader("TIFF", found[256], found[257], channels, max(found[258], 8))


def _looks_like(content: bytes) -> str:
    text = content[:24].decode("utf-8", errors="replace").rstrip("\ufffd")  # the last character may be cut in two
    if text and all(character.isprintable() or character.isspace() for character in text.replace("\ufffd", "\0")):
        return f"it begins with the text {text.splitlines()[0]!r}"
    if content[4:8] == b"ftyp":  # ISO/IEC 14496-12, 4.3
        return f"it is a {content[8:12].decode('ascii', 'replace').strip()} file, which OpenCV does not read"
    return f"it begins with the bytes {content[:4].hex(' ')}"


def read_toml(file: Path, what: str, hint: str) -> dict[str, Any]:
    """The content of a TOML file; ``what`` it should be, and the ``hint``, are for errors.

    Raises:
        EdgeferError: no such file, it cannot be read, is not text, or is not TOML.
    """
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as cause:
        raise EdgeferError(f"there is no {what} {file}", hint=hint) from cause
    except OSError as cause:
        raise EdgeferError(f"cannot read the {what} {file}: {cause.strerror}", hint=hint) from cause
    except UnicodeDecodeError as cause:
        raise EdgeferError(f"{file} is no {what}: it is not a text file", hint=hint) from cause
    except toml.TOMLDecodeError as cause:
        raise EdgeferError(f"{file} is not TOML: {cause}", hint=hint) from cause
    return content


@contextmanager
def reading(name: object, hint: str, kind: str = "") -> Iterator[None]:
    """The boundary around a reader: whatever a library raises about ``name`` is an EdgeferError of one line.

    Libraries raise dozens of types on damage (IndexError, AttributeError, struct.error, their own); a list of them is
    never whole. An EdgeferError and what is no error (Ctrl-C) pass unchanged. ``kind`` is what it was read as.

    Raises:
        EdgeferError: anything went wrong.
    """
    try:
        yield
    except EdgeferError:
        raise
    except MemoryError as cause:
        raise EdgeferError(f"{name} needs more memory than there is", hint=hint) from cause
    except Exception as cause:
        said = one_line(getattr(cause, "strerror", None) or cause)
        read = f"{name} cannot be read{f' as {kind}' if kind else ''}"
        raise EdgeferError(f"{read}: {type(cause).__name__}{f': {said}' if said else ''}", hint=hint) from cause


def check_budget(size: int, name: object, hint: str) -> None:
    """Refuse ``size`` bytes of decoded content where half of the free memory is less.

    Raises:
        EdgeferError: it is; says both.
    """
    free = available_memory()
    if size > _MEMORY_SHARE * free:
        raise EdgeferError(
            f"{name} would take {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: at most half of them "
            "are given to it",
            hint=hint,
        )


def check_archive(archive: zipfile.ZipFile, name: object, hint: str, skipped: str | None = None) -> None:
    """Refuse a zip file that is encrypted, has too many members, or would take too much memory.

    Args:
        archive: the file, open.
        name: its name in messages.
        hint: what to do instead.
        skipped: a member that is not going to be decoded.

    Raises:
        EdgeferError: it is or has.
    """
    members = archive.infolist()
    if len(members) > MAX_ARCHIVE_MEMBERS:
        raise EdgeferError(f"{name} has {len(members):,} members, more than {MAX_ARCHIVE_MEMBERS:,}", hint=hint)
    if any(member.flag_bits & 1 for member in members):
        raise EdgeferError(f"{name} is encrypted", hint="unpack it with its password, and pack it again without")
    check_budget(sum(member.file_size for member in members if member.filename != skipped), name, hint)


def parse_json(content: str | bytes, name: object, hint: str) -> Any:
    """The value of a JSON document in UTF-8: without NaN, infinities and numbers beyond float64.

    Raises:
        EdgeferError: it is not JSON, or beyond a limit.
    """
    if len(content) > MAX_JSON_BYTES:
        size = f"{len(content) / 1e6:.0f} MB, more than {MAX_JSON_BYTES / 1e6:.0f}"
        raise EdgeferError(f"{name} has {size}", hint=hint)
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except UnicodeDecodeError as cause:
        raise EdgeferError(f"{name} cannot be read: it is not a text file", hint=hint) from cause
    except (ValueError, RecursionError) as cause:  # JSONDecodeError is one, and so are 5,000 digits
        raise EdgeferError(f"{name} cannot be read: {one_line(cause)}", hint=hint) from cause


def read_json(path: Path, what: str, hint: str) -> Any:
    """:func:`parse_json` of a file; ``what`` it should be is for errors.

    Raises:
        EdgeferError: as that; or there is no such file, or it cannot be read.
    """
    if not path.exists():
        raise EdgeferError(f"there is no {what} {path}", hint=hint)
    with reading(f"the {what} {path}", hint):
        if path.stat().st_size > MAX_JSON_BYTES:
            raise EdgeferError(f"the {what} {path} has more than {MAX_JSON_BYTES / 1e6:.0f} MB", hint=hint)
        return parse_json(path.read_bytes(), f"the {what} {path}", hint)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {one_line(text, 30)} is too large")
    return value
