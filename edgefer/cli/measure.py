"""Commands that measure: bench, compare, gate and sweep."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edgefer.cli import options

_TIMING = (
    click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Faces a call."),
    options.threads,
    click.option(
        "--scope",
        type=click.Choice(["compute", "e2e", "paced"]),
        default="e2e",
        show_default=True,
        help="compute: the runtime's call alone. e2e: uint8 faces in, checked scores out. paced: e2e at --fps.",
    ),
    click.option(
        "--seconds",
        "--duration",
        "seconds",
        type=click.FloatRange(min=0.1),
        default=10.0,
        show_default=True,
        help="Of timing, in all; ten rounds are made in any case.",
    ),
    click.option("--iterations", type=click.IntRange(min=1), help="Timed calls an engine, instead of --seconds."),
    click.option(
        "--warm-up",
        type=click.FloatRange(min=0),
        default=2.0,
        show_default=True,
        help="Seconds after which the warm-up of an engine that does not settle is given up.",
    ),
    click.option("--fps", type=click.FloatRange(min=0.01), default=30.0, show_default=True, help="Of --scope paced."),
    click.option("--deadline", default=None, metavar="TIME", help="Of --scope paced, e.g. 20ms; one period if absent."),
    click.option(
        "--telemetry/--no-telemetry", default=True, help="Watch clock, heat, memory, power.  [default: watch]"
    ),
    click.option("--force", is_flag=True, help="Print the latencies of an invalid run too, marked as such."),
)
_JUDGING = (
    click.option("--limit", type=click.IntRange(min=1), help="Judge on so many faces at most, drawn at random."),
    options.seed,
    click.option(
        "--margin",
        type=click.FloatRange(min=0, min_open=True),
        default=0.5,
        show_default=True,
        help="The drop that would be accepted, points: 'no worse' is judged against it.",
    ),
    click.option(
        "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="That share the judging."
    ),
    click.option(
        "--cache", type=options.PATH, metavar="FOLDER", help="Keep finished parts: an interrupted run goes on."
    ),
)
_WRITING = (
    click.option(
        "--save-predictions", type=options.PATH, help="Write the first engine's answers: a baseline for elsewhere."
    ),
    click.option(
        "--save-baseline", type=options.PATH, help="Write the baseline's answers (npz): a baseline elsewhere."
    ),
    click.option("--samples", type=options.PATH, metavar="FILE", help="Write every timed call: .csv or .npz."),
    click.option("--markdown", type=options.PATH, metavar="FILE", help="Write the report as Markdown."),
    click.option("--html", type=options.PATH, metavar="FILE", help="Write the report as one page with all its charts."),
    click.option("--with-images", is_flag=True, help="Show in --html the faces whose answer changed."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table."),
)


def _together(*groups: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


@click.command()
@click.argument("engines", nargs=-1, required=True, type=options.PATH)
@click.option("--data", required=True, help=f"Faces to judge on: the `test` part of DATA. {options.DATA_HELP}")
@options.votes
@options.reading
@click.option("--baseline", required=True, help="A network of the zoo, weights, an engine, or predictions.npz.")
@_together(_TIMING, _JUDGING, _WRITING)
def bench(
    engines: tuple[Path, ...],
    data: str,
    votes: str | None,
    reading: dict[str, Any],
    baseline: str,
    margin: float,
    deadline: str | None,
    force: bool,
    save_predictions: Path | None,
    save_baseline: Path | None,
    samples: Path | None,
    markdown: Path | None,
    html: Path | None,
    with_images: bool,
    as_json: bool,
    **timing: Any,
) -> None:
    """Time ENGINES against the baseline, interleaved, and pair their answers on the test faces."""
    import edgefer
    from edgefer.report.gate import milliseconds
    from edgefer.report.samples import check_samples_path
    from edgefer.report.terminal import print_report
    from edgefer.report.terminal_details import print_details

    for option, path in (("--save-predictions", save_predictions), ("--save-baseline", save_baseline)):
        if path is not None and path.suffix != ".npz":
            raise click.UsageError(f"{option} writes an .npz, not {path}")
    if with_images and html is None:
        raise click.UsageError("--with-images goes with --html FILE")
    if samples is not None:
        check_samples_path(samples)
    _check_outputs([save_predictions, save_baseline, samples, markdown, html])
    timing["deadline_ms"] = None if deadline is None else milliseconds(deadline)
    faces = edgefer.open_dataset(data, votes=votes, **reading)
    report = edgefer.benchmark(engines, faces, baseline, margin_pp=margin, **timing)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report, force=force)
        print_details(report)
    if save_predictions is not None:
        report.engines[0].predictions.save(save_predictions)
    if save_baseline is not None:
        report.baseline.predictions.save(save_baseline)
    _write_files(report, force, samples, markdown, html, with_images)


def _check_outputs(paths: Sequence[Path | None]) -> None:
    """Before anything is measured: a report that cannot be written is minutes lost."""
    from edgefer.atomic import check_writable

    given = [path for path in paths if path is not None]
    for path in given:
        check_writable(path)
        if sum(path.resolve() == other.resolve() for other in given) > 1:
            raise click.UsageError(f"two of the files to write are the same: {path}")


def _write_files(
    report: Any, force: bool, samples: Path | None, markdown: Path | None, html: Path | None, with_images: bool
) -> None:
    from edgefer.atomic import write_text

    if samples is not None:
        from edgefer.report.samples import write_samples

        write_samples(report, samples)
    if markdown is not None:
        from edgefer.report.markdown import markdown as as_markdown

        write_text(markdown, as_markdown(report, force=force))
    if html is not None:
        from edgefer.report.html.page import page

        write_text(html, page(report, force=force, with_images=with_images))


@click.command()
@click.argument("report", type=options.PATH)
@click.option("--max-drop", type=float, metavar="POINTS", help="Of top-1, against the report's own baseline.")
@click.option("--max-p50", metavar="TIME", help="E.g. 5ms or 800us.")
@click.option("--max-p95", metavar="TIME", help="The same for the 95th percentile.")
@click.option("--max-p99", metavar="TIME", help="The same for the 99th percentile.")
@click.option("--min-agreement", type=click.FloatRange(0, 1), help="Share of equal answers with the baseline, 0–1.")
@click.option("--min-top1", type=click.FloatRange(0, 1), help="Share of right answers, 0–1.")
@click.option("--max-misses", type=click.FloatRange(0, 1), help="Share of missed deadlines of a paced run, 0–1.")
@click.option("--against", type=options.PATH, metavar="REPORT", help="Another report, e.g. of the main branch.")
@click.option(
    "--max-slowdown",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    help="Of the median against that report; 0.05 is 5 %.",
)
@click.option(
    "--max-regression", type=float, metavar="POINTS", help="Of top-1 against that report; --max-drop if absent."
)
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Only this engine of the report; repeatable.")
@click.option("--junit", type=options.PATH, metavar="FILE", help="Write the checks as JUnit XML.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of lines.")
def gate(
    report: Path,
    max_drop: float | None,
    max_p50: str | None,
    max_p95: str | None,
    max_p99: str | None,
    min_agreement: float | None,
    min_top1: float | None,
    max_misses: float | None,
    against: Path | None,
    max_slowdown: float,
    max_regression: float | None,
    engines: tuple[str, ...],
    junit: Path | None,
    as_json: bool,
) -> None:
    """Hold a report of `edgefer bench --json` to limits: PASS, FAIL or INCONCLUSIVE, exit 0, 1 or 3.

    A limit passes if the whole 95 % interval keeps it, and fails if none of it does.
    """
    from edgefer.report.document import read_report
    from edgefer.report.gate import EXIT_CODES, Limits, milliseconds, overall, run_gate
    from edgefer.report.junit import write_junit

    times = (("50", max_p50), ("95", max_p95), ("99", max_p99))
    limits = Limits(
        max_drop_pp=max_drop,
        max_ms=tuple((percent, milliseconds(text)) for percent, text in times if text is not None),
        min_agreement=min_agreement,
        min_top1=min_top1,
        max_misses=max_misses,
        max_slowdown=max_slowdown,
        max_regression_pp=max_regression,
    )
    old = None if against is None else read_report(against)
    checks = run_gate(read_report(report), limits, against=old, engines=engines)
    verdict = overall(checks)
    if junit is not None:
        write_junit(checks, junit)
    if as_json:
        told = {"verdict": verdict.value, "checks": [check.to_dict() for check in checks]}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for check in checks:
            click.echo(f"{check.verdict.value:<12}  {check.engine}: {check.what}: {check.told}")
        click.echo(verdict.value)
    sys.exit(EXIT_CODES[verdict])


@click.command()
@click.argument("reports", nargs=-1, required=True, type=options.PATH)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
def compare(reports: tuple[Path, ...], as_json: bool) -> None:
    """Put REPORTS of `edgefer bench --json` beside each other; changes are from the first."""
    from edgefer.report.compare import comparison, print_comparison
    from edgefer.report.document import read_report

    documents = [read_report(path) for path in reports]
    if as_json:
        click.echo(json.dumps(comparison(documents), indent=2, ensure_ascii=False))
    else:
        print_comparison(documents)


def _numbers(_: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = (0,)
    if min(values) < 1:
        raise click.BadParameter(f"'{text}' is no list of numbers of at least 1, such as 1,2,4", param=parameter)
    return values


@click.command()
@click.argument("engine", type=options.PATH)
@click.option("--data", required=True, help=f"Faces to run on: the `test` part of DATA. {options.DATA_HELP}")
@options.reading
@click.option("--batches", default="1,4,16", show_default=True, callback=_numbers, help="Faces a call.")
@click.option("--threads", default="1", show_default=True, callback=_numbers, help="Threads of each engine.")
@click.option("--concurrency", default="1", show_default=True, callback=_numbers, help="Callers, each with an engine.")
@click.option("--scope", type=click.Choice(["compute", "e2e"]), default="e2e", show_default=True, help="What is timed.")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="A combination.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
def sweep(
    engine: Path,
    data: str,
    reading: dict[str, Any],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    concurrency: tuple[int, ...],
    scope: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Time ENGINE over batches, threads and concurrent callers."""
    import edgefer
    from edgefer.report.sweep import print_sweep, run_sweep

    faces = edgefer.open_dataset(data, **reading)
    found = run_sweep(
        engine, faces, batches=batches, threads=threads, concurrency=concurrency, scope=scope, seconds=seconds
    )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        print_sweep(found)
