"""The table as a reader sees it, on a terminal, in a pipe and where only ASCII can be printed."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from edgefer.measure.accuracy import Predictions
from edgefer.measure.disturbance import Disturbed
from edgefer.measure.latency import Estimate, Interleaved
from edgefer.report import terminal
from edgefer.report.bench import make_report
from edgefer.report.report import Accuracy, PairedAccuracy, Raw, Row
from edgefer.report.timing import BenchSettings, Timed

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def predictions(wrong, name):
    labels = np.arange(3579) % 7
    answers = np.where(np.arange(3579) < wrong, (labels + 1) % 7, labels)
    return Predictions(np.eye(7, dtype=np.float32)[answers], labels, CLASSES, "0" * 64, name)


@pytest.fixture(scope="module")
def report():
    """Invented numbers, as wide as real ones get."""
    engines = (("onnxruntime FP32", 1231, 0.124, 236_123), ("onnxruntime INT8", 1260, 0.0756, 72_587_123))
    answers = [predictions(1231, "mini_xception"), *(predictions(wrong, name) for name, wrong, _, _ in engines)]
    rows = [Row("PyTorch FP32", "mini_xception", "pytorch", None, "fp32", 236_000, Accuracy.of(answers[0]))]
    rows += [
        Row(name, "mini_xception", "onnxruntime", None, "int8", size, Accuracy.of(found))
        for (name, _, _, size), found in zip(engines, answers[1:], strict=True)
    ]
    rounds = {"PyTorch FP32": np.full((30, 5), 1.39), **{name: np.full((2400, 5), ms) for name, _, ms, _ in engines}}
    faces = SimpleNamespace(origin="../some/folder/fer2013.csv.gz:test")
    timed = Timed(Interleaved(rounds, ()), {}, {}, {}, None, None, {}, ())
    environment = {"cpu": "An Example CPU 9000"}
    made = make_report(
        rows, Raw(faces, tuple(answers), rounds), timed, BenchSettings(), environment, ("the machine was busy",)
    )
    speedup = Estimate(11.213, (11.034, 11.482))
    return replace(made, rows=(made.baseline, *(replace(row, speedup=speedup) for row in made.engines)))


def words(line):
    return " ".join(line.split())


def printed(report, **console):
    stream = io.StringIO()
    terminal.print_report(report, Console(file=stream, **console))
    return stream.getvalue()


def test_a_pipe_gets_plain_lines_of_at_most_100_columns(report):
    text = printed(report, width=80)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert not set("━─│╭") & set(text)
    assert max(len(line.rstrip()) for line in lines) <= 100
    header = next(line for line in lines if "p50 ms" in line)
    assert words(header) == "p50 ms p95 ms images/s speed-up size top-1 % drop pp agree %"
    int8 = next(line for line in lines if line.startswith("onnxruntime INT8"))
    assert words(int8) == "onnxruntime INT8 0.0756 0.0756 13,228 11.21× 72.6 MB 64.79 +0.81 99.19"
    assert words(lines[lines.index(int8) + 1]) == "onnxruntime n=12,000 11.03…11.48 63.2…66.3 +0.56…+1.16"
    assert "warning: the machine was busy" in text
    assert "mini_xception on fer2013.csv.gz:test, 3,579 faces · batch 1, 1 thread · An Example CPU 9000" in text


def test_what_was_not_measured_is_a_dash(report):
    lines = printed(report).splitlines()
    base = next(line for line in lines if line.startswith("PyTorch"))
    assert words(base) == "PyTorch FP32 1.39 – 719 1× 236 kB 65.60 – –", "150 calls carry no p95"
    unmeasured = Row("predictions", None, None, None, None, None, report.baseline.accuracy)
    lines = printed(replace(report, rows=(unmeasured, *report.engines), environment={})).splitlines()
    assert words(next(row for row in lines if row.startswith("predictions"))) == "predictions – – – – – 65.60 – –"


def test_a_terminal_of_100_columns_cuts_nothing(report):
    text = printed(report, width=100, force_terminal=True, color_system=None)
    assert "+0.56…+1.16" in text
    assert "onnxruntime INT8" in text
    assert "63.2…66.3" in text


def test_a_narrow_terminal_gets_two_tables_and_loses_nothing(report):
    lines = printed(report, width=80, force_terminal=True, color_system=None).splitlines()
    speed, accuracy = (words(line) for line in lines if line.startswith("onnxruntime INT8"))
    assert speed == "onnxruntime INT8 0.0756 0.0756 13,228 11.21× 72.6 MB"
    assert accuracy == "onnxruntime INT8 64.79 +0.81 99.19"
    assert max(map(len, lines)) <= 80


def test_a_long_name_goes_on_in_the_next_line_and_the_table_stays_one(report):
    name = "mini_xception.fine-tuned-on-our-own-faces.x86-vnni.int8.onnx"
    renamed = replace(report, rows=(report.baseline, replace(report.engines[1], name=name)))
    lines = printed(renamed, width=100, force_terminal=True, color_system=None).splitlines()
    assert sum("p50 ms" in line for line in lines) == 1
    assert max(map(len, lines)) <= 100
    head = next(i for i, line in enumerate(lines) if line.startswith("mini_xception.f"))
    assert "72.6 MB" in lines[head]
    assert "".join(line[:20].strip() for line in lines[head:]).startswith(name)


@pytest.mark.parametrize(
    ("ratio", "interval", "wrong", "words"),
    [
        (3.94, (3.8, 4.1), 1231, "3.9 × faster, at most 0.2 points lost"),
        (1.04, (1.02, 1.06), 1231, "4 % faster, at most 0.2 points lost"),
        (0.8, (0.7, 0.9), 1231, "1.25 × slower, at most 0.2 points lost"),
        (1.0, (0.97, 1.03), 1231, "no difference in speed is seen (0.97 to 1.03 ×), at most 0.2 points lost"),
        (3.94, (3.8, 4.1), 1245, "3.9 × faster, 0.2 to 0.7 points lost, inconclusive for a margin of 0.5"),
        (3.94, (3.8, 4.1), 1300, "3.9 × faster, 1.5 to 2.5 points lost, more than the 0.5 accepted"),
        (3.94, (3.8, 4.1), 1200, "3.9 × faster, 0.6 to 1.3 points gained"),
    ],
)
def test_the_verdict_is_worded_from_the_ends_of_intervals(report, ratio, interval, wrong, words):
    found = PairedAccuracy.of(predictions(1231, "mini_xception"), predictions(wrong, "x"), 0.5)
    engine = replace(report.engines[1], speedup=Estimate(ratio, interval), paired=found)
    assert engine.verdict == f"INT8 (onnxruntime INT8): {words}"
    assert engine.outcome.value == ("PASS" if ratio > 3 and wrong <= 1231 else "PASS" if ratio == 1.04 else
                                    "FAIL" if wrong == 1300 or ratio < 0.9 else "INCONCLUSIVE")  # fmt: skip
    assert printed(replace(report, rows=(report.baseline, engine))).startswith(engine.verdict)


def test_a_console_without_unicode_gets_ascii(report):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    terminal.print_report(report, Console(file=stream))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "11.21x" in text
    assert "+0.56..+1.16" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.02342, "0.0234"), (0.1239, "0.124"), (2.189, "2.19"), (19.62, "19.6"), (1234.4, "1,234")],
)
def test_latencies_have_three_digits(value, text):
    assert terminal.digits(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "–"), (999, "999 B"), (72_587, "72.6 kB"), (236_000, "236 kB"), (8_870_000, "8.9 MB"), (2.1e9, "2.1 GB")],
)
def test_sizes_are_decimal(size, text):
    assert terminal.size_text(size) == text


def test_disturbed_figures_are_shown_and_marked(report):
    busy = Disturbed(("other processes used 0.31 of 2 cores",), ("other processes used 0.31 of 2 cores",), ())
    marked = printed(replace(report, rows=tuple(replace(row, disturbed=busy) for row in report.rows)))
    int8 = next(line for line in marked.splitlines() if line.startswith("onnxruntime INT8"))
    assert words(int8) == words(
        next(line for line in printed(report).splitlines() if line.startswith("onnxruntime INT8"))
    ).replace("0.0756 0.0756 13,228", "~0.0756 ~0.0756 ~13,228")
    assert "~ disturbed: other processes used 0.31 of 2 cores" in marked
