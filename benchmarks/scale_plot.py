"""The picture of the scale benchmark: seconds and memory over faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefer.atomic import atomic_path
from edgefer.errors import require

STYLES = {"evaluate": ("evaluation", "#0072B2", "o"), "calibrate": ("calibration", "#D55E00", "s")}


def plot(result: dict[str, Any], path: Path) -> None:
    """Write the PNG.

    Raises:
        EdgeferError: matplotlib is not installed, or the file cannot be written.
    """
    matplotlib = require("matplotlib", "dev", "drawing the plot")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), dpi=150, layout="constrained")
    counts = sorted({row["faces"] for row in result["rows"]})
    for task, (label, colour, marker) in STYLES.items():
        rows = [row for row in result["rows"] if row["task"] == task]
        for axes, key, factor in ((left, "seconds", 1.0), (right, "peak_bytes", 1e-6)):
            axes.plot(
                counts, [row[key] * factor for row in rows], color=colour, marker=marker, label=label, linewidth=2
            )
        last = rows[-1]
        line = [last["seconds"] * count / last["faces"] for count in counts]
        left.plot(counts, line, color=colour, linewidth=0.8, linestyle=":")
    left.set_yscale("log")
    for axes, title in ((left, "Time, s (dotted: linear)"), (right, "Memory above the level, MB")):
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("Faces")
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(visible=True, which="major", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    right.set_ylim(bottom=0)
    left.legend(frameon=False)
    mark = "" if result["quiet"] else "; measured on a busy machine: times are not to be believed"
    figure.suptitle(f"{result['model']}, synthetic faces{mark}", fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    pyplot.close(figure)
