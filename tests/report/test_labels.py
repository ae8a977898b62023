"""Names on charts: nothing is cut off at an edge, and no name lies on a mark or on another name."""

import itertools
import math
import re
from dataclasses import replace

import pytest

from edgefer.measure.latency import Estimate
from edgefer.measure.paired import class_drops
from edgefer.report import charts
from edgefer.report.page import page
from edgefer.report.report import Accuracy, PairedAccuracy
from edgefer.report.svg import WIDTH, Box, Names, width
from tests.report.conftest import invented_predictions

TEXT = re.compile(
    r'<text x="([-\d.]+)" y="([-\d.]+)" text-anchor="(\w+)"(?: class="(\w*)")?[^>]*?'
    r'(?:transform="rotate\((-?\d+) [^"]*")?>([^<]*)</text>'
)
NUMBERS = r'(\w+)="([-\d.]+)"'


def ends(match):
    """A text's left and right end, as wide as the estimate has it, turned as it is."""
    x, _, anchor, kind, turn, text = match.groups()
    long = width(text, bold=kind == "name") * math.cos(math.radians(float(turn or 0)))
    left = float(x) - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * long
    return left, left + long


def boxes(svg, element):
    for tag in re.findall(rf"<{element} [^>]*>", svg):
        yield tag, {key: float(value) for key, value in re.findall(NUMBERS, tag)}


def names_and_marks(svg):
    names = []
    for match in TEXT.finditer(svg):
        if match.group(4) == "name":
            left, right = ends(match)
            y = float(match.group(2))
            names.append(Box(left, y - 9, right, y))  # of small letters, without what hangs below
    dots = [Box(d["cx"] - 4.5, d["cy"] - 4.5, d["cx"] + 4.5, d["cy"] + 4.5) for _, d in boxes(svg, "circle")]
    lines = [Box(d["x1"] - 1, d["y1"], d["x1"] + 1, d["y2"]) for tag, d in boxes(svg, "line") if "whisker" in tag]
    lines = [Box(b.left, min(b.top, b.bottom), b.right, max(b.top, b.bottom)) for b in lines]
    return names, [*dots, *lines]


def rows_at(invented, points):
    """Rows named as engines are, at (ms, wrong answers)."""
    base = invented().baseline
    return [
        base,
        *(
            replace(
                base,
                name=f"onnxruntime INT8 {i}",
                latency=replace(base.latency, percentiles={"50": Estimate(ms, (ms, ms))}),
                accuracy=Accuracy.of(invented_predictions(wrong, "net")),
            )
            for i, (ms, wrong) in enumerate(points)
        ),
    ]


@pytest.mark.parametrize(
    "points",
    [
        [(0.50, 1205), (0.52, 1210)],
        [(0.50, 1205), (0.50, 1205), (0.51, 1206)],
        [(1.9, 1200), (2.0, 1202), (2.1, 1199)],
        [(0.1, 1500), (0.9, 1200), (0.95, 1201), (1.0, 1203)],
        [(0.50 + 0.02 * i, 1205 - i) for i in range(9)],
    ],
)
def test_names_of_engines_that_are_close_cover_nothing(invented, points):
    svg = charts.pareto(rows_at(invented, points))
    names, marks = names_and_marks(svg)
    assert len(names) == len(points) + 1
    assert len(marks) == 2 * len(names)
    for i, name in enumerate(names):
        assert not any(name.overlap(mark) for mark in marks)
        assert not any(name.overlap(other) for other in names[i + 1 :])
        assert name.left >= 0
        assert name.right <= WIDTH


def test_a_name_stands_by_its_point_where_nothing_is_in_the_way():
    names = Names(Box(0, 0, 400, 200), [Box(94, 94, 106, 106)])
    x, y = names.place(100, 100, "engine")
    assert x == pytest.approx(109)
    assert abs(y - 100) <= 10


@pytest.mark.parametrize("classes", [("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), ("a", "b")])
def test_names_of_classes_are_whole(classes):
    before = invented_predictions(5, "a", 70, classes=classes)
    after = invented_predictions(9, "b", 70, classes=classes)
    drawn = [
        charts.confusion(Accuracy.of(before).confusion, classes),
        charts.confusion_difference(PairedAccuracy.of(before, after, 0.5).confusion_difference, classes),
        charts.forest(class_drops(before, after), 1, 0.5),
    ]
    for svg in drawn:
        texts = list(TEXT.finditer(svg))
        assert len(texts) >= len(classes)
        for match in texts:
            left, right = ends(match)
            assert left >= 0, match.group(6)
            assert right <= WIDTH, match.group(6)
        tops = [float(m.group(2)) - width(m.group(6)) * math.sin(math.radians(40)) for m in texts if m.group(5)]
        assert not tops or min(tops) > 0


@pytest.mark.parametrize("count", [2, 7, 9, 20])
def test_long_names_of_classes_are_whole_on_several_lines(count):
    classes = tuple(f"an expression_with the longest name {chr(97 + i)}" for i in range(count))
    before, after = (invented_predictions(wrong, "a", 10 * count, classes=classes) for wrong in (3, 5))
    matrix = charts.confusion(Accuracy.of(before).confusion, classes)
    forest = charts.forest(class_drops(before, after), 1, 0.5)
    for drawn, times in ((matrix, 2), (forest, 1)):
        texts = list(TEXT.finditer(drawn))
        assert "…" not in drawn.replace("</title>", "")
        assert all(ends(match)[0] >= 0 and ends(match)[1] <= WIDTH for match in texts)
        written = "".join(match.group(6) for match in texts)
        assert all(written.count(name) == times for name in classes)
        floors = [float(match.group(2)) for match in texts if not match.group(5) and match.group(3) == "end"]
        assert all(low + 12 < high for low, high in itertools.pairwise(floors[: 2 * count])), "lines stand apart"


def test_long_names_of_engines_are_whole_on_several_lines(invented):
    name = "cliquenet_ferplus.fine-tuned-on-our-own-faces-2026-11.x86-vnni.int8.onnx"
    report = invented(engine=name)
    for svg in (charts.pareto(report.rows), charts.histogram(report.rows, report.time_axis_ms)):
        lines = [match for match in TEXT.finditer(svg) if match.group(4) == "name"]
        assert name in "".join(match.group(6) for match in lines)
        assert all(ends(match)[0] >= 0 and ends(match)[1] <= WIDTH for match in lines)


def test_what_has_no_median_has_no_dot(invented):
    few = invented(rounds=3)  # 15 calls: no median
    assert charts.pareto(few.rows) == ""
    assert "Accuracy against latency" not in page(few)
    assert "Accuracy against latency" in page(invented())
    mixed = charts.pareto([few.baseline, invented().engines[0]])
    assert "PyTorch FP32 (no median)" in mixed
    assert mixed.count("<circle") == 1
