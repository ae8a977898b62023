"""The picture of the calibration benchmark: seconds and memory over faces, both axes logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefer.atomic import atomic_path
from edgefer.errors import require

STYLES = {  # Okabe and Ito's colours, told apart by the colour-blind too
    "edgefer": ("edgefer, all methods in one pass", "#0072B2", "o", 2.6),
    "MinMax": ("onnxruntime MinMax", "#E69F00", "s", 1.6),
    "Entropy": ("onnxruntime Entropy", "#CC79A7", "^", 1.6),
    "Percentile": ("onnxruntime Percentile", "#009E73", "D", 1.6),
}


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
        for calibrator, (label, colour, marker, width) in STYLES.items():
            points = [
                (r["faces"], r[key] * factor) for r in result["rows"] if r["calibrator"] == calibrator and key in r
            ]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker, linewidth=width)
                axes.annotate(
                    _short(points[-1][1]), points[-1], (7, 0), textcoords="offset points", va="center", color=colour
                )
        _axes(axes, title, sorted({r["faces"] for r in result["rows"]}))
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


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"
