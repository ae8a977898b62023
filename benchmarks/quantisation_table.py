"""The results of benchmarks/quantisation.py as Markdown."""

from __future__ import annotations

from typing import Any

from cpu_table import UNKNOWN

from edgefer.runtimes import title_of

OURS = "edgefer"
AIM_AGREEMENT, AIM_DROP = 0.985, 0.3


def quantisation_table(result: dict[str, Any]) -> str:
    """A table a network: a way to INT8 a row; then what the defaults reach."""
    parts = [
        f"{result['calibration']['faces']} calibration faces of {result['calibration']['data']}, "
        f"{result['test']['faces']:,} test faces of {result['test']['data']}; the same float file and faces for every "
        "row; 95 % intervals. Bold: the best agreement of a network. Seconds: calibration and building on a busy "
        "machine, for their order of magnitude."
    ]
    for name, network in result["networks"].items():
        lines = [["", "answers in", "agreement with float", "drop, points", "SQNR, dB", "KL, 10⁻³", "MB", "seconds"]]
        lines.append([":--", ":--"] + ["--:"] * 6)
        best = max((row["agreement"] for row in network["rows"] if "skipped" not in row), default=0.0)
        lines += [_cells(row, best) for row in network["rows"]]
        parts += [
            f"#### {name} ({network['architecture']}), float top-1 {100 * network['top1']:.2f} %",
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            _verdict(network["rows"]),
        ]
    return "\n\n".join(parts)


def _cells(row: dict[str, Any], best: float) -> list[str]:
    if "skipped" in row:
        return [row["label"], UNKNOWN, f"not run: {row['skipped']}", *[UNKNOWN] * 5]
    low, high = (100 * end for end in row["agreement_ci95"])
    agreement = f"{100 * row['agreement']:.2f} %"
    return [
        row["label"],
        title_of(row["runtime"]),
        f"{f'**{agreement}**' if row['agreement'] == best else agreement} [{low:.2f}, {high:.2f}]",
        f"{row['drop_pp']:+.2f} [{row['ci95_pp'][0]:+.2f}, {row['ci95_pp'][1]:+.2f}]",
        f"{row['sqnr_db']:.1f}",
        f"{1000 * row['kl']:.2f}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['seconds']:.0f}",
    ]


def _verdict(rows: list[dict[str, Any]]) -> str:
    """The aims at the defaults: agreement, drop, and a place before every peer."""
    done = [row for row in rows if "skipped" not in row]
    ours = next((row for row in done if row["label"] == OURS), None)
    if ours is None:
        return "The defaults were not measured."
    peers = [row for row in done if not row["label"].startswith(OURS)]
    said = [
        f"agreement of {100 * AIM_AGREEMENT:g} % {_held(ours['agreement'] >= AIM_AGREEMENT)}",
        f"drop of at most {AIM_DROP:g} points {_held(ours['drop_pp'] <= AIM_DROP)}",
    ]
    if peers:
        best = max(peers, key=lambda row: float(row["agreement"]))
        first = ours["agreement"] > best["agreement"]
        said.append(
            f"first in agreement {_held(first)} (the best peer is {best['label']}, {100 * best['agreement']:.2f} %)"
        )
    return f"At the defaults: {'; '.join(said)}."


def _held(held: bool) -> str:
    return "held" if held else "**not held**"
