"""``edgefer models``."""

from __future__ import annotations

import click

_RIGHT = ("params 7 · 8 classes", "MACs")


@click.command()
def models() -> None:
    """List the networks: input, parameters, multiply-accumulates, classes, weights, accuracy and who measured it.

    Parameters are given with 7 and 8 classes; any number from 2 works. Weights that ship need no --weights, and are
    known by the network's name where weights are asked for; those of FER+'s eight classes as NAME_ferplus, those for
    larger faces as NAME_SIZE.
    """
    from rich.console import Console
    from rich.table import Table

    from edgefer.models.registry import Architecture, architecture, names
    from edgefer.models.weights import shipped_for

    def accuracies(entry: Architecture) -> list[tuple[str, str]]:
        found = [(entry.published, "published")] if entry.published else []
        return ([*found, (entry.measured, "measured by us")] if entry.measured else found) or [("–", "–")]

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "input", *_RIGHT, "weights", "top-1", "source"):
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=heading == "name")
    for name in names():
        entry = architecture(name)
        (accuracy, source), *more = accuracies(entry)
        table.add_row(
            name,
            f"{entry.height}×{entry.width}×{entry.channels}",
            "\n".join(f"{count:,}" for count in entry.params.values()),
            f"{entry.macs / 1e6:,.1f} M",
            "\n".join(found.removeprefix(name) or "ship" for found in shipped_for(name)) or "–",
            accuracy,
            source,
        )
        for accuracy, source in more:
            table.add_row("", "", "", "", "", accuracy, source)
    Console(width=None if Console().is_terminal else 120).print(table)
