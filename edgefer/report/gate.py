"""Gates: limits for a report, each PASS, FAIL or INCONCLUSIVE by an interval and not by a point.

The checks can be written as a JUnit file, which every continuous integration shows.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

from edgefer.atomic import write_bytes
from edgefer.errors import EdgeferError
from edgefer.measure.latency import Estimate
from edgefer.measure.paired import Verdict, verdict_of
from edgefer.report.compare import change, check_same_classes, differences
from edgefer.report.report import Report, Row
from edgefer.report.terminal import VERDICT_STYLES
from edgefer.runtimes import PYTORCH

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}
SLOWDOWN = 0.05
"""By default a network may become slower by this share of its median in the report it is compared with."""

_UNPAIRED = "the report does not compare it with a baseline"  # a limit held against nothing lets nothing through
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s)?")
_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, None: 1.0}


@dataclass(frozen=True)
class Limits:
    """Limits for every engine of a report; None is no limit.

    Attributes:
        max_drop_pp: points of top-1 lost to the report's baseline.
        max_ms: percentile (``"50"``, ``"95"``, ``"99"``) → ms.
        min_agreement: minimum agreement with the baseline, 0–1.
        min_top1: 0–1.
        min_speedup: minimum speed-up over the report's baseline; a load disturbs it less than times.
        max_misses: share of missed deadlines of a paced run, 0–1.
        max_slowdown: maximum slowdown of the median against another report: 0.05 is 5 %.
        max_regression_pp: points of top-1 lost, against another report.

    Raises:
        EdgeferError: a limit is not a finite number.
    """

    max_drop_pp: float | None = None
    max_ms: tuple[tuple[str, float], ...] = ()
    min_agreement: float | None = None
    min_top1: float | None = None
    min_speedup: float | None = None
    max_misses: float | None = None
    max_slowdown: float = SLOWDOWN
    max_regression_pp: float | None = None

    def __post_init__(self) -> None:
        given = {**asdict(self), "max_ms": None, **{f"p{percent}": ms for percent, ms in self.max_ms}}
        for name, limit in given.items():
            if limit is not None and not math.isfinite(limit):
                raise EdgeferError(
                    f"the limit {name} is {limit}, which nothing can keep or break", hint="give a number"
                )


@dataclass(frozen=True)
class Check:
    """One limit on one engine, and how it stands."""

    engine: str
    what: str
    verdict: Verdict
    told: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"engine": self.engine, "check": self.what, "verdict": self.verdict.value, "told": self.told}


def milliseconds(text: str) -> float:
    """``5ms``, ``800us``, ``0.01s`` or ``5`` (ms) as ms.

    Raises:
        EdgeferError: it is no positive time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or float(match.group(1)) == 0:
        raise EdgeferError(f"'{text}' is no time", hint="write e.g. 5ms, 800us or 0.01s")
    return float(match.group(1)) * _MS[match.group(2)]


def run_gate(
    report: Report, limits: Limits, *, against: Report | None = None, engines: Sequence[str] = ()
) -> tuple[Check, ...]:
    """Hold the engines of ``report`` to ``limits``; the named ones, or all.

    Raises:
        EdgeferError: nothing is asked, there is no such engine or none at all, the two reports have other classes, or
            no engine is in both.
    """
    chosen = _chosen(report, engines)
    asked = (limits.max_drop_pp, limits.min_agreement, limits.min_top1, limits.min_speedup, limits.max_misses)
    if against is None and not limits.max_ms and all(limit is None for limit in asked):
        raise EdgeferError(
            "the gate was given no limit", hint="pass e.g. --max-drop 0.5, --max-p95 5ms or --against main.json"
        )
    checks = [check for row in chosen for check in _absolute(report, row, limits)]
    if against is not None:
        check_same_classes(against, report)
        shared = [(before, row) for row in chosen if (before := against.counterpart(row.name, report)) is not None]
        if not shared:
            raise EdgeferError(
                f"{report.path} and {against.path} have no engine in common: {_told(report, chosen)}, "
                f"{_told(against, _chosen(against, ()))}",
                hint="hold a report against one of the same engines",
            )
        checks += [check for pair in shared for check in _relative(against, report, *pair, limits)]
        missing = [row.name for row in _chosen(against, ()) if report.counterpart(row.name, against) is None]
        checks += [
            Check(name, "is measured", Verdict.INCONCLUSIVE, f"{against.file} has it, {report.file} does not")
            for name in missing
            if not engines
        ]
    return tuple(checks)


