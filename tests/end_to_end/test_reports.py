"""Reports through the commands: measured here, written to files, held to limits there."""

import json
from xml.etree import ElementTree

import pytest

from edgefer.measure.accuracy import Predictions
from tests.end_to_end.conftest import edgefer


@pytest.fixture(scope="module")
def reports(road, tmp_path_factory):
    """A folder with the reports of one run in every form, and that run."""
    folder = tmp_path_factory.mktemp("reports")
    done = edgefer(
        *("bench", road.int8, road.fp32, "--data", road.faces, "--baseline", road.weights),
        *("--iterations", 200, "--processes", 2, "--cache", "cache", "--json", "--html", "r.html", "--with-images"),
        *(
            "--markdown",
            "r.md",
            "--samples",
            "r.csv",
            "--save-baseline",
            "base.npz",
            "--save-predictions",
            "p.npz",
        ),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    (folder / "r.json").write_text(done.stdout, encoding="utf-8")
    return folder


def test_one_run_is_written_in_every_form(road, reports):
    content = json.loads((reports / "r.json").read_text())
    details = content["details"]
    assert [row["name"] for row in details["rows"]] == [road.weights.name, road.int8.name, road.fp32.name]
    assert [row["latency"]["n"] for row in details["rows"]] == [200, 200, 200]
    assert details["telemetry"]["readings"] >= 1
    assert details["telemetry"]["peak_rss_bytes"] > 1e7
    assert len(details["rows"][1]["layers"]) > 5
    page = (reports / "r.html").read_text(encoding="utf-8")
    assert page.count("<svg") > 8
    assert "http" not in page
    assert f"| {road.int8.name} (onnxruntime INT8) |" in (reports / "r.md").read_text(encoding="utf-8")
    assert len((reports / "r.csv").read_text().splitlines()) == 1 + 3 * 200
    assert not list((reports / "cache").rglob("*.npy"))
    saved = Predictions.load(reports / "base.npz")
    assert saved.top1 == pytest.approx(details["rows"][0]["accuracy"]["top1"])


def test_a_host_draws_what_a_device_measured(reports):
    done = edgefer("report", "r.json", "--html", "host.html", "--markdown", "host.md", cwd=reports)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "wrote host.md\nwrote host.html\n")
    assert (reports / "host.md").read_bytes() == (reports / "r.md").read_bytes()
    page, with_images = ((reports / name).read_text(encoding="utf-8") for name in ("host.html", "r.html"))
    start, end = with_images.index('<h2 id="faces">'), with_images.index('<h2 id="environment">')
    assert page == with_images[:start] + with_images[end:]
    printed = edgefer("report", "r.json", cwd=reports)
    assert "onnxruntime INT8" in printed.stdout


def test_answers_of_a_host_are_a_baseline_without_torch(road, reports):
    done = edgefer(
        *("bench", road.int8, "--data", road.faces, "--baseline", reports / "base.npz", "--iterations", 20, "--json")
    )
    assert done.returncode == 0, done.stderr
    here, there = json.loads(done.stdout)["paired"], json.loads((reports / "r.json").read_text())["paired"]
    assert here.pop("ci95_pp") == pytest.approx(there.pop("ci95_pp"))
    assert here == pytest.approx(there)


def test_a_gate_holds_a_report_to_limits(road, reports):
    passed = edgefer("gate", "r.json", "--max-drop", 50, "--min-agreement", "10%", "--junit", "j.xml", cwd=reports)
    assert (passed.returncode, passed.stdout.splitlines()[-1]) == (0, "PASS")
    assert ElementTree.parse(reports / "j.xml").getroot().get("failures") == "0"
    failed = edgefer("gate", "r.json", "--min-top1", 0.999, cwd=reports)
    assert (failed.returncode, failed.stdout.splitlines()[-1]) == (1, "FAIL")
    open_ = edgefer("gate", "r.json", "--max-p99", "1s", "--engine", road.int8.name, cwd=reports)
    assert (open_.returncode, open_.stdout.splitlines()[-1]) == (3, "INCONCLUSIVE")
    assert "200 timed calls are too few for a p99" in open_.stdout
    wrong = edgefer("gate", "r.md", "--max-drop", 1, cwd=reports)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: the report r.md cannot be read")
    assert "hint:" in wrong.stderr


def test_reports_beside_each_other(road, reports):
    done = edgefer("compare", "r.json", "r.json", cwd=reports)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.strip().startswith(road.int8.name)]
    assert len(rows) == 2, done.stdout
    assert "+0%" in done.stdout


def test_a_sweep(road):
    done = edgefer(
        *("sweep", road.int8, "--data", road.faces, "--batches", "1,4", "--concurrency", "1,2", "--seconds", 0.1),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout)["points"]
    assert [(point["concurrency"], point["batch"]) for point in points] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert all(point["images_per_s"] > 0 for point in points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--with-images",), "--with-images goes with --html"),
        (("--save-baseline", "x.txt"), "--save-baseline writes an .npz"),
        (("--samples", "x.txt"), "samples are written as .csv or .npz, not x.txt"),
        (("--scope", "paced", "--deadline", "soon"), "'soon' is no time"),
        (("--margin", "0"), "--margin"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(road, tmp_path, options, message):
    arguments = ("bench", road.fp32, "--data", road.faces, "--baseline", road.weights, *options)
    done = edgefer(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "timing" not in done.stderr
    assert list(tmp_path.iterdir()) == []
