"""FER+ (Barsoum et al., ICMI 2016): ten taggers' votes for each face of FER2013."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefer.data import splits
from edgefer.data.classes import FERPLUS, canonical, distributions
from edgefer.data.sources import Loaded, csv_rows
from edgefer.errors import EdgeferError

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
_UNKNOWN, _NOT_A_FACE = 8, 9
_MIN_KAPPA = 0.25
"""FER+'s majority and FER2013's labels agree on about two thirds of the faces, Cohen's kappa 0.6; rows of another order
give 0."""
_ENOUGH = 50
"""With fewer faces, agreement by chance cannot be told from right agreement."""


@dataclass(frozen=True)
class VoteFile:
    """The rows of ``fer2013new.csv``: votes N×10, indices into ``splits.DECLARED``, and image names ('' for none)."""

    votes: NDArray[np.int64]
    parts: NDArray[np.int8]
    names: tuple[str, ...]


def apply_votes(loaded: Loaded, votes: str, origin: str, own_labels: bool = False) -> Loaded:
    """Replace the labels by FER+'s; faces without a majority for one of the eight classes are dropped and counted.

    With ``own_labels`` the labels stay as they are, and the votes stand beside them.
    ``votes`` is the path of ``fer2013new.csv`` or ``"npz"``. A csv of votes joins a csv or npz of faces row by row,
    where their numbers of rows and their splits agree, and a folder of images by image name.

    Raises:
        EdgeferError: the votes cannot be read, or do not belong to these faces.
    """
    found = _votes_for(loaded, votes, origin)
    if own_labels:
        return replace(loaded, votes=found)
    kept = loaded.kept()  # the data set itself leaves the others out, whatever the taggers said
    labels = np.full(len(found), -1, np.int64)
    labels[kept], reasons = majority(found[kept])
    return replace(loaded, labels=labels, classes=FERPLUS, dropped={**loaded.dropped, **reasons}, votes=found)


def _votes_for(loaded: Loaded, votes: str, origin: str) -> NDArray[np.int64]:
    """N×10, one row for each face of ``loaded``."""
    if votes == "npz":
        if loaded.votes is None:
            raise EdgeferError(
                f"{origin} has no array 'ferplus_votes'", hint="pass --votes fer2013new.csv instead of 'npz'"
            )
        _check_agreement(loaded, loaded.votes, "its array 'ferplus_votes'", origin)
        return loaded.votes
    table = read_votes(Path(votes))
    if loaded.names is not None:
        return _by_name(table, loaded.names, votes, origin)
    if len(table.votes) != len(loaded.labels):
        raise EdgeferError(
            f"{votes} has {len(table.votes)} rows and {origin} has {len(loaded.labels)}: they cannot be joined by row",
            hint="use the fer2013.csv with all of its 35,887 rows, in its order",
        )
    differs = np.flatnonzero(table.parts != (table.parts if loaded.parts is None else loaded.parts))
    if len(differs):
        raise EdgeferError(
            f"{votes} and {origin} disagree on the Usage of {len(differs)} rows (first: row {int(differs[0]) + 1})",
            hint="one of them was sorted or cut: use both in their original order",
        )
    _check_order(table, votes)
    _check_agreement(loaded, table.votes, votes, origin)
    return table.votes


def _check_order(table: VoteFile, votes: str) -> None:
    """The image names, which rows that are no face lack, number the rows of FER2013 in their order."""
    named = [(row, name) for row, name in enumerate(table.names) if name]
    for (_, before), (row, name) in itertools.pairwise(named):
        if name <= before:
            raise EdgeferError(
                f"{votes} is not in FER2013's order: row {row + 1} has the image {name} after {before}",
                hint="it was sorted or mixed: use fer2013new.csv as it is published",
            )


def _check_agreement(loaded: Loaded, votes: NDArray[np.int64], named: str, origin: str) -> None:
    """The taggers' majority must agree with the set's own labels better than faces in another order would.

    By Cohen's kappa (1960): agreement beyond what the two sets of labels have by chance, as a share of what is left.
    """
    if not loaded.classes:
        return
    winner, _ = majority(votes)
    table = np.asarray([FERPLUS.index(name) if name in FERPLUS else -1 for name in map(canonical, loaded.classes)])
    own = np.where(loaded.labels >= 0, table[loaded.labels], -1)
    both = (winner >= 0) & (own >= 0)
    count = int(both.sum())
    if count < _ENOUGH:
        return
    agreed = float((winner[both] == own[both]).mean())
    shares = [np.bincount(labels[both], minlength=len(FERPLUS)) / count for labels in (winner, own)]
    chance = float(shares[0] @ shares[1])
    if agreed - chance < _MIN_KAPPA * (1 - chance):
        raise EdgeferError(
            f"the majority in {named} agrees with the labels of {origin} on {agreed:.1%} of {count:,} faces, and "
            f"{chance:.1%} would be chance: these votes are for faces in another order",
            hint="one of them was sorted or mixed: use both in their original order",
        )


def majority(votes: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Labels 0…7 from votes N×10, or −1, with the reasons and their counts.

    The column with the largest number of votes wins. A tie for the first place has no majority and drops the face: any
    way to break it would be a guess. So does a win of 'unknown' or 'NF' (not a face).
    """
    winner = votes.argmax(axis=1)
    highest = votes.max(axis=1, initial=0)
    tied = np.sum(votes == highest[:, None], axis=1) > 1
    reasons = {
        "FER+ no majority": tied,
        "FER+ unknown": ~tied & (winner == _UNKNOWN),
        "FER+ not a face": ~tied & (winner == _NOT_A_FACE),
    }
    dropped = np.any(list(reasons.values()), axis=0)
    return np.where(dropped, -1, winner), {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()}


