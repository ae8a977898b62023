"""One argument, ``DATA`` or ``DATA:split``, opens every kind of data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from edgefer import intake
from edgefer.data import splits
from edgefer.data.affectnet import is_affectnet, load_affectnet
from edgefer.data.classes import relabel
from edgefer.data.faceset import FaceSet
from edgefer.data.fer2013 import is_csv, load_csv
from edgefer.data.ferplus import apply_votes, distribution
from edgefer.data.folder import is_list, load_folder, load_list
from edgefer.data.inspection import without_unreadable
from edgefer.data.npz import is_npz, load_npz
from edgefer.data.rafdb import is_rafdb, load_rafdb
from edgefer.data.sources import Loaded
from edgefer.errors import EdgeferError
from edgefer.limits import name_fault


@dataclass(frozen=True)
class ReadSettings:
    """Settings of reading a data set.

    Attributes:
        classes: classes of an AffectNet csv: ``affectnet7``, ``affectnet8`` (if None) or ``affectnet9``.
        root: the folder of the images that a list (AffectNet's or RAF-DB's) names, if not beside the list.
        allow_missing: leave out images that such a list names and that do not exist.
        boxes: cut the faces of an AffectNet csv out of their images.
        relabelling: class → class, or ``""`` to leave its faces out; see :func:`edgefer.data.classes.relabel`.
    """

    classes: str | None = None
    root: str | os.PathLike[str] | None = None
    allow_missing: bool = False
    boxes: bool = True
    relabelling: Mapping[str, str] = field(default_factory=dict)

    def given(self) -> dict[str, str]:
        """Field → its option on the command line, of the fields that are not at their default."""
        usual, flags = ReadSettings(), {"relabelling": "--map", "boxes": "--no-boxes"}
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        return {name: flags.get(name, f"--{name.replace('_', '-')}") for name in changed}


@dataclass(frozen=True)
class Format:
    """One kind of data set.

    Attributes:
        title: name in messages.
        matches: whether a path that exists is of this kind; it raises nothing.
        read: takes the path, and those of ``settings`` as keyword arguments; images in files are only listed.
        settings: the fields of :class:`ReadSettings` that have an effect, besides ``relabelling``, which always has.
    """

    title: str
    matches: Callable[[Path], bool]
    read: Callable[..., Loaded]
    settings: tuple[str, ...] = ()


FORMATS = (
    Format("an AffectNet csv", is_affectnet, load_affectnet, ("classes", "root", "allow_missing", "boxes")),
    Format("a FER2013 csv (or csv.gz)", is_csv, load_csv),
    Format("an npz with images and labels", is_npz, load_npz),
    Format("a text file with a path of an image per line", is_list, load_list, ("root", "allow_missing")),
    Format("RAF-DB with its list of labels", is_rafdb, load_rafdb, ("root", "allow_missing")),
    Format("a folder of images, by class or without labels", Path.is_dir, load_folder),
)
"""The first that matches reads: a particular kind stands before a more general one."""


def _one_of(formats: Sequence[Format]) -> str:
    return " or ".join(filter(None, (", ".join(row.title for row in formats[:-1]), formats[-1].title)))


def open_dataset(
    spec: str | os.PathLike[str],
    *,
    votes: str | os.PathLike[str] | None = None,
    own_labels: bool = False,
    exclude: str | os.PathLike[str] | None = None,
    reading: ReadSettings | None = None,
    inspecting: bool = False,
) -> FaceSet:
    """Open ``PATH`` or ``PATH:split``: csv, csv.gz, npz, a folder for each class (or RAF-DB's list), or images alone.

    Images alone, without labels: a folder, a text file with one path per line, an npz without ``labels``.

    Args:
        spec: the path; ``:train``, ``:fit``, ``:val``, ``:calib``, ``:test``, ``:private`` or ``:all`` picks a split.
        votes: FER+'s ``fer2013new.csv``, or ``"npz"`` for the array ``ferplus_votes`` of the npz itself; the classes
            are then FER+'s eight, and ``.soft`` has the shares of the votes.
        own_labels: keep the data's own labels and classes beside the votes, which are then for ``.soft`` alone.
        exclude: another data set, e.g. the test faces where they are in a file of their own: faces with the same pixels
            are left out of ``train``, ``fit``, ``val`` and ``calib``. (Within one data set this is automatic.)
        reading: settings of reading the files; the defaults of :class:`ReadSettings` if None.
        inspecting: open even a faulty data set, to report its faults: images that a list names and that are missing are
            left out, and those that cannot be read before a split is picked; ``.faults`` lists both.

    Returns:
        The faces; images in files are decoded later, when they are asked for.

    Raises:
        EdgeferError: there is no such file, it is damaged or of no known kind, it has no faces of that split, or a
            setting has no effect with its kind.
    """
    path, split = _parse(os.fspath(spec))
    reading = reading or ReadSettings()
    loaded = _read(path, reading, inspecting)
    if votes is not None:
        loaded = apply_votes(loaded, os.fspath(votes), str(path), own_labels)
    faces = _faces(loaded, str(path), voted=votes is not None and not own_labels)
    if reading.relabelling:
        faces = relabel(faces, None, reading.relabelling)
    splits.announce_dropped(faces.origin, {}, faces.dropped)
    if inspecting and split is not None:
        faces = without_unreadable(faces)
    if exclude is not None:
        faces = faces.keeping_out(open_dataset(exclude))
    return faces if split is None else faces.split(split)


def _parse(spec: str) -> tuple[Path, str | None]:
    if fault := name_fault(spec):
        shown = spec if len(spec) <= 60 else f"{spec[:40]}…{spec[-16:]}"
        raise EdgeferError(f"there is no data set '{shown}': its path {fault}", hint=f"pass {_one_of(FORMATS)}")
    if Path(spec).exists():
        return Path(spec), None
    head, colon, tail = spec.rpartition(":")
    if colon and (tail in splits.NAMES or Path(head).exists()):
        splits.check_name(tail)
        spec = head
    if not Path(spec).exists():
        raise EdgeferError(f"there is no data set {spec}", hint=f"pass {_one_of(FORMATS)}")
    return Path(spec), tail if colon else None


def _read(path: Path, reading: ReadSettings, inspecting: bool) -> Loaded:
    """Read ``path`` as the first format that it matches, and refuse settings that have no effect with that."""
    row = next((row for row in FORMATS if row.matches(path)), None)
    if row is None:
        raise EdgeferError(f"{path} is of no known kind", hint=f"pass {_one_of(FORMATS)}")
    idle = {name: flag for name, flag in reading.given().items() if name not in (*row.settings, "relabelling")}
    if idle:
        hint = "leave it out" if len(idle) == 1 else "leave them out"
        if "classes" in idle and path.is_dir():
            hint += ": the classes of a folder are its folders, which --map OLD=NEW renames"
        effect = "has no effect" if len(idle) == 1 else "have no effect"
        takers = _one_of([other for other in FORMATS if set(idle) & set(other.settings)])
        raise EdgeferError(f"{' and '.join(idle.values())} {effect} with {path}, which is not {takers}", hint=hint)
    root = None if reading.root is None else Path(reading.root)
    reading = replace(reading, root=root, allow_missing=reading.allow_missing or inspecting)
    with intake.reading(path, "it is damaged, or of another kind than its name says"):
        return row.read(path, **{name: getattr(reading, name) for name in row.settings})


def _faces(loaded: Loaded, origin: str, *, voted: bool) -> FaceSet:
    kept = loaded.kept()
    if not len(kept):
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in loaded.dropped.items())
        raise EdgeferError(
            f"{origin} has no labelled face" + (f": all were left out: {reasons}" if reasons else ""),
            hint="choose other classes or labels" if reasons else f"pass {_one_of(FORMATS)}",
        )
    soft = None
    if loaded.votes is not None and loaded.classes:
        soft = distribution(loaded.votes[kept], loaded.labels[kept], loaded.classes)
    return FaceSet.of(loaded, origin, soft=soft, voted=voted)
