"""A contract check on a terminal: the hypotheses with their intervals, what follows, and the line to type next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgefer.contract import name_of_normalisation
from edgefer.contract_file import changed_lines, render_contract
from edgefer.measure.contract_check import ContractCheck, ContractVerdict, Finding
from edgefer.measure.contract_faces import AS_DECLARED, PER_IMAGE, Hypothesis
from edgefer.measure.label_order import ALPHA, MARGIN_PP
from edgefer.report.terminal import WIDTH, as_printable

_NORMALISATIONS = {
    "0..1": "pixels 0 to 1",
    "-1..1": "pixels -1 to 1",
    "0..255": "pixels 0 to 255",
    "imagenet": "ImageNet's mean, std",
    PER_IMAGE: "mean 0, std 1 per image",
    AS_DECLARED: "pixels as declared",
}
_CHANNELS = {"BGR": "BGR", "grey": "grey in 3 channels"}
_ROWS = 4  # alternatives in the table, besides the one that is proposed

EXIT_CODES = {ContractVerdict.KEEP: 0, ContractVerdict.CHANGE: 1, ContractVerdict.UNKNOWN: 3}


def print_check(check: ContractCheck, console: Console | None = None) -> None:
    """Print the verdict, the evidence and the proposal on stdout, or on ``console``."""
    target = Console() if console is None else console
    if not target.is_terminal:
        target.width = max(target.width, WIDTH)

    def say(line: str) -> None:
        target.print(as_printable(line, target), markup=False, emoji=False, highlight=False, soft_wrap=True)

    say(f"{check.suspect.name}: {_verdict(check)}")
    shown = _best(check)
    target.print(_table(check, shown, target))
    for line in evidence_lines(check, shown):
        say(line)


def _best(check: ContractCheck) -> list[Finding]:
    """The declared contract, the proposed one, and what comes nearest to it, the best first."""
    others = [
        finding
        for finding in check.findings[1:]
        if finding is not check.chosen and (not finding.hypothesis.reordered or _gains(finding))
    ]
    others = sorted(others, key=lambda finding: (finding.n, finding.right), reverse=True)[:_ROWS]
    chosen = [] if check.chosen is check.declared else [check.chosen]
    return [check.declared, *chosen, *others]


def _table(check: ContractCheck, shown: Sequence[Finding], console: Console) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
    table.add_column("faces and class order")
    for title in ("faces", "right %", "95 %", "better by", "interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for finding in shown:
        table.add_row(*(as_printable(cell, console) for cell in _cells(finding, check)))
    return table


def _gains(finding: Finding) -> bool:
    return finding.gain is not None and finding.gain.gain_pp > 0


def _cells(finding: Finding, check: ContractCheck) -> tuple[str, ...]:
    low, high = (100 * end for end in finding.interval)
    name = described_hypothesis(finding.hypothesis, check)
    shares = (f"{finding.n:,}", f"{100 * finding.top1:.1f}", f"{low:.1f} … {high:.1f}")
    if finding.gain is None:
        return (f"{name} (declared)", *shares, "", "")
    below, above = finding.gain.interval_pp
    mark = " *" if finding.shown else ""
    return (name, *shares, f"{finding.gain.gain_pp + 0.0:+.1f}{mark}", f"{below:+.1f} … {above:+.1f}")


def described_hypothesis(told: Hypothesis, check: ContractCheck) -> str:
    """E.g. ``pixels 0 to 1, BGR, 10 % tighter, other order``."""
    parts = [_NORMALISATIONS[told.normalisation]]
    if told.channels != check.declared.hypothesis.channels:
        parts.append(_CHANNELS[told.channels])
    if told.crop:
        parts.append(f"{told.crop} % tighter")
    if told.reordered:
        parts.append("other order")
    return ", ".join(parts)


def evidence_lines(check: ContractCheck, shown: Sequence[Finding]) -> Iterator[str]:
    """What else was tried than ``shown``, how it was compared, what changes, and what the faces cannot tell."""
    rest = [finding for finding in check.findings if finding not in shown and not finding.hypothesis.reordered]
    if rest:
        named = (f"{described_hypothesis(one.hypothesis, check)} {100 * one.top1:.0f} %" for one in rest)
        yield f"Also tried: {'; '.join(named)}."
    count = next((finding.gain.comparisons for finding in check.findings if finding.gain is not None), 0)
    yield (
        f"interval: paired, {100 * (1 - ALPHA):.0f} % for all {count} alternatives together; *: shown to be better "
        f"(corrected p ≤ {ALPHA:g}, by more than {MARGIN_PP:g} point)."
    )
    if check.suspect.assumed:
        yield f"assumed, for nothing says it: {' and '.join(check.suspect.assumed)} of the contract"
    if check.verdict is not ContractVerdict.UNKNOWN:
        yield from _untold(check)
    if check.verdict is ContractVerdict.CHANGE:
        yield from (f"    {line}" for line in changed_lines(check.suspect.contract, check.contract))
        if check.suspect.kind == "model":
            yield "Correct the contract that it was exported with, and export it again: its graph normalises."
    yield from (f"note: {line}" for line in check.advice)


def _untold(check: ContractCheck) -> Iterator[str]:
    """Normalisations that the faces do not tell apart, and what may stay unfound."""
    if check.alike:
        names = [_NORMALISATIONS[name] for name in (check.chosen.hypothesis.normalisation, *check.alike)]
        yield f"These faces cannot tell apart: {', '.join(names[:-1])} and {names[-1]}."
    if check.verdict is ContractVerdict.KEEP:
        faces = check.declared.n
        widest = max(
            (f.gain.interval_pp[1] for f in check.findings if f.gain is not None and f.n == faces), default=0.0
        )
        if widest > MARGIN_PP:
            yield f"An alternative may still be up to {widest:.1f} points better: more faces than {faces:,} tell more."


def _verdict(check: ContractCheck) -> str:
    declared, chosen = check.declared, check.chosen
    faces = f"{declared.n:,} faces of {Path(check.data).name}"
    if check.verdict is ContractVerdict.CHANGE:
        p = chosen.gain.p if chosen.gain is not None else 1.0
        return (
            f"Another contract is better: {100 * chosen.top1:.1f} % instead of {100 * declared.top1:.1f} % of {faces} "
            f"are right with {described_hypothesis(chosen.hypothesis, check)} (corrected p {p:.1g})."
        )
    if check.verdict is ContractVerdict.UNKNOWN:
        return (
            f"Nothing can be concluded: {100 * declared.top1:.1f} % of {faces} are right, hardly more than by chance, "
            "and no alternative is clearly better. The network is too weak on these faces, or something else is wrong."
        )
    said = (
        f"No alternative is shown to be better: the contract stays; {100 * declared.top1:.1f} % of {faces} are right."
    )
    full = [f for f in check.findings if f.gain is not None and f.n == declared.n and not f.hypothesis.reordered]
    rival = max(full, key=lambda finding: finding.right, default=declared)
    if rival.gain is None or rival.gain.gain_pp <= MARGIN_PP:
        return said
    name = described_hypothesis(rival.hypothesis, check)
    return f"{said} With {name} it would be {rival.gain.gain_pp:.1f} points more, which so few faces cannot show."


def check_notes(check: ContractCheck) -> tuple[str, ...]:
    """Comments above a contract that is written after a check."""
    return (f"Checked: {_verdict(check)}", *check.advice)


def checked_contract(check: ContractCheck) -> str:
    """The proposed contract, or the confirmed one, as TOML."""
    return render_contract(check.contract, check_notes(check))


def next_words(check: ContractCheck, source: Path | None, written: Path | None) -> tuple[str, ...]:
    """The command that goes on from a check, as words; () where there is none.

    Args:
        check: the check.
        source: the weights to import again; None: those that were checked.
        written: the contract that was written, if one was.
    """
    suspect, new, old = check.suspect, check.contract, check.suspect.contract
    if check.verdict is ContractVerdict.UNKNOWN:
        return ()
    if suspect.kind == "weights":
        if new == old:
            named = "--weights" if Path(suspect.name).exists() else "--model"
            return ("export", named, suspect.name, "-o", "model.onnx")
        words = ["import-weights", str(source or suspect.name), "--model", new.architecture]
        name = name_of_normalisation(new.normalisation)
        whole = source is not None  # the file that is imported again states nothing: everything is said anew
        words += ["--normalisation", name] if name and (whole or new.normalisation != old.normalisation) else []
        words += ["--classes", ",".join(new.labels)] if whole or new.labels != old.labels else []
        margin = new.crop_margin if whole else new.crop_margin - old.crop_margin
        words += ["--crop-margin", str(new.crop_margin)] if margin else []
        words += ["--test-time-flip"] if whole and new.test_time_flip else []
        return (*words, "-o", "corrected.safetensors")
    if written is None or suspect.kind == "model":
        return ()
    given = ("--weights", suspect.weights) if suspect.weights else ()
    network = ("adopt", suspect.name) if suspect.kind == "foreign" else ("export", "--module", suspect.name, *given)
    return (*network, "--contract", str(written), "-o", "model.onnx")
