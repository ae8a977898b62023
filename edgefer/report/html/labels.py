"""Names on charts: cut to what there is room for, and put where they cover no mark and no other name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

CHARACTER, BOLD_CHARACTER = 7.6, 9.1
"""Units that a character of 13 px takes in the widest of the usual system fonts, on average."""
LINE = 14.0
"""Units from one line of text to the next."""


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover, square units."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, across) * max(0.0, down)


def width(text: str, *, bold: bool = False) -> float:
    """Units that ``text`` takes."""
    return len(text) * (BOLD_CHARACTER if bold else CHARACTER)


def shortened(text: str, most: float, *, bold: bool = False) -> str:
    """``text``, with an ellipsis in its middle where it would take more than ``most`` units: both ends tell apart."""
    room = max(3, int(most / width("x", bold=bold)))
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}…{text[len(text) - tail :]}"


@dataclass
class Names:
    """Places bold names within ``frame``, beside points, where they cover least of ``marks`` and of each other."""

    frame: Box
    marks: Sequence[Box]
    _taken: list[Box] = field(default_factory=list)

    def place(self, x: float, y: float, name: str) -> tuple[float, float]:
        """Where the text's baseline begins that names the point (``x``, ``y``); the place is taken then."""
        best = min(
            self._places(x, y, width(name, bold=True)), key=lambda place: (self._covered(place), self._way(place, x, y))
        )
        self._taken.append(best)
        return best.left, best.bottom - 3

    def _places(self, x: float, y: float, wide: float) -> Iterator[Box]:
        lines = int((self.frame.bottom - self.frame.top) / LINE)
        for left in (x + 9, x - 9 - wide, x - wide / 2, self.frame.left, self.frame.right - wide):
            start = min(max(left, self.frame.left), self.frame.right - wide)
            for step in range(-2 * lines, 2 * lines + 1):
                top = y + (step - 1) * LINE / 2
                if self.frame.top <= top and top + LINE <= self.frame.bottom:
                    yield Box(start, top, start + wide, top + LINE)

    def _covered(self, place: Box) -> float:
        names = sum(place.overlap(other) for other in self._taken)
        return 4 * names + sum(place.overlap(mark) for mark in self.marks)

    @staticmethod
    def _way(place: Box, x: float, y: float) -> float:
        """How far a place is from its point; sideways counts less, as a line of text is long."""
        across = max(place.left - x, 0.0, x - place.right)
        down = abs((place.top + place.bottom) / 2 - y)
        return across / 2 + down
