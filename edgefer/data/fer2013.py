"""FER2013's csv: ``emotion,pixels,Usage`` in any order, Kaggle's ``emotion,pixels``, plain or gzipped."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgefer.data import splits
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource, Faces, Loaded, is_file, opened, unlabelled
from edgefer.errors import EdgeferError
from edgefer.progress import progress

SIZE = 48
PIXELS = SIZE * SIZE
_CHUNK_BYTES = 1 << 20  # of text at once: about 120 faces
_HEADER_LIMIT = 1 << 16
_HINT = "a FER2013 csv has the columns emotion, pixels and Usage (Kaggle's train.csv: emotion and pixels)"


@dataclass(frozen=True)
class _Columns:
    """Where the columns are; ``usage`` is None in Kaggle's train.csv."""

    count: int
    emotion: int
    pixels: int
    usage: int | None


def is_csv(path: Path) -> bool:
    """Whether it is called a csv, which is FER2013's unless another format knows its columns."""
    return is_file(path, ".csv", ".csv.gz")


def load_csv(path: Path) -> Loaded:
    """Read a FER2013 csv: 2,304 bytes of memory for each face and a few MB for the text at hand.

    Raises:
        EdgeferError: no such file, no FER2013 csv, or a bad row: says which line and what is wrong with it.
    """
    pixels = bytearray()  # grows in place: no second copy of the faces at the end
    labels: list[int] = []
    parts: list[int] = []
    with opened(path) as stream, progress(f"reading {path.name}", None) as advance:
        columns = _header(stream, path)
        line = 2
        while lines := stream.readlines(_CHUNK_BYTES):
            if texts := _fields(lines, line, columns, path, labels, parts):
                pixels += _pixels(texts, path).tobytes()
            line += len(lines)
            advance(len(lines))
    if not labels:
        raise EdgeferError(f"{path} has a header and no rows", hint=_HINT)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, SIZE, SIZE)
    numbers = np.asarray(labels, np.int64)
    declared = None if columns.usage is None else np.asarray(parts, np.int8)
    return Loaded(ArraySource(images), numbers, FER2013, declared, dropped=unlabelled(numbers))


def _header(stream: BinaryIO, path: Path) -> _Columns:
    text = stream.readline(_HEADER_LIMIT).decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise EdgeferError(f"{path} is empty", hint=_HINT)
    names = [name.strip().strip('"').strip().lower() for name in text.split(",")]
    missing = [name for name in ("emotion", "pixels") if name not in names]
    if missing:
        hint = _HINT
        if "nf" in names and "contempt" in names:
            hint = "these are FER+'s votes: pass fer2013.csv as the data and this file with --votes"
        found = ", ".join(name[:30] for name in names[:8])
        raise EdgeferError(
            f"{path} is no FER2013 csv: it has no column {' or '.join(missing)} (line 1 has: {found})", hint=hint
        )
    usage = names.index("usage") if "usage" in names else None
    return _Columns(len(names), names.index("emotion"), names.index("pixels"), usage)


def _fields(
    lines: Sequence[bytes], first: int, columns: _Columns, path: Path, labels: list[int], parts: list[int]
) -> list[tuple[int, bytes]]:
    """Append the labels and parts of ``lines``; return their pixel texts with their line numbers."""
    texts = []
    for number, line in enumerate(lines, first):
        fields = [field.strip(b' "\r\n\t') for field in line.split(b",")]
        if len(fields) != columns.count:
            if not line.strip():
                continue
            raise _bad(path, number, f"{len(fields)} columns, and the header has {columns.count}")
        label = fields[columns.emotion].decode("utf-8", errors="replace")
        if re.fullmatch("-?0*[0-9]", label) and -1 <= int(label) < len(FER2013):
            labels.append(int(label))
        else:
            known = f"0…6 ({', '.join(FER2013)}) or −1 (leave it out)"
            raise _bad(path, number, f"the label '{label[:30]}' is not one of {known}")
        usage = "train" if columns.usage is None else fields[columns.usage].decode("utf-8", errors="replace")
        part = splits.part_named(usage)
        if part is None:
            raise _bad(path, number, f"the Usage '{usage[:30]}' is none of Training, PublicTest, PrivateTest")
        parts.append(part)
        texts.append((number, fields[columns.pixels]))
    return texts


def _pixels(texts: Sequence[tuple[int, bytes]], path: Path) -> Faces:
    """uint8 N×PIXELS: NumPy parses all rows at once; what it refuses is parsed row by row, to name the line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older NumPys read 256 as a float, wrap it to 0 and only warn
            faces: Faces = np.loadtxt([text for _, text in texts], np.uint8, comments=None, ndmin=2)
        if faces.shape == (len(texts), PIXELS):
            return faces
    except (ValueError, Warning):
        pass
    return np.stack([_parse_strictly(text, path, number) for number, text in texts])


def _parse_strictly(text: bytes, path: Path, number: int) -> Faces:
    words = text.split()
    for place, word in enumerate(words, 1):
        if not word.isdigit():
            shown = word[:20].decode("utf-8", errors="replace")
            raise _bad(path, number, f"pixel {place} is '{shown}', which is no whole number")
        if len(word.lstrip(b"0")) > 3 or int(word) > 255:
            raise _bad(path, number, f"pixel {place} is {word[:20].decode()}, which is more than 255")
    if len(words) != PIXELS:
        raise _bad(path, number, f"{len(words)} pixels, where {SIZE}×{SIZE} = {PIXELS} are expected")
    return np.asarray([int(word) for word in words], np.uint8)


def _bad(path: Path, number: int, cause: str) -> EdgeferError:
    return EdgeferError(
        f"{path} line {number}: {cause}", hint="the file is damaged or was edited: repair or delete the row"
    )