def _by_name(table: VoteFile, names: tuple[str, ...], votes: str, origin: str) -> NDArray[np.int64]:
    row_of = {Path(name).stem: row for row, name in enumerate(table.names) if name}
    unknown = [name for name in names if Path(name).stem not in row_of]
    if unknown:
        raise EdgeferError(
            f"{votes} has no row for {len(unknown)} of the images in {origin} (for example {unknown[0]})",
            hint="a folder joins FER+ by its column 'Image name': name the files as it does, e.g. fer0000000.png",
        )
    return table.votes[[row_of[Path(name).stem] for name in names]]


def read_votes(path: Path) -> VoteFile:
    """Read ``fer2013new.csv``; columns are found by name.

    Raises:
        EdgeferError: it cannot be read, is something else, or a row is malformed (says which line).
    """
    rows = csv_rows(path)
    _, header = next(rows, ("", []))
    place = {name.strip().lower(): i for i, name in enumerate(header)}
    missing = [name for name in ("Usage", *COLUMNS) if name.lower() not in place]
    if missing:
        hint = "pass FER+'s fer2013new.csv"
        raise EdgeferError(f"{path} is not FER+'s csv: no column {', '.join(missing)}", hint=hint)
    votes: list[list[int]] = []
    parts, names = [], []
    for where, row in rows:
        if len(row) != len(header):
            fault = f"{where}: {len(row)} columns, and the header has {len(header)}"
            raise EdgeferError(fault, hint="the file is damaged or cut short: copy it again")
        try:
            votes.append([_count(row[place[name.lower()]]) for name in COLUMNS])
        except (ValueError, IndexError) as cause:
            expected = "ten whole numbers of votes are expected"
            raise EdgeferError(f"{where}: {expected} ({cause})", hint="the file is damaged") from cause
        usage = row[place["usage"]]
        part = splits.part_named(usage)
        if part is None or min(votes[-1]) < 0:
            fault = f"{where}: Usage '{usage}' with votes {votes[-1]} is not FER+'s"
            raise EdgeferError(fault, hint="the file is damaged")
        parts.append(part)
        names.append(row[place["image name"]].strip() if "image name" in place else "")
    return VoteFile(np.asarray(votes, np.int64).reshape(-1, 10), np.asarray(parts, np.int8), tuple(names))


def _count(text: str) -> int:
    """ASCII digits and no more of them than a count has; ``int`` takes ３ and 1_0 too."""
    if not re.fullmatch("-?[0-9]{1,9}", text.strip()):
        raise ValueError(f"'{text[:20]}' is none")
    return int(text)


def distribution(votes: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float32]:
    """Share of a face's taggers who chose each of ``classes``: float32 N×classes, rows sum to 1.

    Votes for anything else (contempt where that is no class, unknown, not a face) do not count; a face without any
    other vote gets its label.
    """
    columns = [FERPLUS.index(name) if name in FERPLUS else None for name in classes]
    counts = np.stack([np.zeros(len(votes)) if c is None else votes[:, c] for c in columns], axis=1)
    return distributions(counts, labels)
