"""``edgefer models``."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the networks: input, parameters, multiply-accumulates, published accuracy, shipped weights."""
    from rich.console import Console
    from rich.table import Table

    from edgefer.models.registry import architecture, names
    from edgefer.models.weights import shipped

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "input", "parameters", "MACs", "published top-1", "weights"):
        table.add_column(heading, justify="right" if heading in ("parameters", "MACs") else "left")
    for name in names():
        entry = architecture(name)
        table.add_row(
            name,
            f"{entry.height}×{entry.width}×{entry.channels}",
            f"{entry.params[7]:,}",
            f"{entry.macs / 1e6:.1f} M",
            entry.published or "–",
            "ship" if shipped(name) else "–",
        )
    Console(width=None if Console().is_terminal else 100).print(table)
