"""Kind and size of a picture from its first bytes, before anything decodes it: a small file can hold a huge picture."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """``kind`` is ``JPEG``, ``PNG`` or ``WebP``; width and height in pixels."""

    kind: str
    width: int
    height: int


def read_header(content: bytes) -> Header | None:
    """What ``content`` is, or None if it is no JPEG, PNG or WebP or is cut short before its size."""
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return Header("PNG", *struct.unpack(">II", content[16:24]))
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp(content)
    except (struct.error, IndexError):
        pass  # cut short
    return None


def _jpeg(content: bytes) -> Header | None:
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
            return Header("JPEG", width, height)
        if marker == 0xDA:
            return None  # the picture's data, before any size
        if not (0xD0 <= marker <= 0xD8 or marker == 0x01):
            at += struct.unpack(">H", content[at : at + 2])[0]


def _webp(content: bytes) -> Header | None:
    """The three kinds of WebP (RFC 9649, section 2)."""
    kind, data = content[12:16], content[20:30]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (4, 7))
        return Header("WebP", width, height)
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[1:5])[0]
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[6:10])
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    return None
