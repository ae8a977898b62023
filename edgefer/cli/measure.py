"""Commands that measure: bench, report, compare, gate and sweep."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options
from edgefer.cli.help import command, option, section

if TYPE_CHECKING:
    from rich.console import Console

    from edgefer.data import ReadSettings
    from edgefer.report.report import Report


def _forms(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    from edgefer.engines.load import parse_forms

    return None if value is None else parse_forms(value)


@command(
    examples=(
        "edgefer bench model.int8.onnx --data fer2013.csv --baseline mini_xception",
        "edgefer bench a.onnx b.onnx --data t.npz --baseline model.onnx --json a.json",
        "edgefer bench n.int8.onnx --data t.npz --baseline nets:Net --weights n.pth",
    )
)
@click.argument("engines", nargs=-1, required=True, type=options.PATH)
@section(
    "Faces and baseline",
    option("--data", metavar="DATA", required=True, help=f"Evaluate on the `test` part of DATA. {options.DATA_HELP}"),
    option(
        "--baseline",
        metavar="WHAT",
        required=True,
        help="A network's name, weights, PKG.MOD:FACTORY, an engine or predictions.npz.",
    ),
    option("--weights", type=options.PATH, help="Weights of a --baseline that is a network's name or a factory."),
    option(
        "--contract",
        type=options.PATH,
        help="Contract of a --baseline that carries none, as TOML.  [default: the first engine's]",
    ),
    options.device("Where a PyTorch baseline runs.  [default: the GPU that an engine runs on, else cpu]"),
    option(
        "--pytorch",
        metavar="LIST",
        callback=_forms,
        help="Run it in other ways too, a row each: fp16, channels-last, compile, graph or some joined by +, "
        "comma-separated; all or none.  [default: fp16,graph on a GPU, none on a CPU]",
    ),
    option("--limit", type=options.Whole("count"), help="Evaluate on at most N faces, sampled at random."),
    options.seed,
    options.votes,
    options.reading,
)
@section(
    "Timing",
    option("--batch", type=options.Whole("batch"), default=1, show_default=True, help="Batch size."),
    options.threads,
    option(
        "--scope",
        type=click.Choice(["compute", "e2e", "paced"]),
        default="e2e",
        show_default=True,
        help="compute: the runtime's call alone. e2e: uint8 faces in, checked scores out. paced: e2e at --fps.",
    ),
    option(
        "--seconds",
        "--duration",
        "seconds",
        type=click.FloatRange(min=0.1),
        default=10.0,
        show_default=True,
        help="Time for all engines together; ten rounds are made in any case.",
    ),
    option("--iterations", type=options.Whole("count"), help="Timed calls per engine, instead of --seconds."),
    option(
        "--warm-up",
        type=click.FloatRange(min=0),
        default=2.0,
        show_default=True,
        help="Longest warm-up of an engine, in seconds.",
    ),
    option(
        "--fps",
        type=click.FloatRange(min=0.01),
        default=30.0,
        show_default=True,
        help="Frames per second for --scope paced.",
        needs="--scope paced",
    ),
    option(
        "--deadline",
        default=None,
        metavar="TIME",
        needs="--scope paced",
        help="Deadline for --scope paced, such as 20ms.  [default: 1/fps]",
    ),
    option(
        "--telemetry/--no-telemetry",
        default=True,
        help="Watch clock, temperature, memory and power.  [default: telemetry]",
    ),
)
@section(
    "Evaluation",
    option(
        "--margin",
        type=options.POSITIVE_POINTS,
        metavar="POINTS",
        default=0.5,
        show_default=True,
        help="Accuracy drop that is acceptable: the report says whether 'no worse than that' is shown.",
    ),
    option(
        "--processes",
        type=options.Whole("processes"),
        default=1,
        show_default=True,
        help="Processes that share the evaluation.",
    ),
    option("--cache", type=options.PATH, metavar="FOLDER", help="Keep finished parts here, so that a run can resume."),
)
@section(
    "Output",
    options.json_file,
    option("--html", type=options.PATH, help="Write the report as one page with charts."),
    option("--with-images", is_flag=True, help="Show in --html the faces whose answer changed."),
    option("--markdown", type=options.PATH, help="Write the report as Markdown."),
    option("--samples", type=options.PATH, help="Write every timed call as .csv or .npz."),
    option("--save-predictions", type=options.PATH, help="Write the first engine's answers as a baseline (npz)."),
    option("--save-baseline", type=options.PATH, help="Write the baseline's answers as a baseline (npz)."),
)
def bench(  # noqa: PLR0913 - a click command's options
    engines: tuple[Path, ...],
    data: str,
    votes: str | None,
    reading: ReadSettings | None,
    baseline: str,
    weights: Path | None,
    contract: Path | None,
    margin: float,
    deadline: str | None,
    save_predictions: Path | None,
    save_baseline: Path | None,
    samples: Path | None,
    markdown: Path | None,
    html: Path | None,
    with_images: bool,
    json_file: Path | None,
    processes: int,
    cache: Path | None,
    telemetry: bool,
    **timing: Any,
) -> None:
    """Measure latency and accuracy of ENGINES against a baseline.

    Engines and baseline are timed in interleaved rounds, and their answers on the test faces are paired.
    """
    import edgefer
    from edgefer.engines.load import TorchBaseline, require_packages
    from edgefer.report.bench import check_samples_path, write_samples
    from edgefer.report.gate import milliseconds

    for flag, path in (("--save-predictions", save_predictions), ("--save-baseline", save_baseline)):
        if path is not None and path.suffix != ".npz":
            raise click.UsageError(f"{flag} writes an .npz, not {path}")
    if with_images and html is None:
        raise click.UsageError("--with-images goes with --html FILE")
    if samples is not None:
        check_samples_path(samples)
    _check_report_names(markdown, html)
    _check_outputs([save_predictions, save_baseline, samples, json_file, markdown, html])
    within = None if deadline is None else milliseconds(deadline)
    settings = edgefer.BenchSettings(deadline_ms=within, margin_pp=margin, **timing)
    compared = TorchBaseline(baseline, weights, contract) if weights or contract else baseline
    require_packages(engines, compared)
    faces = edgefer.open_dataset(data, votes=votes, reading=reading)
    found = edgefer.benchmark(engines, faces, compared, settings, processes=processes, cache=cache, telemetry=telemetry)
    _print(found, json_file)
    _write_json(found.to_json(), json_file)
    if found.raw is not None:
        if save_predictions is not None:
            found.raw.predictions[1].save(save_predictions)
        if save_baseline is not None:
            found.raw.predictions[0].save(save_baseline)
        if samples is not None:
            write_samples(found.raw.rounds_ms, samples)
    options.tell_written(save_predictions, save_baseline, samples)
    _write(found, markdown, html, with_images)
    if json_file != options.STDOUT:
        options.suggest("camera", engines[0], "--source", "0")


def _check_report_names(markdown: Path | None, html: Path | None) -> None:
    options.check_suffix("--markdown", markdown, ".md", ".markdown")
    options.check_suffix("--html", html, ".html", ".htm")


def _check_outputs(paths: Sequence[Path | None]) -> None:
    """Before anything is measured: a report that cannot be written is minutes lost."""
    from edgefer.atomic import check_writable

    given = [path for path in paths if path is not None and path != options.STDOUT]
    for path in given:
        check_writable(path)
        if sum(path.resolve() == other.resolve() for other in given) > 1:
            raise click.UsageError(f"two of the files to write are the same: {path}")


def _console(json_file: Path | None) -> Console:
    """Where a table goes: stdout, or stderr where stdout has the JSON."""
    from rich.console import Console

    return Console(stderr=json_file == options.STDOUT)


def _print(found: Report, json_file: Path | None = None) -> None:
    from edgefer.report.terminal import print_details, print_report

    out = _console(json_file)
    print_report(found, out)
    print_details(found, out)


def _write_json(content: object, json_file: Path | None) -> None:
    from edgefer.atomic import write_text

    text = json.dumps(content, indent=2, ensure_ascii=False)
    if json_file == options.STDOUT:
        click.echo(text)
    elif json_file is not None:
        write_text(json_file, text + "\n")
        options.tell_written(json_file)


def _write(found: Report, markdown: Path | None, html: Path | None, with_images: bool = False) -> None:
    from edgefer.atomic import write_text

    if markdown is not None:
        from edgefer.report.markdown import markdown as as_markdown

        write_text(markdown, as_markdown(found))
    if html is not None:
        from edgefer.report.page import page

        write_text(html, page(found, with_images=with_images))
    options.tell_written(markdown, html)


@command(
    examples=(
        "edgefer report report.json",
        "edgefer report report.json --html report.html --markdown report.md",
    )
)
@click.argument("report", type=options.PATH)
@option("--html", type=options.PATH, help="Write the report as one page with charts.")
@option("--markdown", type=options.PATH, help="Write the report as Markdown.")
def report(report: Path, html: Path | None, markdown: Path | None) -> None:
    """Show a report, or write it as a page or as Markdown.

    REPORT is what `edgefer bench --json FILE` wrote, on a device for example. Without --html and --markdown it is
    printed.
    """
    from edgefer.report.report import read_report

    _check_report_names(markdown, html)
    _check_outputs([html, markdown])
    found = read_report(report)
    _write(found, markdown, html)
    if html is None and markdown is None:
        _print(found)


@command(
    examples=(
        "edgefer gate report.json --max-drop 0.5 --min-top1 60% --max-p95 5ms",
        "edgefer gate report.json --max-drop 0.5 --against main.json --junit gate.xml",
    )
)
@click.argument("report", type=options.PATH)
@section(
    "Limits",
    option(
        "--max-drop", type=options.POINTS, metavar="POINTS", help="Largest drop of top-1 against the report's baseline."
    ),
    option("--max-p50", metavar="TIME", help="Largest median latency, such as 5ms or 800us."),
    option("--max-p95", metavar="TIME", help="Largest 95th percentile of the latency."),
    option("--max-p99", metavar="TIME", help="Largest 99th percentile of the latency."),
    option("--min-agreement", type=options.SHARE, metavar="%", help="Smallest share of the baseline's answers: 98%."),
    option("--min-top1", type=options.SHARE, metavar="%", help="Smallest top-1, such as 60% or 0.6."),
    option("--min-speedup", type=click.FloatRange(min=0), metavar="X", help="Smallest speed-up over the baseline."),
    option("--max-misses", type=options.SHARE, metavar="%", help="Largest share of missed deadlines (paced runs)."),
)
@section(
    "Limits against another report",
    option("--against", type=options.PATH, metavar="REPORT", help="The other report, such as the main branch's."),
    option(
        "--max-slowdown",
        needs="--against",
        type=options.ANY_SHARE,
        metavar="%",
        default="5%",
        show_default=True,
        help="Largest increase of the median latency.",
    ),
    option(
        "--max-regression",
        type=options.POINTS,
        metavar="POINTS",
        needs="--against",
        help="Largest drop of top-1.  [default: that of --max-drop]",
    ),
)
@section(
    "Output",
    option("--engine", "engines", multiple=True, metavar="NAME", help="Check only this engine (repeatable)."),
    option("--junit", type=options.PATH, help="Write the checks as JUnit XML."),
    options.json_file,
)
def gate(  # noqa: PLR0913 - a click command's options
    report: Path,
    max_drop: float | None,
    max_p50: str | None,
    max_p95: str | None,
    max_p99: str | None,
    min_agreement: float | None,
    min_top1: float | None,
    min_speedup: float | None,
    max_misses: float | None,
    against: Path | None,
    max_slowdown: float,
    max_regression: float | None,
    engines: tuple[str, ...],
    junit: Path | None,
    json_file: Path | None,
) -> None:
    """Check a report against limits: PASS, FAIL or INCONCLUSIVE.

    The exit code is 0, 1 or 3. REPORT is what `edgefer bench --json FILE` wrote.

    A limit passes if the whole 95 % interval keeps it, and fails if none of it does.
    """
    from edgefer.report.gate import EXIT_CODES, Limits, milliseconds, overall, print_checks, run_gate, write_junit
    from edgefer.report.report import read_report

    times = (("50", max_p50), ("95", max_p95), ("99", max_p99))
    limits = Limits(
        max_drop_pp=max_drop,
        max_ms=tuple((percent, milliseconds(text)) for percent, text in times if text is not None),
        min_agreement=min_agreement,
        min_top1=min_top1,
        min_speedup=min_speedup,
        max_misses=max_misses,
        max_slowdown=max_slowdown,
        max_regression_pp=max_regression,
    )
    options.check_suffix("--junit", junit, ".xml")
    _check_outputs([junit, json_file])
    _refuse_report(json_file, "gate")
    old = None if against is None else read_report(against)
    checks = run_gate(read_report(report), limits, against=old, engines=engines)
    verdict = overall(checks)
    if junit is not None:
        write_junit(checks, junit)
        options.tell_written(junit)
    _write_json({"verdict": verdict.value, "checks": [check.to_dict() for check in checks]}, json_file)
    print_checks(checks, _console(json_file))
    sys.exit(EXIT_CODES[verdict])


@command(examples=("edgefer compare old.json new.json", "edgefer compare pi5.json orin.json --json changes.json"))
@click.argument("reports", nargs=-1, required=True, type=options.PATH)
@options.json_file
def compare(reports: tuple[Path, ...], json_file: Path | None) -> None:
    """Show reports side by side, with changes from the first.

    REPORTS are what `edgefer bench --json FILE` wrote.
    """
    from edgefer.report.compare import comparison, print_comparison
    from edgefer.report.report import read_report

    _check_outputs([json_file])
    _refuse_report(json_file, "compare")
    found = [read_report(path) for path in reports]
    print_comparison(found, _console(json_file))
    _write_json(comparison(found), json_file)


def _refuse_report(json_file: Path | None, name: str) -> None:
    """`--json a.json b.json` is soon typed: what a benchmark took minutes for is not overwritten."""
    from edgefer.errors import EdgeferError
    from edgefer.report.report import read_report

    if json_file is None or not json_file.is_file():
        return
    try:
        read_report(json_file)
    except EdgeferError:
        return
    raise click.UsageError(
        f"--json {json_file} would overwrite a report of `edgefer bench`: put --json FILE last in `edgefer {name}`"
    )


def _numbers(_: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    if not re.fullmatch("[0-9]+(,[0-9]+)*", text):
        raise click.BadParameter(f"'{text}' is no list of numbers of at least 1, such as 1,2,4", param=parameter)
    kind = options.Whole("batch" if parameter.name == "batches" else "threads")
    return tuple(kind.convert(part, parameter, None) for part in text.split(","))


@command(
    examples=(
        "edgefer sweep model.int8.onnx --data test.npz",
        "edgefer sweep model.int8.onnx --data test.npz --batches 1,8 --threads 1,2",
    )
)
@click.argument("engine", type=options.PATH)
@section(
    "Data",
    option("--data", metavar="DATA", required=True, help=f"Run on the `test` part of DATA. {options.DATA_HELP}"),
    options.reading,
)
@section(
    "Combinations",
    option("--batches", metavar="LIST", default="1,4,16", show_default=True, callback=_numbers, help="Batch sizes."),
    option("--threads", metavar="LIST", default="1", show_default=True, callback=_numbers, help="Threads per engine."),
    option(
        "--concurrency",
        metavar="LIST",
        default="1",
        show_default=True,
        callback=_numbers,
        help="Numbers of callers, each with an engine.",
    ),
)
@section(
    "Timing",
    option(
        "--scope", type=click.Choice(["compute", "e2e"]), default="e2e", show_default=True, help="See `edgefer bench`."
    ),
    option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Time per combination."),
)
@options.json_file
def sweep(  # noqa: PLR0913 - a click command's options
    engine: Path,
    data: str,
    reading: ReadSettings | None,
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    concurrency: tuple[int, ...],
    scope: str,
    seconds: float,
    json_file: Path | None,
) -> None:
    """Time ENGINE over batches, threads and concurrent callers."""
    import edgefer
    from edgefer.engines.load import require_packages
    from edgefer.report.sweep import print_sweep, run_sweep

    _check_outputs([json_file])
    require_packages([engine])
    faces = edgefer.open_dataset(data, reading=reading)
    found = run_sweep(
        engine, faces, batches=batches, threads=threads, concurrency=concurrency, scope=scope, seconds=seconds
    )
    print_sweep(found, _console(json_file))
    _write_json(found.to_json(), json_file)
