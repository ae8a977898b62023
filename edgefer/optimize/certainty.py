"""What the faces of `val` can certify about a drop of accuracy, which is known before anything is calibrated.

The upper end of a drop's 95 % interval (Tango 1998) depends on the number of faces that certify and on the number of
answers that change from right to wrong or back. Without any change it is z²/(n + z²) for n faces: no smaller drop can
be certified, whatever the network.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Z95, design_effect, numbered
from edgefer.measure.paired import tango_interval
from edgefer.progress import announce, as_many

CHANGED = 0.02
"""Share of the answers that change in the example that is announced: INT8 often agrees with float on 98 %."""


def say_what_certifies(val: FaceSet, max_drop: float) -> None:
    """Announce the smallest drop that the certifying half of ``val`` can certify.

    Raises:
        EdgeferError: it is larger than ``max_drop``; see :func:`check_power`.
    """
    groups = halves(val)[1].group_keys()
    check_power(groups, max_drop)
    n, distinct = len(groups), len(np.unique(groups))
    each = max(1, round(n * CHANGED / 2))
    equal, some = _upper_pp(groups, 0), _upper_pp(groups, each)
    known = f"{n:,} faces of `val`" + ("" if distinct == n else f" ({distinct:,} distinct)")
    announce(
        f"--max-drop {max_drop:g}: the smallest drop that {known} can certify is {equal:.2f} points if no answer "
        f"changes, {some:.2f} if {each:,} {as_many(each, 'become')} wrong and {each:,} right "
        f"({1 - 2 * each / n:.0%} agreement)"
    )


def _upper_pp(groups: NDArray[np.generic], each: int) -> float:
    """Upper end of the drop's interval, points, where ``each`` answers become wrong and ``each`` right."""
    n = max(1, len(groups))
    effect = design_effect(np.zeros(len(groups), np.int64), numbered(groups))
    return 100 * tango_interval(each, each, n, effect=effect)[1]


def halves(faces: FaceSet) -> tuple[FaceSet, FaceSet]:
    """Two halves, by a seeded permutation: one to choose on, one to certify with; near-duplicates lie in one of them.

    Each class is shared out as evenly as its near-duplicates allow.
    """
    _, first, group, sizes = np.unique(faces.group_keys(), return_index=True, return_inverse=True, return_counts=True)
    random = np.random.default_rng(0)
    counts = np.zeros((2, len(faces.classes) + 1), np.int64)  # per side and class, and in all
    sides = np.zeros(len(first), np.int64)
    for index in sorted(random.permutation(len(first)), key=lambda index: -sizes[index]):  # the few large ones first
        label = int(faces.labels[first[index]])
        side = sides[index] = int((counts[1, label], counts[1, -1]) < (counts[0, label], counts[0, -1]))
        counts[side, [label, -1]] += sizes[index]
    return faces.subset(np.flatnonzero(sides[group] == 0)), faces.subset(np.flatnonzero(sides[group] == 1))


def check_power(groups: NDArray[np.generic], max_drop: float) -> None:
    """Refuse a budget that not even a network with the very same answers could be shown to meet.

    Args:
        groups: group of near-duplicates of each certifying face.
        max_drop: the budget, percentage points.

    Raises:
        EdgeferError: says how many faces of `val` it would take.
    """
    count = len(groups)
    effect = design_effect(np.zeros(count, np.int64), numbered(groups))
    smallest = _upper_pp(groups, 0)
    if smallest <= max_drop:
        return
    share = max_drop / 100
    needed = f"{2 * math.ceil(effect * Z95**2 * (1 - share) / share):,}" if share > 0 else "infinitely many"
    raise EdgeferError(
        f"no plan can be shown to meet --max-drop {max_drop:g}: on the {count:,} faces of `val` that certify"
        f"{'' if effect == 1 else f' ({len(np.unique(groups)):,} distinct)'}, even "
        f"equal answers leave the drop uncertain by {smallest:.2f} points",
        hint=f"--max-drop {math.ceil(100 * smallest) / 100:g}, or a `val` part of {needed} faces",
    )
