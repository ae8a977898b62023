"""A training run's curve as TensorBoard event files, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgefer.errors import require

TAGS = {"loss": "loss/fit", "val_loss": "loss/val", "top1": "top1/fit", "val_top1": "top1/val", "lr": "lr"}
"""Column of the curve → the name it has in TensorBoard."""


@contextmanager
def event_files(folder: Path | None) -> Iterator[Callable[[Mapping[str, float]], None] | None]:
    """What to call after each epoch with its entry of the curve, or None without a folder.

    Raises:
        EdgeferError: tensorboardX is missing.
    """
    if folder is None:
        yield None
        return
    writer = require("tensorboardX", "plots", "writing TensorBoard's event files").SummaryWriter(str(folder))
    try:

        def on_epoch(row: Mapping[str, float]) -> None:
            for column, tag in TAGS.items():
                writer.add_scalar(tag, row[column], int(row["epoch"]))
            writer.flush()

        yield on_epoch
    finally:
        writer.close()
