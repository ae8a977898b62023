"""Commands that make an engine of a model: build-engine, retune, calibrate and sensitivity."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options
from edgefer.cli.help import command, option, section
from edgefer.runtimes import CPU, REFERENCE, TENSORRT_RTX, for_target, targets

if TYPE_CHECKING:
    from edgefer.manifest import Manifest

_BUILDER = (
    option("--workspace", metavar="SIZE", help="Scratch memory, such as 512M or 2G.  [default: half of what is free]"),
    option("--min-batch", type=options.Whole("batch"), help="Smallest batch size.  [default: 1]"),
    option("--opt-batch", type=options.Whole("batch"), help="Batch size to tune for.  [default: the smallest]"),
    option("--max-batch", type=options.Whole("batch"), help="Largest batch size.  [default: 32]"),
    option("--shapes", metavar="faces:NxHxWxC", help="Use one fixed batch size instead."),
    option("--timing-cache", type=options.PATH, help="Read and write kernel timings here: later builds are faster."),
    option("--dla", type=click.IntRange(min=0), metavar="CORE", help="Run on this DLA core of a Jetson."),
    option("--gpu-fallback", is_flag=True, help="Run on the GPU what the DLA core cannot run."),
    option("--hardware-compat", is_flag=True, help="Build for every GPU from Ampere on (not on a Jetson)."),
    option("--version-compatible", is_flag=True, help="Build for later TensorRT of the same major version."),
    option("--refit", is_flag=True, help="Allow the engine's weights to be changed later."),
    option("--opt-level", type=click.IntRange(0, 5), help="How long the builder searches, 0 to 5.  [default: 3]"),
    option("--sparsity", is_flag=True, help="Use sparse kernels; the weights must be 2:4 sparse."),
    option(
        "--calibrator",
        type=click.Choice(["entropy", "minmax"]),
        help="Use TensorRT's own calibrator instead of Q/DQ (before TensorRT 11).",
    ),
    option("--calib-cache", type=options.PATH, help="Calibration cache for --calibrator, instead of faces."),
    option("--weak-typing", is_flag=True, help="Let TensorRT choose between FP32 and FP16 (before TensorRT 11)."),
    option("--verbose", is_flag=True, help="Print the builder's whole log."),
)
LONGEST_TABLE = 60
"""Rows that are printed; the manifest holds them all."""


def builder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the builder's options; the command gets those that were given as ``builder``, by name."""
    names = [name for add in _BUILDER for name in _names(add)]

    @functools.wraps(function)
    def with_builder(*arguments: Any, **others: Any) -> Any:
        given = {name: others.pop(name) for name in names}
        builder = {name: value for name, value in given.items() if value is not None and value is not False}
        return function(*arguments, builder=builder, **others)

    decorated: Callable[..., Any] = with_builder
    for add in reversed(_BUILDER):
        decorated = add(decorated)
    return decorated


def _names(add: Callable[..., Any]) -> list[str]:
    probe = add(lambda: None)
    return [str(parameter.name) for parameter in probe.__click_params__]


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


