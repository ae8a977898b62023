"""Two reports beside each other: the same network's latency and accuracy then and now."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgefer.errors import EdgeferError
from edgefer.measure.paired import Paired
from edgefer.report.document import Document, Entry, Estimate

_SAME_SETTINGS = ("scope", "batch", "threads", "fps")
_SAME_MACHINE = ("cpu", "board", "cores", "instruction_set")


@dataclass(frozen=True)
class Change:
    """What one network's figures became from one report to another.

    Attributes:
        name: of the network in both.
        slowdown: percentile → new ÷ old latency, with an interval; 1 is unchanged.
        drop_pp: points of top-1 lost, positive: worse now; paired if both judged the same faces.
        is_paired: whether it was.
    """

    name: str
    slowdown: dict[str, Estimate]
    drop_pp: Estimate
    is_paired: bool


def change(old: Document, new: Document, before: Entry, after: Entry) -> Change:
    """Compare one network in two reports."""
    paired = _paired_drop(old, new, before, after)
    return Change(
        name=after.name,
        slowdown={
            percent: ratio(value, before.latency[percent])
            for percent, value in after.latency.items()
            if percent in before.latency
        },
        drop_pp=paired or _unpaired_drop(old, new, before, after),
        is_paired=paired is not None,
    )


def ratio(new: Estimate, old: Estimate) -> Estimate:
    """Divide independent estimates, ``new`` by ``old``: in logarithms, their intervals' half-widths add as squares."""
    value = new.value / old.value
    low = math.hypot(math.log(new.value / new.ci95[0]), math.log(old.ci95[1] / old.value))
    high = math.hypot(math.log(new.ci95[1] / new.value), math.log(old.value / old.ci95[0]))
    return Estimate(value, (value * math.exp(-low), value * math.exp(high)))


def differences(old: Document, new: Document) -> Iterator[str]:
    """What else is different between two reports, and so limits what a comparison of latencies means."""
    for key in _SAME_SETTINGS:
        one, two = old.settings.get(key), new.settings.get(key)
        if one != two:
            yield f"{key} is {one} in {old.path.name} and {two} in {new.path.name}"
    for key in _SAME_MACHINE:
        one, two = old.environment.get(key), new.environment.get(key)
        if one != two:
            yield f"{key} is {_told(one)} in {old.path.name} and {_told(two)} in {new.path.name}"


def check_same_classes(one: Document, other: Document) -> None:
    """Refuse two reports of networks with other classes.

    Raises:
        EdgeferError: naming both reports and the classes of both.
    """
    if other.classes != one.classes:
        raise EdgeferError(
            f"{one.path} has the classes {', '.join(one.classes)}; {other.path} has {', '.join(other.classes)}",
            hint="compare reports of networks with the same labels",
        )


def same_faces(old: Document, new: Document) -> bool:
    """Whether both judged the same faces, with the same labels and classes."""
    return old.faces_sha256 == new.faces_sha256 and old.classes == new.classes


def _paired_drop(old: Document, new: Document, before: Entry, after: Entry) -> Estimate | None:
    if not same_faces(old, new) or old.labels is None or before.answers is None or after.answers is None:
        return None
    found = Paired.from_answers(old.labels, before.answers, after.answers, new.groups)
    return Estimate(found.drop_pp, found.ci95_pp)


def _unpaired_drop(old: Document, new: Document, before: Entry, after: Entry) -> Estimate:
    """Newcombe's hybrid score interval of a difference of independent proportions (1998, Stat. Med. 17, 873, nr 10)."""
    one, two = before.top1, after.top1
    drop = one.value - two.value
    low = math.hypot(one.value - one.ci95[0], two.ci95[1] - two.value)
    high = math.hypot(one.ci95[1] - one.value, two.value - two.ci95[0])
    return Estimate(100 * drop, (100 * (drop - low), 100 * (drop + high)))


def _told(value: object) -> str:
    return "unknown" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
