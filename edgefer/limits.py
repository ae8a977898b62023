"""Bounds of the numbers and names that people give: beyond them a machine is exhausted, or no file can be made.

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


LONGEST_NAME = 255
"""Bytes of a file's name, on the file systems of Linux; of a path they are :data:`LONGEST_PATH`."""
LONGEST_PATH = 4095


def text_fault(text: str) -> str:
    """The reason for which manifests and reports, which are UTF-8, cannot name ``text``; ``""`` where they can."""
    if not text:
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8, as names in manifests and reports have to be"
    return "has a zero byte" if "\0" in text else ""


def name_fault(text: str, room: int = 0) -> str:
    """The reason for which no file can be called ``text``, as the rest of a sentence; ``""`` where one can.

    ``room`` bytes are left for longer names that are made of it.
    """
    if fault := text_fault(text):
        return fault
    size = len(text.encode())
    longest = max(len(part.encode()) for part in text.split("/"))
    if longest > LONGEST_NAME - room or size > LONGEST_PATH - room:
        return f"is too long: a name has at most {LONGEST_NAME - room} bytes, a path {LONGEST_PATH - room}"
    return ""