@command(
    "build-engine",
    examples=(
        "edgefer build-engine model.onnx --int8 --calib photos/ -o model.int8.onnx",
        "edgefer build-engine model.onnx --auto --calib faces.npz -o model.auto.onnx",
        "edgefer build-engine model.onnx --int8 --fp16 --target tensorrt \\\n"
        "      --for jetpack6 --onnx-only --calib faces.npz -o model.trt.onnx",
    ),
)
@click.argument("model", type=options.PATH)
@section(
    "Precision (choose one; --int8 may be combined with --fp16 or --bf16)",
    option("--fp32", is_flag=True, help="Keep every layer in float 32."),
    option("--bf16", is_flag=True, help="Use bfloat16, where the CPU has it."),
    option("--fp16", is_flag=True, help="Use float 16, where the runtime has kernels for it."),
    option("--int8", is_flag=True, help="Use INT8; needs --calib unless a calibration table ships."),
    option("--auto", is_flag=True, help="Ship the fastest engine whose accuracy holds; needs --calib, labelled."),
)
@options.quantisation(
    options.calibration_table,
    option(
        "--max-drop",
        type=options.POINTS,
        metavar="POINTS",
        help="Largest accuracy drop on `val`, points of top-1. With --int8 it is certified: layers are kept in "
        "float until the drop holds.  [default: 0.5 with --auto]",
    ),
    data="Calibrate on DATA: images without labels and DATA:SPLIT are used whole, of a set without splits all but its "
    "`test` part, of others the `calib` part.",
    methods=("minmax", "percentile", "entropy", "mse", "auto"),
)
@section(
    "Target",
    option("--target", type=click.Choice(targets()), default=CPU, show_default=True, help="What the engine runs on."),
    option("--runtime", type=click.Choice([*for_target(CPU)]), help=f"CPU runtime.  [default: {REFERENCE.name}]"),
    option("--threads", type=options.Whole("threads"), help="Threads used when timing candidates.  [default: 1]"),
    option("--batch", type=options.Whole("batch"), help="Batch size used when timing candidates.  [default: 1]"),
    option(
        "--for",
        "version",
        metavar="VERSION",
        help="TensorRT version or JetPack to write for, such as jetpack6 or 10.3.  [default: the installed one]",
    ),
    option("--onnx-only", is_flag=True, help="Stop at the quantised ONNX file, which a device builds from."),
    options.no_rewrite,
)
@section(
    "TensorRT builder",
    builder_options,
    option("--strict", is_flag=True, help="Exit with 1 if a layer did not get the precision asked for."),
)
@options.output
def build_engine(  # noqa: PLR0913 - a click command's options
    model: Path,
    output: Path,
    fp32: bool,
    bf16: bool,
    fp16: bool,
    int8: bool,
    auto: bool,
    calibration: options.CalibrationOptions,
    target: str,
    onnx_only: bool,
    no_rewrite: tuple[str, ...],
    builder: dict[str, Any],
    strict: bool,
    **goal: Any,
) -> None:
    """Turn MODEL.onnx into an engine with its manifest.

    MODEL.onnx is what `edgefer export` or `edgefer adopt` wrote.
    """
    import edgefer
    from edgefer.engines.tensorrt.compat import import_tensorrt
    from edgefer.graph.onnx_file import load_model
    from edgefer.optimize.prepared import read_float_model
    from edgefer.optimize.settings import BuildTarget, refuse_idle

    precision = _precision({"fp32": fp32, "bf16": bf16, "fp16": fp16, "int8": int8, "auto": auto})
    if strict and (target == "cpu" or onnx_only):
        refuse_idle(["--strict"], f"with {'--onnx-only' if onnx_only else '--target cpu'}: it audits TensorRT's engine")
    asked = BuildTarget(target, builder=builder, **goal)
    calibration.check(asked, precision, onnx_only=onnx_only)
    (read_float_model if asked.name == CPU else load_model)(model)  # a wrong file is said before a data set is read
    if asked.name != CPU and not onnx_only:
        import_tensorrt(rtx=asked.name == TENSORRT_RTX.name)  # and so is a missing package
    opened = calibration.opened(asked, precision, onnx_only=onnx_only)
    result = edgefer.build_engine(
        model,
        output,
        precision=precision,
        quantisation=opened,
        target=asked,
        onnx_only=onnx_only,
        no_rewrite=no_rewrite,
    )
    _show(result)
    if result.manifest is not None:
        data = _data_to_measure_on(calibration, opened.data, result.manifest)
        page = output.with_suffix(".html")
        options.suggest("bench", output, "--data", data, "--baseline", model, "--html", page)
    if strict and (result.audit is None or result.audit.differences):
        click.get_current_context().exit(1)


def _data_to_measure_on(calibration: options.CalibrationOptions, faces: Any, manifest: Manifest) -> str:
    """``DATA`` of a `bench` that has enough faces left; the word, and on stderr the reason, where none is known."""
    from edgefer.optimize.given_faces import left_to_measure
    from edgefer.progress import announce, number_of
    from edgefer.report.evaluated import MIN_LEFT

    if faces is None or not faces.labelled:
        return "DATA"
    given, exclude = str(calibration.settings.data), calibration.exclude
    whole = options.without_split(given)
    if exclude is not None:
        return exclude
    if faces.picked not in (None, "all") or (faces.picked is None and (faces.undivided or "test" in faces.splits)):
        return whole
    if faces.picked is None:
        announce(f"note: {given} declares no test faces: `bench` needs others that are labelled")
        return "DATA"
    record = manifest.calibration
    left = left_to_measure(faces, {*(() if record is None else record.face_hashes), *manifest.choice_faces})
    if left >= MIN_LEFT:
        return whole
    announce(
        f"note: {given} has {number_of(left, 'distinct test face')} that neither calibrated nor chose, and `bench` "
        f"needs {MIN_LEFT}: measure on other labelled faces, or calibrate on fewer (--calib {whole}, or --calib-faces)"
    )
    return "DATA"


