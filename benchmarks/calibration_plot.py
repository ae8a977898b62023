"""The picture of the calibration benchmark: seconds and memory over faces, both axes logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefer.atomic import atomic_path
from edgefer.errors import require

STYLES = {  # Okabe and Ito's colours, which the colour-blind tell apart; Entropy may lie on Percentile: dashed, above
    "edgefer": ("edgefer, all methods in one pass", "#0072B2", "o", "-"),
    "MinMax": ("onnxruntime MinMax", "#E69F00", "s", "-"),
    "Percentile": ("onnxruntime Percentile", "#009E73", "D", "-"),
    "Entropy": ("onnxruntime Entropy", "#CC79A7", "^", "--"),
}
LINE_POINTS = 12.0
"""Least vertical distance of two labels at the ends of lines."""


def plot(result: dict[str, Any], path: Path) -> None:
    """Write the PNG.

    Raises:
        EdgeferError: matplotlib is not installed, or the file cannot be written.
    """
    matplotlib = require("matplotlib", "dev", "drawing the plot")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), dpi=150, layout="constrained")
    for axes, key, factor, title in ((left, "seconds", 1.0, "Time, s"), (right, "peak_bytes", 1e-6, "Peak memory, MB")):
        ends = []
        for calibrator, (label, colour, marker, dashes) in STYLES.items():
            rows = [row for row in result["rows"] if row["calibrator"] == calibrator and key in row]
            points = [(row["faces"], row[key] * factor) for row in rows]
            if points:
                axes.plot(*zip(*points, strict=True), dashes, label=label, color=colour, marker=marker, linewidth=2)
                ends.append((*points[-1], colour))
        _axes(axes, title, sorted({row["faces"] for row in result["rows"]}))
        figure.canvas.draw()  # settles the layout, by which labels are kept apart
        _label_ends(axes, ends, 72.0 / figure.dpi)
    left.legend(frameon=False)
    mark = "" if result["quiet"] else "; measured on a busy machine: times are not to be believed"
    figure.suptitle(f"Calibrating {result['model']} ({result['faces']} faces{mark})", fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    pyplot.close(figure)


def _axes(axes: Any, title: str, counts: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("Faces")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.set_xlim(counts[0] * 0.8, counts[-1] * 2.2)
    axes.grid(visible=True, which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Any, ends: list[tuple[float, float, str]], points_a_pixel: float) -> None:
    """Write each line's last value beside its end, from below upwards; what would overlap is moved up."""
    above: dict[float, float] = {}
    for faces, value, colour in sorted(ends, key=lambda end: end[1]):
        height = axes.transData.transform((faces, value))[1] * points_a_pixel
        written = max(height, above.get(faces, 0.0) + LINE_POINTS) if faces in above else height
        above[faces] = written
        place = (8, written - height)
        axes.annotate(_short(value), (faces, value), place, textcoords="offset points", va="center", color=colour)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"
