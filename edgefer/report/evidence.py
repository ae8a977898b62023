"""A contract check on a terminal: the hypotheses with their intervals, what follows, and the line to type next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgefer.contract import name_of_normalisation
from edgefer.contract_file import changed_lines, render_contract
from edgefer.measure.contract_check import AS_DECLARED, PER_IMAGE, ContractCheck, ContractVerdict, Finding, Hypothesis
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


EXIT_CODES = {ContractVerdict.KEEP: 0, ContractVerdict.CHANGE: 1, ContractVerdict.UNKNOWN: 3}


def print_check(check: ContractCheck, console: Console | None = None) -> None:
    """Print the evidence and the proposal on stdout, or on ``console``."""
    target = Console() if console is None else console
    if not target.is_terminal:
        target.width = max(target.width, WIDTH)
    contract = check.suspect.contract
    height, width, channels = contract.face_shape
    head = (
        f"{check.suspect.name}: {height}×{width} {'grey' if channels == 1 else 'RGB'} faces, {len(contract.labels)} "
        f"classes; {check.declared.n:,} faces of {Path(check.data).name}"
    )
    target.print(as_printable(head, target), markup=False, highlight=False, soft_wrap=True)
    target.print(_table(check, target))
    for line in evidence_lines(check):
        target.print(as_printable(line, target), markup=False, emoji=False, highlight=False, soft_wrap=True)


def _table(check: ContractCheck, console: Console) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
    table.add_column("hypothesis")
    for title in ("faces", "right %", "95 %", "better by", "interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for finding in check.findings:
        if finding is check.declared or not finding.hypothesis.reordered or _gains(finding) or finding is check.chosen:
            table.add_row(*(as_printable(cell, console) for cell in _cells(finding, check)))
    return table


def _gains(finding: Finding) -> bool:
    return finding.gain is not None and finding.gain.gain_pp > 0


def _cells(finding: Finding, check: ContractCheck) -> tuple[str, ...]:
    low, high = (100 * end for end in finding.interval)
    shares = (f"{finding.n:,}", f"{100 * finding.top1:.1f}", f"{low:.1f} … {high:.1f}")
    if finding.gain is None:
        return (f"contract: {described_hypothesis(finding.hypothesis, check)}", *shares, "", "")
    below, above = finding.gain.interval_pp
    mark = " *" if finding.gain.shown else ""
    name = described_hypothesis(finding.hypothesis, check)
    return (f"  {name}", *shares, f"{finding.gain.gain_pp + 0.0:+.1f}{mark}", f"{below:+.1f} … {above:+.1f}")


def described_hypothesis(told: Hypothesis, check: ContractCheck) -> str:
    """E.g. ``pixels 0 to 1, BGR, 10 % tighter, other class order``."""
    parts = [_NORMALISATIONS[told.normalisation]]
    if told.channels != check.declared.hypothesis.channels:
        parts.append(_CHANNELS[told.channels])
    if told.crop:
        parts.append(f"{told.crop} % tighter")
    if told.reordered:
        parts.append("other class order")
    return ", ".join(parts)


def evidence_lines(check: ContractCheck) -> Iterator[str]:
    """The rule, what follows from it, the lines of the contract that change, and what a contract cannot express."""
    count = next((finding.gain.comparisons for finding in check.findings if finding.gain is not None), 0)
    yield (
        f"95 %: Wilson. interval: Tango, paired; those of all {count} alternatives hold together with "
        f"{100 * (1 - ALPHA):.0f} %."
    )
    yield (
        f"*: better with p ≤ {ALPHA:g} by McNemar's exact test, times {count}, and by more than {MARGIN_PP:g} point "
        "with a 95 % interval of its own."
    )
    yield "Class orders were chosen on one half of the faces and tested on the other. Tighter: n % of a side less."
    if check.suspect.assumed:
        yield f"assumed, for nothing says it: {' and '.join(check.suspect.assumed)} of the contract"
    if not any(finding.hypothesis == _reordered(check) for finding in check.findings):
        yield "No other order of the classes fits the declared input better."
    yield ""
    yield _verdict(check)
    if check.verdict is ContractVerdict.CHANGE:
        yield from (f"    {line}" for line in changed_lines(check.suspect.contract, check.contract))
    if check.alike and check.verdict is not ContractVerdict.UNKNOWN:
        names = ", ".join(_NORMALISATIONS[name] for name in check.alike)
        yield f"Not told apart from that by these faces: {names}."
    if check.suspect.kind == "model" and check.verdict is ContractVerdict.CHANGE:
        yield "Correct the contract that it was exported with, and export it again: its graph normalises."
    yield from (f"note: {line}" for line in check.advice)


def _reordered(check: ContractCheck) -> Hypothesis:
    told = check.declared.hypothesis
    return Hypothesis(told.normalisation, told.channels, told.crop, reordered=True)


def _verdict(check: ContractCheck) -> str:
    declared, chosen = check.declared, check.chosen
    if check.verdict is ContractVerdict.CHANGE:
        p = chosen.gain.p if chosen.gain is not None else 1.0
        return (
            f"Another contract is better: {100 * chosen.top1:.1f} % instead of {100 * declared.top1:.1f} % are right "
            f"with {described_hypothesis(chosen.hypothesis, check)} (corrected p {p:.1g})."
        )
    if check.verdict is ContractVerdict.UNKNOWN:
        return (
            f"Nothing can be concluded: {100 * declared.top1:.1f} % are right, hardly more than by chance, and no "
            "alternative is clearly better. The network is too weak on these faces, or something else is wrong."
        )
    return f"No alternative is better: the contract stays as it is ({100 * declared.top1:.1f} % are right)."


def check_notes(check: ContractCheck) -> tuple[str, ...]:
    """Comments above a contract that is written after a check."""
    what = _verdict(check)
    return (f"Checked with {check.declared.n:,} faces of {Path(check.data).name}: {what}", *check.advice)


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
            return ()
        words = ["import-weights", str(source or suspect.name), "--model", new.architecture]
        name = name_of_normalisation(new.normalisation)
        whole = source is not None  # the file that is imported again states nothing: everything is said anew
        words += ["--normalisation", name] if name and (whole or new.normalisation != old.normalisation) else []
        words += ["--classes", ",".join(new.labels)] if whole or new.labels != old.labels else []
        words += ["--crop-margin", str(new.crop_margin)] if whole or new.crop_margin != old.crop_margin else []
        words += ["--test-time-flip"] if whole and new.test_time_flip else []
        return (*words, "-o", "corrected.safetensors")
    if written is None or suspect.kind == "model":
        return ()
    given = ("--weights", suspect.weights) if suspect.weights else ()
    network = ("adopt", suspect.name) if suspect.kind == "foreign" else ("export", "--module", suspect.name, *given)
    return (*network, "--contract", str(written), "-o", "model.onnx")
