"""Faces in an npz: ``images``, mostly ``labels``, optionally ``splits``, ``classes`` and ``ferplus_votes``."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefer.atomic import atomic_path
from edgefer.data import splits
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource, Faces, Loaded, is_file, unlabelled
from edgefer.errors import EdgeferError
from edgefer.intake import check_archive, reading
from edgefer.progress import number_of

_HINT = "write one with edgefer.data.save_npz(path, images, labels)"


def save_npz(
    path: str | os.PathLike[str],
    images: Faces,
    labels: ArrayLike,
    classes: Sequence[str] | None = None,
    splits: Sequence[str] | NDArray[np.str_] | None = None,
) -> None:
    """Write faces atomically: whole, or not at all. Stored uncompressed, so that it can be memory-mapped.

    Args:
        path: the file, with any name.
        images: uint8 N×H×W or N×H×W×C.
        labels: N integers; −1 means "leave this face out".
        classes: names, of which a label is the index; FER2013's seven where absent.
        splits: N names of ``train val test private``; where absent, nothing is declared.
    """
    content: dict[str, NDArray[np.generic]] = {"images": images, "labels": np.asarray(labels, dtype=np.int64)}
    if classes is not None:
        content["classes"] = np.asarray(classes, dtype=np.str_)
    if splits is not None:
        content["splits"] = np.asarray(splits, dtype=np.str_)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **content)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options


def is_npz(path: Path) -> bool:
    """Whether it is called so."""
    return is_file(path, ".npz")


def load_npz(path: Path) -> Loaded:
    """Read faces that :func:`save_npz` or anything else wrote.

    Raises:
        EdgeferError: the file is damaged, an array is missing, or is of the wrong type, shape, length or value.
    """
    content = _arrays(path)
    images = _images(content, path)
    if "labels" not in content:
        votes = _votes(content, len(images), path)
        return Loaded.without_labels(ArraySource(images), _parts(content, len(images), path), votes=votes)
    labels = _labels(content, path)
    if len(images) != len(labels):
        raise EdgeferError(
            f"{path} has {number_of(len(images), 'image')} and {number_of(len(labels), 'label')}",
            hint="one label for each image",
        )
    classes = tuple(str(name) for name in content["classes"].reshape(-1)) if "classes" in content else FER2013
    _check_names(classes, path)
    if len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise EdgeferError(
            f"{path} has labels from {labels.min()} to {labels.max()} for {len(classes)} classes",
            hint="labels are 0 … classes − 1, or −1 for none; an array 'classes' names others than FER2013's",
        )
    return Loaded(
        ArraySource(images),
        labels,
        classes,
        _parts(content, len(labels), path),
        votes=_votes(content, len(labels), path),
        dropped=unlabelled(labels),
    )


def _check_names(classes: tuple[str, ...], path: Path) -> None:
    twice = [name for name in dict.fromkeys(classes) if classes.count(name) > 1]
    if twice:
        raise EdgeferError(
            f"{path} names the class '{twice[0]}' {classes.count(twice[0])} times",
            hint="each of its 'classes' is one name, in the order of the labels",
        )
    strange = [name for name in classes if not name.strip() or not name.isprintable()]
    if strange:
        raise EdgeferError(f"{path} has a class that is called {strange[0]!r}", hint="give it a name in letters")


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    hint = f"it is damaged or something else; {_HINT}"
    with reading(path, hint, "an npz"):
        with zipfile.ZipFile(path) as archive:
            mapped = _mapped_images(archive, path)
            large = "store `images` uncompressed, as numpy.savez does: they are then not read into memory"
            check_archive(archive, path, large, None if mapped is None else _IMAGES)
        with np.load(path, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name != "images" or mapped is None]
            content = {name: arrays[name] for name in names if name in _KNOWN}
    if mapped is not None:
        content["images"] = mapped
    return content


_KNOWN = frozenset({"images", "labels", "splits", "classes", "ferplus_votes"})


_IMAGES = "images.npy"


def _mapped_images(archive: zipfile.ZipFile, path: Path) -> NDArray[np.generic] | None:
    """A memory map of ``images`` where the npz stores it uncompressed, else None."""
    entry = archive.NameToInfo.get(_IMAGES)
    if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        return None
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + 26)  # the local header's lengths of name and extra field (APPNOTE.TXT 4.3.7)
        start = entry.header_offset + 30 + int(np.frombuffer(stream.read(4), np.dtype("<u2")).sum())
        stream.seek(start)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject or 0 in shape:
            return None
        offset = stream.tell()
        told, held = math.prod(shape) * dtype.itemsize, entry.file_size - (offset - start)
        if told != held:
            raise zipfile.BadZipFile(f"its images should have {told:,} bytes, and have {held:,}")
        stream.seek(start)
        crc, left = 0, entry.file_size
        while left and (chunk := stream.read(min(left, 1 << 20))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
        if crc != entry.CRC:
            raise zipfile.BadZipFile("the checksum of its images is wrong")
        return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _images(content: Mapping[str, NDArray[np.generic]], path: Path) -> Faces:
    if "images" not in content:
        known = ", ".join(sorted(_KNOWN))
        raise EdgeferError(
            f"{path} has no array 'images'" + (f" (it has: {', '.join(content)})" if content else ""),
            hint=f"its arrays are called {known}; {_HINT}",
        )
    images = content["images"]
    if images.dtype != np.uint8:
        raise EdgeferError(
            f"{path}: 'images' is {images.dtype}, not uint8", hint="store grey levels 0…255, not normalised pixels"
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)) or 0 in images.shape[1:]:
        shape = "×".join(map(str, images.shape))
        raise EdgeferError(f"{path}: 'images' is {shape}", hint="it must be N×H×W, N×H×W×1 (grey) or N×H×W×3 (RGB)")
    return images  # type: ignore[return-value]  # the dtype was checked


def _labels(content: Mapping[str, NDArray[np.generic]], path: Path) -> NDArray[np.int64]:
    labels = content["labels"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise EdgeferError(f"{path}: 'labels' is {labels.dtype} with {labels.ndim} axes", hint="it must be N integers")
    return labels.astype(np.int64)


def _parts(content: Mapping[str, NDArray[np.generic]], count: int, path: Path) -> NDArray[np.int8] | None:
    if "splits" not in content:
        return None
    names = content["splits"]
    if names.shape != (count,) or names.dtype.kind not in "US":
        raise EdgeferError(
            f"{path}: 'splits' is {names.dtype} of shape {names.shape}", hint=f"it must be {count} names"
        )
    spelt, which = np.unique(names, return_inverse=True)
    codes = []
    for name in spelt:
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        code = splits.part_named(text)
        if code is None:
            raise EdgeferError(f"{path}: 'splits' names '{text}'", hint=f"it may name {', '.join(splits.DECLARED)}")
        codes.append(code)
    return splits.settle(np.asarray(codes, np.int8)[which], str(path))


def _votes(content: Mapping[str, NDArray[np.generic]], count: int, path: Path) -> NDArray[np.int64] | None:
    if "ferplus_votes" not in content:
        return None
    votes = content["ferplus_votes"]
    if votes.dtype.kind not in "iu" or votes.shape != (count, 10):
        raise EdgeferError(
            f"{path}: 'ferplus_votes' is {votes.dtype} of shape {votes.shape}", hint=f"it must be {count}×10 integers"
        )
    return votes.astype(np.int64)
