"""Bounds of the whole numbers that people give: beyond them a machine is exhausted, or a number means nothing on it.

A hundred thousand threads take every process ID of a machine, and a batch of 10²⁰ faces fits into no memory: both hang
or kill what else runs there, long before anything is measured.
"""

from __future__ import annotations

import numbers
import os
from dataclasses import dataclass

from edgefer.errors import EdgeferError


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value, and the reason of the latter."""

    smallest: int
    largest: int
    reason: str


def bounds(kind: str) -> Bounds:
    """The bounds of ``threads``, ``processes``, ``batch``, ``epochs``, ``seed`` or ``count`` on this machine."""
    cores = os.cpu_count() or 1
    here = f"this machine has {cores} core{'s' * (cores != 1)}"
    return {
        "threads": Bounds(1, max(64, 4 * cores), here),
        "processes": Bounds(1, max(16, 2 * cores), here),
        "batch": Bounds(1, 1 << 14, "the faces of a call lie in memory together"),
        "epochs": Bounds(1, 1_000_000, "of one second each they take twelve days"),
        "seed": Bounds(0, 2**63 - 1, "a seed has 63 bits"),
        "count": Bounds(1, 2**31 - 1, "indices of faces have 31 bits"),
    }[kind]


def check_whole(name: str, value: object, kind: str) -> None:
    """Refuse a value that is no whole number within the bounds of its ``kind``.

    Args:
        name: its name in the message.
        value: what was given; None is none.
        kind: see :func:`bounds`.

    Raises:
        EdgeferError: says the value, the bounds and their reason.
    """
    if value is None:
        return
    known = bounds(kind)
    number = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None
    if number is not None and known.smallest <= number <= known.largest:
        return
    shown = repr(value) if number is None or abs(number) < 10**30 else "a number of more than 30 digits"
    reason = f": {known.reason}" if number is not None and number > known.largest else ""
    raise EdgeferError(
        f"{name} is {shown}, not a whole number from {known.smallest} to {known.largest:,}{reason}",
        hint=f"{name} {known.largest if reason else known.smallest}",
    )
