"""Gates: PASS, FAIL and INCONCLUSIVE by intervals, their exit codes, and the JUnit file."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from edgefer.cli.measure import compare, gate
from edgefer.data import save_npz
from edgefer.errors import EdgeferError
from edgefer.measure.paired import Verdict, tango_interval
from edgefer.report.compare import change
from edgefer.report.gate import Limits, milliseconds, overall, print_checks, run_gate
from edgefer.report.markdown import markdown
from edgefer.report.page import page
from edgefer.report.report import read_report
from edgefer.report.timing import BenchSettings
from tests.report.conftest import CLASSES, benchmark


def checks(report, against=None, **limits):
    return run_gate(read_report(report), Limits(**limits), against=None if against is None else read_report(against))


def verdicts(*arguments, **limits):
    return [check.verdict.value for check in checks(*arguments, **limits)]


def test_a_drop_is_evaluated_by_its_interval(written):
    lossless, close, worse = (written(f"{wrong}.json", wrong=wrong) for wrong in (1200, 1212, 1300))
    assert verdicts(lossless, max_drop_pp=0.5) == ["PASS"]
    assert verdicts(close, max_drop_pp=0.5) == ["INCONCLUSIVE"], "+0.34 is below 0.5 and its interval is not"
    assert verdicts(worse, max_drop_pp=0.5) == ["FAIL"]
    (check,) = checks(close, max_drop_pp=0.5)
    assert check.told.startswith("+0.34 [")


def test_latency_is_evaluated_by_its_interval_and_only_where_it_is_carried(written):
    fast, short, busy = (
        written("fast.json"),
        written("short.json", rounds=30),
        written("busy.json", disturbed=("other processes used 0.80 of 2 cores",)),
    )
    assert verdicts(fast, max_ms=(("95", 0.6), ("95", 0.4))) == ["PASS", "FAIL"]
    p95 = read_report(fast).engines[0].latency.percentile("95")
    assert verdicts(fast, max_ms=(("95", p95),)) == ["INCONCLUSIVE"], "the limit lies in the interval"
    (check,) = checks(short, max_ms=(("95", 5.0),))
    assert check.verdict is Verdict.INCONCLUSIVE
    assert "150 timed calls are too few for a p95" in check.told
    (check,) = checks(busy, max_ms=(("95", 5.0),))
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.told.endswith(" ms is disturbed: other processes used 0.80 of 2 cores")
    assert verdicts(busy, max_drop_pp=0.5) == ["PASS"], "accuracy does not depend on who else computes"


def test_a_speedup_is_evaluated_where_it_is_not_disturbed(written):
    path = written("a.json")  # 2 ms and 0.5 ms
    assert verdicts(path, min_speedup=3.5) == ["PASS"]
    assert verdicts(path, min_speedup=4.5) == ["FAIL"]
    (check,) = checks(written("busy.json", disturbed=("others used 1.80 of 2 cores",)), min_speedup=3.5)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.told.endswith(" is disturbed: others used 1.80 of 2 cores")
    (check,) = checks(written("short.json", rounds=5), min_speedup=3.5)
    assert (check.verdict, check.told) == (Verdict.INCONCLUSIVE, "the engine or its baseline was timed too little")


def test_agreement_and_top1_are_evaluated_from_below(written):
    path = written("a.json", wrong=1240)  # 40 of 3,500 answers differ: 98.86 %
    assert verdicts(path, min_agreement=0.98) == ["PASS"]
    assert verdicts(path, min_agreement=0.9886) == ["INCONCLUSIVE"]
    assert verdicts(path, min_agreement=0.995) == ["FAIL"]
    assert verdicts(path, min_top1=0.6) == ["PASS"]
    assert verdicts(path, min_top1=0.7) == ["FAIL"]


def test_misses_need_a_paced_report(written):
    (check,) = checks(written("a.json"), max_misses=0.01)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert "--scope paced" in check.told


def test_misses_are_evaluated_by_their_interval(written):
    path = written("paced.json", misses=4)
    assert verdicts(path, max_misses=0.05) == ["PASS"]
    assert verdicts(path, max_misses=0.012) == ["INCONCLUSIVE"]
    assert verdicts(path, max_misses=0.001) == ["FAIL"]
    (check,) = checks(path, max_misses=0.05)
    assert check.told == "1.00% [0.40%, 2.50%]"


def test_against_another_report(written):
    main, same, slower = written("main.json"), written("same.json", ms=0.505), written("slower.json", ms=0.6)
    assert verdicts(same, main) == ["PASS"]
    assert verdicts(slower, main) == ["FAIL"]
    assert verdicts(slower, main, max_slowdown=0.3) == ["PASS"]
    drop, median = checks(written("worse.json", wrong=1300), main, max_drop_pp=4.0)[1:]
    assert drop.what == "drop from main.json at most 4 points"
    assert drop.verdict is Verdict.PASS
    assert "same faces, paired" in drop.told
    assert median.verdict is Verdict.PASS
    (_, drop, _) = checks(written("other.json", faces="cd" * 32), main, max_drop_pp=1.0)
    assert drop.verdict is Verdict.INCONCLUSIVE, "not paired, the interval is ten times as wide"
    assert "not the same faces" in drop.told


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"settings": BenchSettings(batch=8)}, "batch is 1 in main.json and 8 in new.json"),
        ({"settings": BenchSettings(scope="compute")}, "scope is e2e in main.json and compute in new.json"),
        ({"environment": {"cpu": "Another"}}, "cpu is An Example CPU 9000 in main.json and Another in new.json"),
        ({"disturbed": ("it drifted",)}, "the median is disturbed: new.json: it drifted"),
    ],
)
def test_latencies_that_cannot_be_compared_are_inconclusive(written, changed, reason):
    (check,) = checks(written("new.json", **changed), written("main.json"))
    assert (check.verdict.value, check.told) == ("INCONCLUSIVE", reason)


def test_an_engine_that_vanished_is_inconclusive_and_no_common_one_is_an_error(written):
    main, renamed = written("main.json"), written("renamed.json", engine="OpenVINO INT8")
    with pytest.raises(EdgeferError, match="have no engine in common") as caught:
        checks(renamed, main)
    assert "same engines" in caught.value.hint


def test_both_disturbed_reports_are_named(written):
    old, new = written("old.json", disturbed=("it drifted",)), written("new.json", disturbed=("others used 1 core",))
    (check,) = checks(new, old)
    assert check.told == "the median is disturbed: old.json: it drifted; new.json: others used 1 core"


def test_an_engine_is_found_in_the_other_report_whatever_company_it_has(invented, written):
    alone, company = invented(engine="x.onnx"), invented(engine="a/x.onnx")
    assert company.counterpart("x.onnx", alone) is company.engines[0]
    twice = replace(company, rows=(*company.rows, replace(company.engines[0], name="b/x.onnx")))
    assert twice.counterpart("x.onnx", alone) is None, "it could be either"
    assert twice.counterpart("b/x.onnx", twice) is twice.engines[1]
    (check,) = checks(written("new.json", engine="x.onnx"), written("old.json", engine="a/x.onnx"))
    assert check.verdict is Verdict.PASS


def test_bad_requests_are_refused(written):
    path = written("a.json")
    with pytest.raises(EdgeferError, match="given no limit") as caught:
        checks(path)
    assert "--max-drop" in caught.value.hint
    with pytest.raises(EdgeferError, match="no engine 'onnxruntime'") as caught:
        run_gate(read_report(path), Limits(max_drop_pp=1), engines=("onnxruntime",))
    assert "it has onnxruntime INT8" in caught.value.hint


@pytest.mark.parametrize("limits", [{"max_drop_pp": float("nan")}, {"min_top1": float("nan")}, {"max_slowdown": 1e999}])
def test_a_limit_is_a_number(limits):
    with pytest.raises(EdgeferError, match=f"the limit {next(iter(limits))} is (nan|inf)"):
        Limits(**limits)


def doctored(path, change):
    content = json.loads(path.read_text())
    change(content["details"])
    path.write_text(json.dumps(content))
    return path


def test_a_limit_that_cannot_be_evaluated_lets_nothing_through(written):
    lone = doctored(written("lone.json"), lambda details: details["rows"][1].update(paired=None))
    found = checks(lone, max_drop_pp=0.5, min_agreement=0.5)
    assert [check.verdict.value for check in found] == ["INCONCLUSIVE"] * 2
    assert found[0].told == "the report does not compare it with a baseline"
    empty = doctored(written("empty.json"), lambda details: details["rows"].pop())
    with pytest.raises(EdgeferError, match="a baseline and no engine"):
        checks(empty, max_drop_pp=0.5)


def test_reports_of_other_classes_are_not_held_against_each_other(written):
    main = doctored(written("main.json"), lambda details: details["classes"].__setitem__(0, "contempt"))
    with pytest.raises(EdgeferError, match="has the classes contempt, disgust"):
        checks(written("a.json"), main, max_drop_pp=0.5)


@pytest.mark.parametrize(
    ("text", "ms"), [("5ms", 5), ("800us", 0.8), ("800µs", 0.8), ("0.01s", 10), ("7", 7), (" 2.5 ms", 2.5)]
)
def test_times(text, ms):
    assert milliseconds(text) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["", "5 m", "ms", "-1ms", "0ms", "1e3"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(EdgeferError, match="is no time") as caught:
        milliseconds(text)
    assert "5ms" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "word", "code"),
    [
        (["--max-drop", "0.5", "--max-p95", "5ms", "--min-agreement", "0.985"], "PASS", 0),
        (["--max-drop", "0.5", "--max-p95", "100us"], "FAIL", 1),
        (["--max-drop", "0.1"], "INCONCLUSIVE", 3),
        (["--max-drop", "0.1", "--max-p50", "100us"], "FAIL", 1),
    ],
)
def test_exit_codes_and_the_last_line(written, tmp_path, options, word, code):
    done = CliRunner().invoke(gate, [str(written("a.json")), *options, "--junit", str(tmp_path / "j.xml")])
    assert done.exit_code == code
    assert done.stdout.splitlines()[-1] == word
    assert done.stderr == f"wrote {tmp_path / 'j.xml'}\n"
    suites = ElementTree.parse(tmp_path / "j.xml").getroot()
    suite = suites.find("testsuite")
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests")) == len(options) // 2
    assert int(suite.get("failures")) == len(suite.findall("*/failure"))
    assert int(suite.get("errors")) == len(suite.findall("*/error"))
    assert bool(suite.findall("*/failure") or suite.findall("*/error")) == (code != 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-top1", "60"], "'60' is ambiguous: write 60% or a share below 1, such as 0.6"),
        (["--max-misses", "1"], "'1' is ambiguous: write 1%"),
        (["--min-agreement", "101%"], "'101%' is more than 100%"),
        (["--min-top1", "good"], "'good' is no percentage"),
        (["--max-drop", "0.5%"], "'0.5%' is ambiguous"),
        (["--max-drop", "1", "--junit", "x.pdf"], "--junit writes .xml"),
    ],
)
def test_limits_that_could_mean_two_things_are_refused(written, options, message):
    done = CliRunner().invoke(gate, [str(written("a.json")), *options])
    assert done.exit_code == 2
    assert message in done.output


def test_percentages_and_shares_are_alike_and_printed_as_percentages(written):
    path, limits = str(written("a.json")), ["--min-agreement", "98.5%", "--min-top1", "0.6"]
    done = CliRunner().invoke(gate, [path, *limits])
    assert "agreement at least 98.5%: 99.86% [" in done.output
    assert "top-1 at least 60%: 65.57% [" in done.output
    assert done.output == CliRunner().invoke(gate, [path, "--min-agreement", "0.985", "--min-top1", "60%"]).output


def test_a_gate_has_colours_in_a_terminal_only(written, monkeypatch):
    found = checks(written("a.json"), max_drop_pp=0.5)
    for forced, bare, coloured in ((True, "", True), (True, "1", False), (False, "", False)):
        monkeypatch.setenv("NO_COLOR", bare)
        monkeypatch.setenv("TERM", "xterm")
        stream = io.StringIO()
        print_checks(found, Console(file=stream, force_terminal=forced))
        assert ("\x1b[1;32m" in stream.getvalue()) is coloured


def test_a_comparison_does_not_overwrite_a_report(written):
    a, b, c = (str(written(name)) for name in ("a.json", "b.json", "c.json"))
    done = CliRunner().invoke(compare, ["--json", a, b, c])
    assert done.exit_code == 2
    assert "would overwrite a report" in done.output
    done = CliRunner().invoke(compare, [b, c, "--json", f"{a}.new.json"])
    assert done.stderr == f"wrote {a}.new.json\n"
    assert "p50 ms" in done.stdout
    assert len(json.loads(Path(f"{a}.new.json").read_text())["reports"]) == 2


def test_the_verdict_is_in_the_exit_code_where_nobody_reads_it(written):
    for limit, code in (("60", 0), ("-60", 1)):
        reader, writer = os.pipe()
        os.close(reader)
        line = [sys.executable, "-m", "edgefer", "gate", str(written("a.json")), "--max-drop", limit]
        done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
        os.close(writer)
        assert (done.returncode, done.stderr) == (code, b"")


def test_json_of_a_gate(written):
    done = CliRunner().invoke(gate, [str(written("a.json")), "--max-drop", "0.5", "--json"])
    found = json.loads(done.stdout)
    assert done.stderr.splitlines()[-1] == "PASS"
    assert found["verdict"] == "PASS"
    assert found["checks"][0] | {"told": ""} == {
        "engine": "onnxruntime INT8",
        "check": "drop at most 0.5 points",
        "verdict": "PASS",
        "told": "",
    }
    assert overall(()) is Verdict.PASS


def test_compare_prints_changes_and_what_limits_them(written):
    reports = [
        str(written("a.json")),
        str(written("b.json", ms=0.6, wrong=1230)),
        str(written("c.json", faces="cd" * 32)),
    ]
    done = CliRunner().invoke(compare, reports)
    assert done.exit_code == 0, done.output
    engine = [line.split() for line in done.output.splitlines() if "INT8" in line]
    assert engine[0][:3] == ["onnxruntime", "INT8", "0.500"]
    assert engine[1][3] == "+20%"
    assert "+0.71" in engine[1], "25 more of 3,500"
    assert "c.json was evaluated on other faces" in done.output
    found = json.loads(CliRunner().invoke(compare, [*reports, "--json"]).stdout)
    assert [report["same_faces"] for report in found["reports"]] == [True, True, False]
    (row,) = [row for row in found["rows"] if row["report"].endswith("b.json") and "INT8" in row["name"]]
    assert row["slowdown"]["50"]["value"] == pytest.approx(1.2, rel=1e-6)
    assert row["drop_pp"]["paired"] is True


def test_compare_prints_names_as_they_are(written):
    reports = [str(written(f"[red]{name}.json", engine="onnxruntime INT8 [bold].onnx")) for name in "ab"]
    done = CliRunner().invoke(compare, reports)
    assert "[red]a.json" in done.output
    assert done.output.count("onnxruntime INT8 [bold].onnx") == 2


def test_compare_refuses_one_report_and_other_classes(written, tmp_path):
    path = written("a.json")
    done = CliRunner().invoke(compare, [str(path)])
    assert isinstance(done.exception, EdgeferError)
    assert "two or more reports, not 1" in done.exception.message
    content = json.loads(path.read_text())
    content["details"]["classes"][0] = "contempt"
    (tmp_path / "b.json").write_text(json.dumps(content))
    done = CliRunner().invoke(compare, [str(path), str(tmp_path / "b.json")])
    assert "contempt" in done.exception.message
    assert "same labels" in done.exception.hint


def test_copies_of_test_faces_do_not_turn_inconclusive_into_pass(fake_classifier, tmp_path):
    """200 faces repeated 30 times tell what 200 tell, in every interval that a gate reads."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (200, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(200) % 3
    images[:, 0, 0, 0], images[:, 0, 1, 0] = labels, np.arange(200)
    found = {}
    for copies in (1, 30):
        data = tmp_path / f"x{copies}.npz"
        save_npz(data, np.tile(images, (copies, 1, 1, 1)), np.tile(labels, copies), CLASSES, ["test"] * 200 * copies)
        engines = [fake_classifier("onnxruntime", "int8", mistakes=50, ms=0.0)]
        report = benchmark(engines, str(data), fake_classifier("pytorch", ms=0.0), seconds=0.05)
        path = tmp_path / f"x{copies}.json"
        path.write_text(json.dumps(report.to_json()), encoding="utf-8")
        again = read_report(path)
        row = again.engines[0]
        values = (row.paired.drop_pp, row.paired.ci95_pp, row.accuracy.ci95, row.paired.agreement_ci95)
        told = [check.told for check in checks(path, max_drop_pp=2.5, min_agreement=0.97, min_top1=0.97)]
        found[copies] = (verdicts(path, max_drop_pp=2.5), told, *values)
        paired = change(again, again, again.baseline, row)
        assert paired.is_paired
        assert (paired.drop_pp.value, paired.drop_pp.ci95) == values[:2]
    assert found[30] == found[1]
    assert found[1][0] == ["INCONCLUSIVE"]
    assert row.paired.drop_pp == 2.0
    sentence = "6,000 faces, 200 distinct: intervals count copies and near-duplicates once"
    assert sentence in report.warnings
    assert sentence in report.to_json()["environment"]["warnings"]
    assert sentence in markdown(report)
    assert sentence in page(report)
    assert [row["accuracy"]["distinct"] for row in report.to_json()["details"]["rows"]] == [200, 200]
    assert tango_interval(120, 0, 6000)[1] < 0.025 < tango_interval(4, 0, 200)[1], "copies would have passed it"
