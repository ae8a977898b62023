"""Options of TensorRT's builder, and its audit on the screen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from edgefer.cli import options

_BUILDER = (
    click.option("--workspace", metavar="SIZE", help="Scratch memory: 512M, 2G.  [default: half of what is free]"),
    click.option("--min-batch", type=click.IntRange(min=1), help="Fewest faces a call.  [default: 1]"),
    click.option("--opt-batch", type=click.IntRange(min=1), help="Faces it is tuned for.  [default: the fewest]"),
    click.option("--max-batch", type=click.IntRange(min=1), help="Most faces a call.  [default: 32]"),
    click.option("--shapes", metavar="faces:NxHxWxC", help="One fixed batch size instead."),
    click.option("--timing-cache", type=options.PATH, help="Kernel timings, read and written: later builds are quick."),
    click.option("--dla", type=click.IntRange(min=0), metavar="CORE", help="Run on this DLA core of a Jetson."),
    click.option("--gpu-fallback", is_flag=True, help="With --dla: what DLA cannot run goes to the GPU."),
    click.option("--hardware-compat", is_flag=True, help="An engine for every GPU from Ampere on; not on a Jetson."),
    click.option("--version-compatible", is_flag=True, help="An engine for later TensorRT of the same major version."),
    click.option("--refit", is_flag=True, help="An engine whose weights can be changed."),
    click.option("--opt-level", type=click.IntRange(0, 5), help="How long the builder searches.  [default: 3]"),
    click.option("--sparsity", is_flag=True, help="Sparse kernels, for weights that are 2:4."),
    click.option(
        "--calibrator",
        type=click.Choice(["entropy", "minmax"]),
        help="Implicit INT8 by TensorRT's own calibrator instead of Q/DQ; before 11 only.",
    ),
    click.option("--calib-cache", type=options.PATH, help="With --calibrator: a table of ranges instead of faces."),
    click.option("--verbose", is_flag=True, help="All of the builder's log."),
)
_OF_A_CPU = ("runtime", "threads", "batch")
_OF_INT8 = (
    *("calib", "votes", "exclude", "calib_faces", "method", "seed"),
    *("max_drop", "per_class", "refine", "table"),
)
_OF_RANGES = ("method", "refine", "table")
"""Those of them that matter without faces too, where ranges come from a table."""

_FLAGS = {"version": "--for", "table": "--ranges"}
LONGEST_TABLE = 60
"""Rows that are printed; the manifest holds them all."""


def builder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the builder's options; the command gets those that were given as ``builder``, by name."""
    names = [name for option in _BUILDER for name in _names(option)]

    @functools.wraps(command)
    def with_builder(*arguments: Any, **others: Any) -> Any:
        given = {name: others.pop(name) for name in names}
        builder = {name: value for name, value in given.items() if value is not None and value is not False}
        return command(*arguments, builder=builder, **others)

    decorated: Callable[..., Any] = with_builder
    for option in reversed(_BUILDER):
        decorated = option(decorated)
    return decorated


def _names(option: Callable[..., Any]) -> list[str]:
    probe = option(lambda: None)
    return [str(parameter.name) for parameter in probe.__click_params__]


def refuse_unused(precision: str, target: str, given: dict[str, Any], builder: dict[str, Any]) -> None:
    """An option that would change nothing is an error: whoever gave it expects it to matter."""
    if target == "cpu":
        wrong = [*builder, *(name for name in ("version", "strict") if given.get(name))]
        reason = "is for --target tensorrt or tensorrt-rtx"
    else:
        wrong = [name for name in _OF_A_CPU if given.get(name) is not None]
        reason = f"would change nothing with --target {target}"
        if given.get("onnx_only") and given.get("strict"):
            wrong, reason = [*wrong, "strict"], "needs an engine to audit, and --onnx-only builds none"
        if not wrong and not precision.startswith("int8"):
            wrong = [name for name in _OF_INT8 if given.get(name) is not None]
            reason = f"would change nothing with --{precision}"
        elif not wrong and given.get("calib") is None:
            wrong = [name for name in _OF_INT8 if name not in _OF_RANGES and given.get(name) is not None]
            reason = "would change nothing without --calib"
    if wrong:
        flags = ", ".join(_FLAGS.get(name, f"--{name.replace('_', '-')}") for name in wrong)
        raise click.UsageError(f"{flags} {reason}: leave out")


def show_audit(audit: Any) -> None:
    """Print asked against got, and what is not as it was asked."""
    from rich.console import Console
    from rich.table import Table

    out = Console()
    rows = audit.layers if len(audit.layers) <= LONGEST_TABLE else [r for r in audit.layers if r.asked != r.got]
    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "asked", "got", "from"):
        table.add_column(heading, no_wrap=heading != "from", overflow="fold" if heading == "from" else "ellipsis")
    for row in rows[:LONGEST_TABLE]:
        table.add_row(row.kind, row.asked, row.got, ", ".join(row.origins))
    if not out.is_terminal:
        out = Console(file=out.file, width=110)
    out.print(table)
    if len(rows) != len(audit.layers):
        click.echo(f"{len(audit.layers)} layers, the manifest lists them all; above are those that differ")
    differ = audit.differences
    click.echo(
        f"asked against got: {len(differ)} nodes differ, {len(audit.reformats)} reformats, "
        f"{len(audit.stray)} stray Q/DQ"
    )
    for node in differ[:10]:
        click.echo(f"  {node.op} '{node.layer}': asked {node.asked}, got {node.got}")
    if len(differ) > 10:
        click.echo(f"  … and {len(differ) - 10} more")
