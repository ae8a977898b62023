"""Charts as SVG text: scales, axes, names and the few marks that the page needs. No script, no external resource.

A chart is :data:`WIDTH` units wide, about a phone's width in pixels, so that its text stays readable there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 420
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
"""Okabe and Ito's, which the colour-blind tell apart; engines take them in turn."""
BASELINE = "#7a7a7a"
CHARACTER, BOLD_CHARACTER = 7.6, 9.1
"""Units that a character of 13 px takes in the widest of the usual system fonts, on average."""
LINE = 14.0
"""Units from one line of text to the next."""


def colour(index: int) -> str:
    """Colour of row ``index``: 0 is the baseline."""
    return BASELINE if index == 0 else COLOURS[(index - 1) % len(COLOURS)]


@dataclass(frozen=True)
class Scale:
    """From ``low`` … ``high`` to ``start`` … ``end`` units, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where ``value`` lies; what is outside goes to the nearer end."""
        inside = min(max(value, self.low), self.high)
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, inside))
        share = 0.5 if high == low else (at - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self) -> list[float]:
        """Round values in the range, about five."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high)
        step = nice_step(self.high - self.low, 5)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice_step(span: float, count: int) -> float:
    """1, 2 or 5 times a power of ten, so that ``span`` has about ``count`` steps."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    return next((factor * power for factor in (1, 2, 5) if span / (factor * power) <= count), 10 * power)


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) >= 3:
            return found if len(found) <= 7 else found[:: math.ceil(len(found) / 7)]
    step = nice_step(high - low, 4)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)] or [low, high]


@dataclass
class Chart:
    """Marks that are being put together; :meth:`text` is the SVG."""

    height: float
    label: str
    left: float = 46
    right: float = 10
    top: float = 10
    bottom: float = 36
    _marks: list[str] = field(default_factory=list)

    def x(self, low: float, high: float, *, logarithmic: bool = False) -> Scale:
        """A scale from left to right."""
        return Scale(low, high, self.left, WIDTH - self.right, logarithmic)

    def y(self, low: float, high: float) -> Scale:
        """A scale from the bottom upwards."""
        return Scale(low, high, self.height - self.bottom, self.top)

    def axes(self, x: Scale, y: Scale | None, x_title: str, y_form: str = "{:g}") -> None:
        """Grid, tick labels, and the title below."""
        floor = self.height - self.bottom
        for value in x.ticks():
            self.line(x(value), self.top, x(value), floor, "grid")
            self.write(x(value), floor + 14, short(value), anchor="middle")
        if y is not None:
            for value in y.ticks():
                self.line(self.left, y(value), WIDTH - self.right, y(value), "grid")
                self.write(self.left - 5, y(value) + 4, y_form.format(value), anchor="end")
        self.write((self.left + WIDTH - self.right) / 2, self.height - 4, x_title, anchor="middle", kind="axis")

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, stroke: str = "", title: str = "") -> None:
        """A straight line of the CSS class ``kind``."""
        painted = f' stroke="{stroke}"' if stroke else ""
        self._add(f'line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"{painted}', title)

    def path(self, points: Iterable[tuple[float, float]], stroke: str, kind: str = "curve") -> None:
        """A line through ``points``."""
        steps = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._add(f'polyline class="{kind}" points="{steps}" stroke="{stroke}"')

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str, title: str = "", kind: str = "bar"
    ) -> None:
        """A filled rectangle."""
        self._add(f'rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}"', title)

    def circle(self, x: float, y: float, fill: str, title: str = "", radius: float = 4.5) -> None:
        """A filled circle."""
        self._add(f'circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}"', title)

    def write(
        self, x: float, y: float, text: str, *, anchor: str = "start", kind: str = "", turn: float = 0, fill: str = ""
    ) -> None:
        """Text; ``turn`` degrees about its anchor."""
        more = f' class="{kind}"' if kind else ""
        more += f' style="fill:{fill}"' if fill else ""
        more += f' transform="rotate({turn:g} {x:g} {y:g})"' if turn else ""
        self._marks.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{escape(text)}</text>')

    def name(self, x: float, y: float, lines: Sequence[str], *, anchor: str = "start", fill: str = "") -> None:
        """A name in bold, one line below the other."""
        for i, line in enumerate(lines):
            self.write(x, y + LINE * i, line, anchor=anchor, kind="name", fill=fill)

    def text(self) -> str:
        """The SVG element."""
        head = f'<svg viewBox="0 0 {WIDTH} {self.height:g}" role="img" aria-label="{escape(self.label)}">'
        return f"{head}{''.join(self._marks)}</svg>"

    def _add(self, element: str, title: str = "") -> None:
        name = element.split(" ", 1)[0]
        self._marks.append(f"<{element}><title>{escape(title)}</title></{name}>" if title else f"<{element}/>")


def short(value: float) -> str:
    """An axis label: no exponents, no needless digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def legend(names: Sequence[str]) -> str:
    """Names with the colours of :func:`colour`, as HTML."""
    items = (
        f'<li><span class="key" style="background:{colour(i)}"></span>{escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


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


def broken(text: str, maximum: float, *, bold: bool = True) -> list[str]:
    """``text`` in lines of at most ``maximum`` units, broken after a separator where there is one: none is cut."""
    room = max(3, int(maximum / width("x", bold=bold)))
    lines = []
    while len(text) > room:
        end = max((text.rfind(mark, 0, room) + 1 for mark in " ._-/"), default=0)
        end = end if end > room // 3 else room
        lines.append(text[:end])
        text = text[end:]
    return [*lines, text]


@dataclass
class Names:
    """Places bold names within ``frame``, beside points, covering as little as possible of ``marks`` and each other.

    ``crowded`` says whether a name had to cover something.
    """

    frame: Box
    marks: Sequence[Box]
    crowded: bool = False
    _taken: list[Box] = field(default_factory=list)

    def place(self, x: float, y: float, *name: str) -> tuple[float, float]:
        """Where the first of the lines that name the point (``x``, ``y``) begins, at its baseline; it is taken then."""
        wide, tall = max(width(line, bold=True) for line in name), LINE * len(name)
        places = self._places(x, y, wide, tall)
        best = min(places, key=lambda place: (self._covered(place), self._way(place, x, y)))
        self.crowded = self.crowded or self._covered(best) > 0
        self._taken.append(best)
        return best.left, best.top + LINE - 3

    def _places(self, x: float, y: float, wide: float, tall: float) -> Iterator[Box]:
        lines = int((self.frame.bottom - self.frame.top) / LINE)
        for left in (x + 9, x - 9 - wide, x - wide / 2, self.frame.left, self.frame.right - wide):
            start = min(max(left, self.frame.left), self.frame.right - wide)
            for step in range(-2 * lines, 2 * lines + 1):
                top = y + (step - 1) * LINE / 2
                if self.frame.top <= top and top + tall <= self.frame.bottom:
                    yield Box(start, top, start + wide, top + tall)

    def _covered(self, place: Box) -> float:
        names = sum(place.overlap(other) for other in self._taken)
        return 4 * names + sum(place.overlap(mark) for mark in self.marks)

    @staticmethod
    def _way(place: Box, x: float, y: float) -> float:
        """Distance of a place from its point; sideways counts less, as a line of text is long."""
        across = max(place.left - x, 0.0, x - place.right)
        down = abs((place.top + place.bottom) / 2 - y)
        return across / 2 + down
