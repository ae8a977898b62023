"""Commands that make an engine of a model: build-engine, retune, calibrate and sensitivity."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
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


@click.command("build-engine")
@click.argument("model", type=options.PATH)
@click.option("--fp32", is_flag=True, help="Float 32.")
@click.option("--bf16", is_flag=True, help="bfloat16, where the CPU has it; with --int8, for what is not INT8.")
@click.option("--fp16", is_flag=True, help="Float 16, where the runtime has kernels for it.")
@click.option("--int8", is_flag=True, help="INT8; needs --calib, where no ranges ship.")
@click.option("--auto", is_flag=True, help="The fastest here whose accuracy on `val` holds; needs --calib.")
@click.option("--calib", help=f"Faces that set the ranges: the `calib` part of DATA. {options.DATA_HELP}")
@options.votes
@options.exclude
@options.reading
@click.option("--calib-faces", type=click.IntRange(min=1), help="How many, stratified.  [default: the recipe's]")
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy", "mse", "auto"]),
    help="How a histogram becomes a range; auto: what errs least on `val`.  [default: the recipe's]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the draw of faces.  [default: the recipe's]")
@options.per_class
@options.refine
@click.option(
    "--ranges", "table", type=options.PATH, help="A table that `edgefer calibrate` wrote, instead of --calib."
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    help="Points of top-1 on `val`. --auto: at most [default: 0.5]. --int8: certified, keeping layers in float.",
)
@click.option("--target", type=click.Choice(["cpu", "tensorrt", "tensorrt-rtx"]), default="cpu", show_default=True)
@click.option("--runtime", type=click.Choice(["onnxruntime", "openvino"]), help="Of a CPU.  [default: onnxruntime]")
@click.option("--onnx-only", is_flag=True, help="Stop at the quantised ONNX: what a host hands to a device.")
@click.option("--threads", type=click.IntRange(min=1), help="That candidates are timed with.  [default: 1]")
@click.option("--batch", type=click.IntRange(min=1), help="Faces a timed call.  [default: 1]")
@click.option("--no-rewrite", multiple=True, metavar="NAME", help="Leave out a rewrite pass; may be repeated.")
@click.option(
    "--for",
    "version",
    metavar="VERSION",
    help="TensorRT that the file is for: jetpack5, jetpack6, jetpack7, 8.6, 10.3, 11.  [default: the one here]",
)
@click.option("--strict", is_flag=True, help="Exit 1 where TensorRT made a layer another type than was asked for.")
@builder_options
@options.output
def build_engine(
    model: Path,
    output: Path,
    fp32: bool,
    bf16: bool,
    fp16: bool,
    int8: bool,
    auto: bool,
    calib: str | None,
    votes: str | None,
    exclude: str | None,
    reading: dict[str, Any],
    builder: dict[str, Any],
    strict: bool,
    refine: str | None,
    **settings: Any,
) -> None:
    """Turn an exported MODEL.onnx into an engine with its manifest."""
    precision = _precision({"fp32": fp32, "bf16": bf16, "fp16": fp16, "int8": int8, "auto": auto})
    given = {
        name: value for name, value in settings.items() if value is not None and value is not False and value != ()
    }
    if precision == "auto" and given["target"] != "cpu":
        raise click.UsageError("--auto chooses among what this CPU can run: leave out --target")
    everything = {**given, "calib": calib, "votes": votes, "exclude": exclude, "strict": strict, "refine": refine}
    refuse_unused(precision, given["target"], everything, builder)
    if given["target"] == "cpu":
        _refuse_unused(precision, everything)
    if reading and calib is None:
        raise click.UsageError(
            "--map, --classes, --root, --allow-missing and --no-boxes say how --calib is read: give it"
        )
    import edgefer

    if refine is not None:
        from edgefer.optimize.refiner import parse_steps

        given["refine"] = parse_steps(refine)
    if calib is not None:
        given["calib"] = edgefer.open_dataset(calib, votes=votes, exclude=exclude, **reading)
    if precision != "auto":
        result = edgefer.build_engine(model, output, precision=precision, builder=builder, **given)
    else:
        from edgefer.optimize.auto import build_auto

        del given["target"]
        result = build_auto(model, output, **given)
    _show(result)
    if strict and result.audit is not None and result.audit.differences:
        click.get_current_context().exit(1)


def _refuse_unused(precision: str, given: dict[str, Any]) -> None:
    """An option that would change nothing is an error: whoever gave it expects it to matter."""
    drawing = ("calib_faces", "per_class", "seed", "votes", "exclude")
    only_int8 = ("calib", *drawing, "method", "threads", "batch", "refine", "table", "max_drop")
    if given.get("calib") is not None and given.get("table") is not None:
        raise click.UsageError("--calib and --ranges both set the ranges: leave out one")
    unused = {
        "auto": ("runtime", "onnx_only", "table"),
        "int8": drawing if given.get("calib") is None else (),
        "float": only_int8,
    }["auto" if precision == "auto" else "int8" if precision.startswith("int8") else "float"]
    called = {"table": "ranges"}
    wrong = [f"--{called.get(name, name).replace('_', '-')}" for name in unused if given.get(name) is not None]
    if wrong:
        raise click.UsageError(
            f"{', '.join(wrong)} would change nothing with --{precision.replace('+', ' --')}: leave out"
        )


@click.command()
@click.argument("engine", type=options.PATH)
@options.threads
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Faces a timed call.")
def retune(engine: Path, threads: int, batch: int) -> None:
    """Time the candidates of an --auto ENGINE again, on this machine, and put the fastest in its place."""
    from edgefer.optimize.auto import retune as retune_engine

    _show(retune_engine(engine, threads=threads, batch=batch))


def _precision(flags: dict[str, bool]) -> str:
    asked = [name for name, given in flags.items() if given]
    if asked == ["bf16", "int8"]:
        return "int8+bf16"
    if asked == ["fp16", "int8"]:
        return "int8+fp16"
    if len(asked) != 1:
        raise click.UsageError(
            "say which precision: --fp32, --bf16, --fp16, --int8 (alone or with --bf16 for the rest) or --auto"
        )
    return asked[0]


def _show(result: Any) -> None:
    from edgefer.report.candidates import print_candidates

    if result.candidates:
        print_candidates([row.to_dict() for row in result.candidates])
    if result.audit is not None:
        show_audit(result.audit)
    click.echo(result.summary())


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--calib", required=True, help=f"Its `calib` part sets ranges, its `val` part judges. {options.DATA_HELP}"
)
@options.votes
@options.exclude
@options.reading
@options.recipe
@click.option("--runtime", type=click.Choice(["onnxruntime", "openvino"]), default="onnxruntime", show_default=True)
@click.option("--flavour", help="Where Q/DQ stand, of those that suit the runtime.  [default: the first]")
@click.option("--limit", type=click.IntRange(min=1), help="Judge on so many faces at most, stratified.")
@options.threads
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
@click.option("--png", type=options.PATH, help="Draw it as well.")
def sensitivity(
    model: Path,
    calib: str,
    votes: str | None,
    exclude: str | None,
    reading: dict[str, Any],
    refine: str | None,
    as_json: bool,
    png: Path | None,
    **settings: Any,
) -> None:
    """Rank the layers of MODEL.onnx by what INT8 costs in each alone."""
    if png is not None and png.suffix != ".png":
        raise click.UsageError(f"--png writes a .png, not {png}")
    import edgefer
    from edgefer.optimize.refiner import parse_steps
    from edgefer.optimize.sensitivity import sensitivity as measure
    from edgefer.report.sensitivity import draw_sensitivity, print_sensitivity

    faces = edgefer.open_dataset(calib, votes=votes, exclude=exclude, **reading)
    found = measure(model, faces, refine=None if refine is None else parse_steps(refine), **settings)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_sensitivity(found)
    if png is not None:
        draw_sensitivity(found, png)


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--calib", required=True, help=f"Faces that set the ranges: the `calib` part of DATA. {options.DATA_HELP}"
)
@options.votes
@options.exclude
@options.reading
@options.recipe
@options.output
def calibrate(
    model: Path,
    calib: str,
    votes: str | None,
    exclude: str | None,
    reading: dict[str, Any],
    refine: str | None,
    output: Path,
    **settings: Any,
) -> None:
    """Write the ranges of MODEL.onnx as text, for INT8 engines without any image (build-engine --ranges)."""
    import edgefer
    from edgefer.optimize.ranging import write_table
    from edgefer.optimize.refiner import parse_steps

    faces = edgefer.open_dataset(calib, votes=votes, exclude=exclude, **reading)
    table = write_table(model, faces, output, refine=None if refine is None else parse_steps(refine), **settings)
    click.echo(
        f"{output}: {len(table.ranges.histograms)} tensors over {table.calibration.n:,} faces, "
        f"{output.stat().st_size / 1e3:.0f} kB; for {table.architecture} with weights {table.weights_sha256[:12]}…"
    )
