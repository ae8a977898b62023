"""A report's JSON: what it carries, and what is refused when it is read."""

import json

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.report.details import decode, encode
from edgefer.report.document import read_report
from edgefer.report.settings import Settings


def test_what_is_written_is_read_back(written, invented):
    report = invented()
    document = read_report(written("a.json"))
    assert document.classes == report.baseline.predictions.classes
    assert document.faces == 3500
    assert np.array_equal(document.labels, report.baseline.predictions.labels)
    base, engine = document.entries
    assert (base.is_baseline, engine.is_baseline, engine.name) == (True, False, "onnxruntime INT8")
    assert engine.latency["50"].value == pytest.approx(report.engines[0].latency.p50)
    assert set(engine.latency) == {"50", "90", "95", "99"}, "1,000 calls do not carry a p99.9"
    low, high = engine.latency["95"].ci95
    assert low < engine.latency["95"].value < high
    assert engine.drop_pp.value == pytest.approx(100 * 5 / 3500)
    assert engine.agreement.value == pytest.approx(1 - 5 / 3500)
    assert engine.agreement.ci95[0] < engine.agreement.value < engine.agreement.ci95[1]
    assert np.array_equal(engine.answers, report.engines[0].predictions.answers)
    assert document.invalid == ()


def test_details_carry_every_switch_and_every_class(invented):
    found = invented(settings=Settings(scope="paced", fps=25, threads=2)).to_json()
    assert found["schema"] == 1
    details = found["details"]
    switches = details["settings"]
    assert (switches["scope"], switches["fps"], switches["threads"]) == ("paced", 25, 2)
    assert switches["garbage_collection"] == "off while timing"
    assert "fps" not in invented().to_json()["details"]["settings"], "it means nothing where nothing is paced"
    base, engine = details["rows"]
    assert [score["class"] for score in engine["accuracy"]["per_class"]] == details["classes"]
    assert np.sum(engine["accuracy"]["confusion"]) == 3500
    assert np.sum(engine["paired"]["confusion_difference"]) == 0
    assert len(engine["paired"]["per_class"]) == 7
    assert engine["paired"]["non_inferiority"]["verdict"] == "PASS"
    assert engine["paired"]["kl_nats"] > 0
    assert base["paired"] is None
    assert engine["layers"][0] == ["conv0", "Conv", "int8", "fp32"]
    assert engine["latency"]["variation"] == pytest.approx(0.03, rel=0.1)
    assert engine["latency"]["rounds"] == 200


def test_labels_travel_as_a_digit_each_or_not_at_all():
    labels = np.array([0, 6, 35, 10])
    assert encode(labels, 36) == "06za"
    assert decode("06za").tolist() == labels.tolist()
    assert encode(labels, 37) is None
    assert encode(np.zeros(100_001, int), 7) is None


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            lambda c: c | {"schema": 9, "details": {"edgefer": "3.0"}},
            r"newer edgefer \(3.0\): its schema is 9",
            "upgrade",
        ),
        (lambda c: c | {"schema": 2, "details": []}, r"newer edgefer \(\?\): its schema is 2", "upgrade"),
        (lambda c: {"schema": 2, "rows": []}, "newer edgefer", "upgrade"),
        (lambda c: c | {"schema": "2"}, "has the schema '2', which is no version", "--json"),
        (lambda c: c | {"schema": None}, "has the schema None", "--json"),
        (lambda c: {k: v for k, v in c.items() if k != "schema"}, "has no schema", "--json"),
        (lambda c: {"faces": 1}, "not a report of a benchmark", "--json"),
        (lambda c: [c], "not a report of a benchmark", "--json"),
        (
            lambda c: c | {"details": {**c["details"], "rows": []}},
            "not a report that edgefer wrote: IndexError",
            "--json",
        ),
        (lambda c: c | {"details": {**c["details"], "labels": "!!"}}, "edgefer wrote: ValueError", "--json"),
        (lambda c: {k: v for k, v in c.items() if k != "details"}, "KeyError: 'details'", "--json"),
        (lambda c: c | {"details": {**c["details"], "labels": "0123"}}, "4 labels or answers of 3500", "--json"),
    ],
)
def test_what_is_no_report_is_refused(written, change, message, hint):
    path = written("a.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(EdgeferError, match=message) as caught:
        read_report(path)
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


def test_files_that_are_missing_or_no_json_are_refused(tmp_path):
    with pytest.raises(EdgeferError, match="there is no report"):
        read_report(tmp_path / "none.json")
    (tmp_path / "x.json").write_bytes(b"\xff{")
    with pytest.raises(EdgeferError, match="cannot be read") as caught:
        read_report(tmp_path / "x.json")
    assert "edgefer bench" in caught.value.hint
