"""Files about a training run: curve and confusion matrix on ``val`` as CSV and PNG, TensorBoard's events."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import check_writable, write_bytes, write_text
from edgefer.data import FaceSet, aligned
from edgefer.engines.load import TorchBaseline, load_baseline
from edgefer.errors import require
from edgefer.measure.evaluate import evaluate

FILES = ("curve.csv", "curve.png", "confusion.csv", "confusion.png")
CURVE_COLUMNS = ("epoch", "loss", "top1", "val_loss", "val_top1", "lr")
TAGS = {"loss": "loss/fit", "val_loss": "loss/val", "top1": "top1/fit", "val_top1": "top1/val", "lr": "lr"}
"""Column of the curve → the name it has in TensorBoard."""


def require_plots(folder: Path) -> None:
    """Raise an EdgeferError if matplotlib is missing, which says what to install, or ``folder`` cannot be written."""
    require("matplotlib", "plots", "drawing curves")
    for name in FILES:
        check_writable(folder / name)


def write_curve(folder: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """Write ``curve.csv`` and ``curve.png``."""
    write_text(folder / FILES[0], _csv(CURVE_COLUMNS, [[row[column] for column in CURVE_COLUMNS] for row in curve]))
    write_bytes(folder / FILES[1], _drawn_curve(curve))


def write_training_report(
    folder: Path, curve: Sequence[Mapping[str, float]], weights: Path, faces: FaceSet, factory: str | None = None
) -> tuple[Path, ...]:
    """Write ``curve.csv``, ``curve.png``, ``confusion.csv`` and ``confusion.png`` of ``weights`` on ``val``.

    ``factory`` is that of a network of one's own.

    Raises:
        EdgeferError: matplotlib is missing, or a file cannot be written.
    """
    require_plots(folder)
    with load_baseline(weights if factory is None else TorchBaseline(factory, weights)) as network:
        answers = evaluate(network, aligned(faces.split("val"), network.contract.labels))
    confusion = answers.confusion()
    paths = tuple(folder / name for name in FILES)
    write_curve(folder, curve)
    rows = [[label, *counts] for label, counts in zip(answers.classes, confusion.tolist(), strict=True)]
    write_text(paths[2], _csv(("true \\ predicted", *answers.classes), rows))
    write_bytes(paths[3], _drawn_confusion(confusion, answers.classes, f"{weights.stem} on val"))
    return paths


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _drawn_curve(curve: Sequence[Mapping[str, float]]) -> bytes:
    figure, (losses, tops) = _figure(10, 4, columns=2)
    epochs = [row["epoch"] for row in curve]
    for axes, columns, title in (
        (losses, {"loss": "fit, augmented", "val_loss": "val"}, "loss"),
        (tops, {"top1": "fit, augmented", "val_top1": "val"}, "top-1, %"),
    ):
        factor = 100 if title.startswith("top") else 1
        for column, label in columns.items():
            axes.plot(
                epochs, [factor * row[column] for row in curve], label=label, marker="." if len(epochs) < 40 else ""
            )
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def _drawn_confusion(confusion: NDArray[np.int64], classes: Sequence[str], title: str) -> bytes:
    """Rows are what faces are, columns what they were taken for; each row's shares add up to 100 %."""
    figure, (axes,) = _figure(1.5 + 0.75 * len(classes), 1.2 + 0.7 * len(classes), columns=1)
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(shares.shape):
        colour = "white" if shares[row, column] > 55 else "black"
        axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), [f"{c} ({n:,})" for c, n in zip(classes, confusion.sum(axis=1), strict=True)])
    axes.set_xlabel("predicted, % of the row")
    axes.set_title(title)
    return _png(figure)


def _figure(width: float, height: float, *, columns: int) -> tuple[Any, Any]:
    """A figure that no window system is asked for."""
    figure = require("matplotlib.figure", "plots", "drawing curves").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


@contextmanager
def after_each_epoch(
    plots: Path | None, tensorboard: Path | None
) -> Iterator[Callable[[Sequence[Mapping[str, float]]], None]]:
    """What to call after each epoch with the curve so far: it draws it and writes TensorBoard's events.

    A run that goes on after a kill does some epochs again: TensorBoard is told to forget what it has of them.

    Args:
        plots: the folder of ``curve.csv`` and ``curve.png``, or None.
        tensorboard: the folder of the event files, or None.

    Raises:
        EdgeferError: matplotlib or tensorboardX is missing, or a folder cannot be written.
    """
    kind: Any = None
    if plots is not None:
        require_plots(plots)
    if tensorboard is not None:
        kind = require("tensorboardX", "plots", "writing TensorBoard's event files").SummaryWriter
        check_writable(tensorboard / "events.out.tfevents")
    with ExitStack() as stack:
        writer: Any = None

        def on_epoch(curve: Sequence[Mapping[str, float]]) -> None:
            nonlocal writer
            if plots is not None:
                write_curve(plots, curve)
            if kind is None:
                return
            row, epoch = curve[-1], int(curve[-1]["epoch"])
            if writer is None:
                writer = kind(str(tensorboard), purge_step=epoch)
                stack.callback(writer.close)
            for column, tag in TAGS.items():
                writer.add_scalar(tag, row[column], epoch)
            writer.flush()

        yield on_epoch
