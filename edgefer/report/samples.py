"""Every timed call in a file, for whoever wants to look at them with other tools."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from edgefer.atomic import atomic_path
from edgefer.errors import EdgeferError
from edgefer.report.report import Report

SUFFIXES = (".csv", ".npz")


def check_samples_path(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says no format.

    Raises:
        EdgeferError: it ends in neither ``.csv`` nor ``.npz``.
    """
    if Path(path).suffix not in SUFFIXES:
        raise EdgeferError(f"samples are written as .csv or .npz, not {Path(path).name}", hint="name it samples.csv")


def write_samples(report: Report, path: str | os.PathLike[str]) -> None:
    """Write ``name, round, call, ms`` lines (csv), or an array rounds × calls in ms a name (npz).

    Rounds of all names were taken together: row ``i`` of each belongs to the same moments.

    Raises:
        EdgeferError: the name says no format, or it cannot be written.
    """
    check_samples_path(path)
    rounds = {row.name: row.rounds_ms for row in report.rows if row.rounds_ms is not None}
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".npz":
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, **rounds)  # type: ignore[arg-type]  # names are its own options to the stub
            return
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("name", "round", "call", "ms"))
            for name, samples in rounds.items():
                for (i, k), value in np.ndenumerate(samples):
                    writer.writerow((name, i, k, f"{value:.6f}"))
