"""A training run's curve as TensorBoard event files, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edgefer.atomic import check_writable
from edgefer.errors import require

TAGS = {"loss": "loss/fit", "val_loss": "loss/val", "top1": "top1/fit", "val_top1": "top1/val", "lr": "lr"}
"""Column of the curve → the name it has in TensorBoard."""


@contextmanager
def event_files(folder: Path | None) -> Iterator[Callable[[Mapping[str, float]], None] | None]:
    """What to call after each epoch with its entry of the curve, or None without a folder.

    A run that goes on after a kill does some epochs again: TensorBoard is told to forget what it has of them.

    Raises:
        EdgeferError: tensorboardX is missing, or ``folder`` cannot be written.
    """
    if folder is None:
        yield None
        return
    kind = require("tensorboardX", "plots", "writing TensorBoard's event files").SummaryWriter
    check_writable(folder / "events.out.tfevents")
    with ExitStack() as stack:
        writer: Any = None

        def on_epoch(row: Mapping[str, float]) -> None:
            nonlocal writer
            epoch = int(row["epoch"])
            if writer is None:
                writer = kind(str(folder), purge_step=epoch)
                stack.callback(writer.close)
            for column, tag in TAGS.items():
                writer.add_scalar(tag, row[column], epoch)
            writer.flush()

        yield on_epoch
