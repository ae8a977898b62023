"""``edgefer gate`` and ``edgefer compare``: what reports say, after the measuring."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edgefer.cli import options


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
