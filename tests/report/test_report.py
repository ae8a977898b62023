"""A report's JSON: what it carries, that every output can be made from it, and what is refused when it is read."""

import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from edgefer.cli.measure import report as command
from edgefer.errors import EdgeferError
from edgefer.measure.latency import GpuTimes
from edgefer.report.evaluated import LeftOut
from edgefer.report.markdown import markdown
from edgefer.report.page import page
from edgefer.report.report import (
    BenchSettings,
    Energy,
    Report,
    from_digits,
    from_members,
    read_report,
    to_digits,
    to_members,
)
from edgefer.report.terminal import print_details, print_report
from tests.report.conftest import benchmark

ENGINE = "onnxruntime INT8"
TELEMETRY = {
    "cpu_load": 1.02,
    "mhz": {"min": 1000, "median": 2000.0, "max": 2100, "first_third": None, "last_third": None},
    "celsius": {"zone": "soc", "first": 40.0, "last": 50.0, "max": 51.0},
    "peak_rss_bytes": 200_000_000,
    "watts": 4.5,
    "power_source": "INA3221",
    "untold": [],
}


def every_text(report):
    """All outputs of a report, and its JSON."""
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=120))
    print_details(report, Console(file=stream, width=120))
    return [page(report), markdown(report), stream.getvalue(), json.dumps(report.to_json())]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rounds": 3},
        {"disturbed": ("it drifted",), "left_out": LeftOut(3514, {"trained mini": 14}), "warnings": ("busy",)},
        {"settings": BenchSettings(scope="paced", fps=25, seconds=3, deadline_ms=20), "misses": 7, "rounds": 2500},
        {
            "telemetry": TELEMETRY,
            "energies": {ENGINE: Energy("INA3221", 0.0042)},
            "gpu_ms": {ENGINE: GpuTimes(0.0123, 0.25, 0.0345, 400, 400)},
            "environment": {"packages": {"numpy": "2.0"}, "memory_bytes": 8_000_000_000},
        },
        {"count": 100_001},
    ],
)
def test_every_output_is_the_same_from_the_json(invented, changed):
    report = invented(**changed)
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert every_text(again) == every_text(report)
    assert again.raw is None