def overall(checks: Sequence[Check]) -> Verdict:
    """FAIL if any check failed, else INCONCLUSIVE if any was, else PASS."""
    verdicts = {check.verdict for check in checks}
    return next((v for v in (Verdict.FAIL, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.PASS)


def _told(report: Report, rows: Sequence[Row]) -> str:
    return f"{Path(report.path or 'the report').name} has {', '.join(row.name for row in rows)}"


def _chosen(report: Report, names: Sequence[str]) -> list[Row]:
    known = [row.name for row in report.engines]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise EdgeferError(f"{report.path} has no engine '{unknown[0]}'", hint=f"it has {', '.join(known)}")
    if names:
        return [row for row in report.engines if row.name in names]
    built = [row for row in report.engines if row.runtime != PYTORCH.name]
    return built or list(report.engines)  # PyTorch beside engines is a further baseline


def _absolute(report: Report, row: Row, limits: Limits) -> Iterator[Check]:
    accuracy, paired = row.accuracy, row.paired
    if limits.max_drop_pp is not None:
        found = None if paired is None else Estimate(paired.drop_pp, paired.ci95_pp)
        yield _at_most(row, "drop", found, limits.max_drop_pp, "{:+.2f}", " points")
    for percent, limit in limits.max_ms:
        yield _latency(row, percent, limit)
    if limits.min_agreement is not None:
        found = None if paired is None else Estimate(paired.agreement, paired.agreement_ci95)
        yield _at_least(row, "agreement", found, limits.min_agreement, "{:.2%}")
    if limits.min_top1 is not None:
        yield _at_least(row, "top-1", Estimate(accuracy.top1, accuracy.ci95), limits.min_top1, "{:.2%}")
    if limits.min_speedup is not None:
        yield _speedup(row, limits.min_speedup)
    if limits.max_misses is not None:
        yield _misses(row, limits.max_misses)


def _latency(row: Row, percent: str, limit: float) -> Check:
    what = f"p{percent} at most {limit:g} ms"
    found = row.percentiles.get(percent)
    if found is None:
        calls = 0 if row.latency is None else row.latency.n
        told = f"{calls} timed calls are too few for a p{percent}: time it longer"
        return Check(row.name, what, Verdict.INCONCLUSIVE, told)
    if reasons := row.disturbed.percentile(percent):
        return Check(row.name, what, Verdict.INCONCLUSIVE, f"{found.value:.3g} ms is disturbed: {reasons[0]}")
    return _at_most(row, f"p{percent}", found, limit, "{:.3g}", " ms")


def _speedup(row: Row, limit: float) -> Check:
    if row.speedup is not None and row.disturbed.speedup:
        told = f"{row.speedup.value:.2f} is disturbed: {row.disturbed.speedup[0]}"
        return Check(row.name, f"speed-up at least {limit:g}", Verdict.INCONCLUSIVE, told)
    check = _at_least(row, "speed-up", row.speedup, limit, "{:.2f}")
    return check if row.speedup is not None else replace(check, told="the engine or its baseline was timed too little")


def _misses(row: Row, limit: float) -> Check:
    what = f"missed deadlines at most {limit:.2%}"
    if row.pace is None:
        told = "the report is of another scope: `edgefer bench --scope paced --fps 30`"
        return Check(row.name, what, Verdict.INCONCLUSIVE, told)
    if reasons := row.disturbed.tail:
        told = f"{row.pace.miss_share:.2%} is disturbed: {reasons[0]}"
        return Check(row.name, what, Verdict.INCONCLUSIVE, told)
    low, high = row.pace.miss_ci95
    return Check(row.name, what, verdict_of((low, high), limit), f"{row.pace.miss_share:.2%} [{low:.2%}, {high:.2%}]")


def _relative(old: Report, new: Report, before: Row, after: Row, limits: Limits) -> Iterator[Check]:
    found = change(old, new, before, after)
    allowed = limits.max_regression_pp if limits.max_regression_pp is not None else limits.max_drop_pp
    if allowed is not None:
        how = "same faces, paired" if found.is_paired else "not the same faces"
        check = _at_most(after, f"drop from {old.file}", found.drop_pp, allowed, "{:+.2f}", " points")
        yield Check(check.engine, check.what, check.verdict, f"{check.told} ({how})")
    what = f"median against {old.file} at most {limits.max_slowdown:+.0%}"
    reasons = [*differences(old, new)]
    if disturbed := found.disturbed.get("50"):
        reasons.append(f"the median is disturbed: {'; '.join(disturbed)}")
    if "50" not in found.slowdown:
        reasons.append("one of the two has no median")
    if reasons:
        yield Check(after.name, what, Verdict.INCONCLUSIVE, "; ".join(reasons))
        return
    slowdown = found.slowdown["50"]
    low, high = slowdown.ci95
    told = f"{slowdown.value - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}]"
    yield Check(after.name, what, verdict_of(slowdown.ci95, 1 + limits.max_slowdown), told)


def _at_most(row: Row, what: str, found: Estimate | None, limit: float, form: str, unit: str) -> Check:
    asked = f"{what} at most {limit:g}{unit}"
    if found is None:
        return Check(row.name, asked, Verdict.INCONCLUSIVE, _UNPAIRED)
    told = f"{form.format(found.value)} [{', '.join(form.format(end) for end in found.ci95)}]{unit}"
    return Check(row.name, asked, verdict_of(found.ci95, limit), told)


def _at_least(row: Row, what: str, found: Estimate | None, limit: float, form: str) -> Check:
    asked = f"{what} at least {f'{limit:.4g}' if '%' not in form else f'{100 * limit:.4g}%'}"
    if found is None:
        return Check(row.name, asked, Verdict.INCONCLUSIVE, _UNPAIRED)
    low, high = found.ci95
    told = f"{form.format(found.value)} [{form.format(low)}, {form.format(high)}]"
    return Check(row.name, asked, verdict_of((-high, -low), -limit), told)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print a line for each check, then the verdict of all; in colours where ``console`` is a terminal."""
    for check in checks:
        line = Text.assemble(
            (f"{check.verdict.value:<12}", VERDICT_STYLES[check.verdict]), "  ", (check.engine, "bold")
        )
        console.print(line.append(f": {check.what}: {check.told}"), soft_wrap=True)
    verdict = overall(checks)
    console.print(Text(verdict.value, VERDICT_STYLES[verdict]))


def write_junit(checks: Sequence[Check], path: str | os.PathLike[str]) -> None:
    """Write one test case for each check: FAIL is a failure, INCONCLUSIVE an error, as neither lets anything through.

    The format has no schema of its own; this is the part that Jenkins, GitLab and GitHub's actions agree on.

    Raises:
        EdgeferError: the file cannot be written.
    """
    failed = sum(check.verdict is Verdict.FAIL for check in checks)
    open_ = sum(check.verdict is Verdict.INCONCLUSIVE for check in checks)
    counts = {"tests": str(len(checks)), "failures": str(failed), "errors": str(open_)}
    suite = ElementTree.Element("testsuite", {"name": "edgefer gate", **counts})
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", {"classname": check.engine, "name": check.what})
        if check.verdict is Verdict.FAIL:
            ElementTree.SubElement(case, "failure", {"message": check.told, "type": "limit"})
        elif check.verdict is Verdict.INCONCLUSIVE:
            ElementTree.SubElement(case, "error", {"message": f"inconclusive: {check.told}", "type": "inconclusive"})
        ElementTree.SubElement(case, "system-out").text = check.told
    root = ElementTree.Element("testsuites", counts)
    root.append(suite)
    ElementTree.indent(root)
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
