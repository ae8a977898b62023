"""Non-inferiority: "no worse than 0.5 points" is something to be shown, and "no difference seen" does not show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edgefer.errors import EdgeferError
from edgefer.measure.paired import Paired


class Verdict(str, Enum):
    """Where an interval stands to a limit."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


def judge(interval: tuple[float, float], limit: float) -> Verdict:
    """PASS if all of ``interval`` is at most ``limit``, FAIL if none of it is, else INCONCLUSIVE."""
    low, high = interval
    if high <= limit:
        return Verdict.PASS
    return Verdict.FAIL if low > limit else Verdict.INCONCLUSIVE


def check_margin(margin_pp: float) -> None:
    """Refuse a margin that no drop can be held against.

    Raises:
        EdgeferError: it is not positive, or not finite.
    """
    if not 0 < margin_pp < math.inf:
        raise EdgeferError(
            f"the margin must be a positive number of points, not {margin_pp}", hint="pass e.g. --margin 0.5"
        )


@dataclass(frozen=True)
class NonInferiority:
    """A drop beside the margin that was stated before it was measured.

    The whole 95 % interval of the drop must lie below the margin: a one-sided test at 2.5 %, as usual for
    non-inferiority (Tango 1998; ICH E9, section 3.3.2).

    Attributes:
        margin_pp: the greatest drop that would be accepted, percentage points, positive.
        drop_pp: what was measured.
        ci95_pp: its interval.
        n: number of independent faces that were measured, or that the measured ones are worth.

    Raises:
        EdgeferError: the margin is not positive.
    """

    margin_pp: float
    drop_pp: float
    ci95_pp: tuple[float, float]
    n: float

    def __post_init__(self) -> None:
        check_margin(self.margin_pp)

    @classmethod
    def of(cls, paired: Paired, margin_pp: float) -> NonInferiority:
        """Hold a paired comparison against a margin."""
        return cls(margin_pp, paired.drop_pp, paired.ci95_pp, paired.n / paired.effect)

    @property
    def verdict(self) -> Verdict:
        """PASS: shown to be no worse than the margin; FAIL: shown to be worse; else neither was shown."""
        return judge(self.ci95_pp, self.margin_pp)

    @property
    def difference_seen(self) -> bool:
        """Whether the interval excludes 0, in either direction."""
        return not self.ci95_pp[0] <= 0 <= self.ci95_pp[1]

    @property
    def faces_needed(self) -> int | None:
        """About how many faces would decide it if the drop stayed what it is; None where none or any number would.

        An interval narrows with the square root of the number of faces.
        """
        distance = abs(self.margin_pp - self.drop_pp)
        if self.verdict is not Verdict.INCONCLUSIVE or distance == 0:
            return None
        low, high = self.ci95_pp
        half = high - self.drop_pp if self.drop_pp < self.margin_pp else self.drop_pp - low
        return math.ceil(self.n * (half / distance) ** 2)

    def sentence(self) -> str:
        """What was shown and what was not, for people."""
        low, high = self.ci95_pp
        margin = f"{self.margin_pp:g} points"
        if self.verdict is Verdict.PASS:
            seen = f"; a difference was seen ({self.drop_pp:+.2f})" if self.difference_seen else ""
            return f"no worse than {margin}: shown (at most {high:+.2f}){seen}"
        if self.verdict is Verdict.FAIL:
            return f"worse than {margin}: at least {low:+.2f}"
        needed = "" if self.faces_needed is None else f"; about {_rounded(self.faces_needed):,} faces would tell"
        start = "a difference was seen" if self.difference_seen else "no difference seen"
        return f"{start}, but {self._open()}{needed}"

    def _open(self) -> str:
        return f"'no worse than {self.margin_pp:g} points' is not shown: {self.ci95_pp[1]:+.2f} is possible"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "margin_pp": self.margin_pp,
            "verdict": self.verdict.value,
            "difference_seen": self.difference_seen,
            "faces_needed": self.faces_needed,
            "sentence": self.sentence(),
        }


def _rounded(count: int) -> int:
    """Two significant digits, upwards: more would pretend to know."""
    step = int("1" + "0" * max(0, len(str(count)) - 2))
    return -(-count // step) * step