def test_a_measured_report_too(fake_classifier, faces, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    engines = [fake_classifier("onnxruntime", "int8", mistakes=5), fake_classifier("openvino", "int8", mistakes=7)]
    report = benchmark(engines, faces, fake_classifier("pytorch"), seconds=0.1, telemetry=True)
    (tmp_path / "r.json").write_text(json.dumps(report.to_json(), indent=2))
    monkeypatch.delenv("OMP_NUM_THREADS")
    again = read_report(tmp_path / "r.json")
    assert again == report
    assert again.path == tmp_path / "r.json"
    assert every_text(again) == every_text(report)
    assert "OMP_NUM_THREADS=3" in page(again), "of the machine that measured, not of the one that draws"


def test_the_command_prints_or_writes_what_a_device_measured(written, invented, tmp_path):
    path = written("r.json", disturbed=("it drifted",))
    report = read_report(path)
    arguments = [str(path), "--html", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"wrote {tmp_path / 'r.md'}\nwrote {tmp_path / 'r.html'}\n"
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page(report)
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == markdown(report)
    printed = CliRunner().invoke(command, [str(path)], catch_exceptions=False).output
    assert "~ disturbed: it drifted" in printed
    assert "macro-F1" in printed


def test_the_command_refuses_what_it_cannot_write_or_read(written, tmp_path):
    path = str(written("r.json"))
    done = CliRunner().invoke(command, [path, "--html", str(tmp_path / "x.pdf")])
    assert "--html writes .html or .htm, not" in done.output
    assert "name it x.html" in done.output
    done = CliRunner().invoke(command, [str(tmp_path / "none.json")])
    assert "there is no report" in done.exception.message
    assert "edgefer bench" in done.exception.hint


def test_what_is_written_is_read_back(written, invented):
    report = invented()
    found = read_report(written("a.json"))
    base, engine = found.baseline, found.engines[0]
    assert found.data == "faces.npz:test", "where the file lies is nobody's business"
    assert (base.accuracy.n, engine.name) == (3500, ENGINE)
    assert np.array_equal(from_digits(found.labels), report.raw.predictions[0].labels)
    assert np.array_equal(from_digits(engine.accuracy.answers), report.raw.predictions[1].answers)
    assert set(engine.latency.percentiles) == {"50", "90", "95", "99"}, "1,000 calls do not carry a p99.9"
    assert engine.latency.p50 == pytest.approx(np.median(report.raw.rounds_ms[ENGINE]))
    p95 = engine.latency.percentiles["95"]
    assert p95.ci95[0] < p95.value < p95.ci95[1]
    assert sum(engine.latency.histogram) == engine.latency.n == 1000
    assert engine.paired.drop_pp == pytest.approx(100 * 5 / 3500)
    assert (engine.paired.baseline_only, engine.paired.candidate_only) == (5, 0)
    assert engine.paired.agreement == pytest.approx(1 - 5 / 3500)
    assert engine.paired.agreement_ci95[0] < engine.paired.agreement < engine.paired.agreement_ci95[1]


def test_details_carry_every_switch_and_every_class(invented):
    found = invented(settings=BenchSettings(scope="paced", fps=25, threads=2)).to_json()
    assert found["schema"] == 3
    details = found["details"]
    switches = details["settings"]
    assert (switches["scope"], switches["fps"], switches["threads"]) == ("paced", 25, 2)
    assert switches["garbage_collection"] == "off while timing"
    assert "fps" not in invented().to_json()["details"]["settings"], "it means nothing where nothing is paced"
    base, engine = details["rows"]
    assert [score["name"] for score in engine["accuracy"]["per_class"]] == details["classes"]
    assert np.sum(engine["accuracy"]["confusion"]) == 3500
    assert np.sum(engine["paired"]["confusion_difference"]) == 0
    assert len(engine["paired"]["per_class"]) == 7
    assert engine["paired"]["non_inferiority"]["verdict"] == "PASS"
    assert engine["paired"]["non_inferiority"]["sentence"].startswith("no worse than 0.5 points: shown")
    assert engine["paired"]["kl_nats"] > 0
    assert base["paired"] is None
    assert engine["layers"][0] == {"layer": "conv0", "op": "Conv", "asked": "int8", "got": "fp32"}
    assert engine["latency"]["variation"] == pytest.approx(0.03, rel=0.1)
    assert engine["latency"]["rounds"] == 200


def test_labels_travel_as_a_digit_each_or_not_at_all():
    labels = np.array([0, 6, 35, 10])
    assert to_digits(labels, 36) == "06za"
    assert from_digits("06za").tolist() == labels.tolist()
    assert to_digits(labels, 37) is None
    assert to_digits(np.zeros(100_001, int), 7) is None


def test_groups_of_near_duplicates_travel_as_their_members():
    groups = np.array([4, 1, 4, 2, 1, 7])
    assert to_members(groups) == ("1 4", "0 2")
    assert from_members(("1 4", "0 2"), 6).tolist() == [0, 1, 0, 3, 1, 5]
    assert to_members(np.zeros(100_001, int)) is None


def in_details(**changed):
    return lambda content: {**content, "details": {**content["details"], **changed}}


def in_engine(**changed):
    def change(content):
        base, engine = content["details"]["rows"]
        return in_details(rows=[base, {**engine, **changed}])(content)

    return change


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            lambda c: c | {"schema": 9, "details": {"edgefer": "3.0"}},
            r"newer edgefer \(3.0\): its schema is 9",
            "upgrade",
        ),
        (lambda c: c | {"schema": 4, "details": []}, r"newer edgefer \(\?\): its schema is 4", "upgrade"),
        (lambda c: {"schema": 4, "rows": []}, "newer edgefer", "upgrade"),
        (
            lambda c: c | {"schema": 2},
            r"written with schema 2 by edgefer 0.1.0; this edgefer reads schema 3",
            "edgefer bench",
        ),
        (lambda c: c | {"schema": "3"}, "has the schema '3', which is no version", "--json"),
        (lambda c: c | {"schema": None}, "has the schema None", "--json"),
        (lambda c: {k: v for k, v in c.items() if k != "schema"}, "has no schema", "--json"),
        (lambda c: {"faces": 1}, "not a report of a benchmark", "--json"),
        (lambda c: [c], "not a report of a benchmark", "--json"),
        (lambda c: {k: v for k, v in c.items() if k != "details"}, "KeyError: 'details'", "--json"),
        (lambda c: c | {"environment": {"cpu": 3}}, "environment.cpu is 3", "--json"),
        (lambda c: c | {"environment": []}, "edgefer wrote: TypeError", "--json"),
        (in_details(rows=[]), "a baseline and no engine", "--json"),
        (in_details(labels="!!"), "2 labels or answers of 3500", "--json"),
        (in_details(labels="!" * 3500), "edgefer wrote: ValueError", "--json"),
        (in_details(labels="9" * 3500), "beyond the 7 classes", "--json"),
        (in_details(labels="0123"), "4 labels or answers of 3500", "--json"),
        (in_details(groups=["0 3500"]), "is no group of the 3500 faces", "--json"),
        (in_details(groups=["-1 -2"]), "is no group of the 3500 faces", "--json"),
        (in_details(groups=["0 1", "1 2"]), "'1 2' is no group", "--json"),
        (in_details(groups=["5"]), "'5' is no group", "--json"),
        (in_details(groups=["0 x"]), "edgefer wrote: ValueError", "--json"),
        (in_details(classes=["angry"]), "for another number of classes than 1", "--json"),
        (in_details(telemetry={"mhz": {"median": "x"}}), "telemetry.mhz.median is 'x'", "--json"),
        (in_details(time_axis_ms=None), "details.time_axis_ms is None", "--json"),
        (in_details(time_axis_ms=[1.0]), "edgefer wrote: ValueError", "--json"),
        (in_details(settings={"scope": "fast"}), "there is no scope 'fast'", "--json"),
        (in_engine(size_bytes="many"), r"details.rows\[1\].size_bytes is 'many'", "--json"),
        (in_engine(images_per_s=float("inf")), "Infinity is no number of JSON", "--json"),
        (in_details(time_axis_ms=[2.0, 1.0]), r"the time axis is \(2.0, 1.0\)", "--json"),
        (in_engine(latency={"n": 3}), r"KeyError: 'details.rows\[1\].latency.rounds'", "--json"),
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