@command(
    examples=(
        "edgefer retune model.auto.onnx",
        "edgefer retune model.auto.onnx --threads 2 --batch 8",
    )
)
@click.argument("engine", type=options.PATH)
@options.threads
@option("--batch", type=options.Whole("batch"), default=1, show_default=True, help="Batch size to time with.")
def retune(engine: Path, threads: int, batch: int) -> None:
    """Choose again among the candidates of an --auto ENGINE.

    The candidates are timed on this machine, and the fastest takes ENGINE's place.
    """
    from edgefer.optimize.build import retune as retune_engine

    _show(retune_engine(engine, threads=threads, batch=batch))


def _precision(flags: dict[str, bool]) -> str:
    asked = [name for name, given in flags.items() if given]
    if asked == ["bf16", "int8"]:
        return "int8+bf16"
    if asked == ["fp16", "int8"]:
        return "int8+fp16"
    if len(asked) != 1:
        given = f"{', '.join(f'--{name}' for name in asked)} exclude each other: " if asked else ""
        raise click.UsageError(
            f"{given}say which precision: --fp32, --bf16, --fp16, --int8 (alone or with --bf16 or --fp16) or --auto"
        )
    return asked[0]


def _show(result: Any) -> None:
    from edgefer.report.optimization import print_candidates

    if result.candidates:
        print_candidates([row.to_dict() for row in result.candidates])
    if result.audit is not None:
        show_audit(result.audit)
    click.echo(result.summary())


@command(
    examples=(
        "edgefer sensitivity model.onnx --calib faces.npz",
        "edgefer sensitivity model.onnx --calib faces.npz --limit 500 --png layers.png",
    )
)
@click.argument("model", type=options.PATH)
@options.quantisation(data="Required: calibrate and evaluate on DATA, on different faces.")
@section(
    "Evaluation",
    option(
        "--runtime",
        type=click.Choice([*for_target(CPU)]),
        default=REFERENCE.name,
        show_default=True,
        help="CPU runtime.",
    ),
    option(
        "--scheme",
        metavar="NAME",
        help="Q/DQ scheme, such as x86-vnni or openvino-all.  [default: the runtime's first on this CPU]",
    ),
    option("--limit", type=options.Whole("count"), help="Evaluate on at most N faces, stratified."),
    options.threads,
    options.no_rewrite,
)
@section(
    "Output", options.as_json, option("--png", type=options.PATH, help="Write the ranking as a picture too (PNG).")
)
def sensitivity(
    model: Path, calibration: options.CalibrationOptions, runtime: str, as_json: bool, png: Path | None, **settings: Any
) -> None:
    """Rank the layers of MODEL.onnx by what INT8 costs in each."""
    from edgefer.optimize.sensitivity import sensitivity as measure
    from edgefer.optimize.settings import BuildTarget
    from edgefer.report.optimization import check_picture, draw_sensitivity, print_sensitivity

    if png is not None:
        check_picture(png)
    settings_of_int8 = calibration.opened(BuildTarget(CPU, runtime), "int8", command="sensitivity")
    found = measure(model, settings_of_int8, runtime=runtime, **settings)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_sensitivity(found)
    if png is not None:
        draw_sensitivity(found, png)
        options.tell_written(png)


@command(
    examples=(
        "edgefer calibrate model.onnx --calib faces.npz -o model.calibration.jsonl",
        "edgefer calibrate model.onnx --calib f.npz:all --method mse -o mse.jsonl",
    )
)
@click.argument("model", type=options.PATH)
@options.quantisation(data="Required: calibrate on DATA, as build-engine does.")
@options.no_rewrite
@options.output
def calibrate(model: Path, calibration: options.CalibrationOptions, output: Path, no_rewrite: tuple[str, ...]) -> None:
    """Write a calibration table, to build INT8 without images.

    `build-engine --calibration-table` takes it: ranges travel as text that can be reviewed, and no image has to.
    """
    from edgefer.optimize.calibration_table import check_table_path
    from edgefer.optimize.prepared import read_float_model, write_table

    check_table_path(output)
    calibration.check("cpu", "int8", command="calibrate")
    read_float_model(model)  # a wrong file is said before a data set is read
    table = write_table(model, output, calibration.opened("cpu", "int8", command="calibrate"), no_rewrite=no_rewrite)
    click.echo(
        f"{output}: {len(table.ranges.tensors)} tensors over {table.calibration.n:,} faces, "
        f"{output.stat().st_size / 1e3:.0f} kB; for {table.architecture} with weights {table.weights_sha256[:12]}…"
    )
