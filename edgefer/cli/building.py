"""``edgefer build-engine`` and ``edgefer retune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefer.cli import options
from edgefer.cli.tensorrt import builder_options, refuse_unused, show_audit


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
