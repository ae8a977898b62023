"""What a benchmark can be asked beyond its defaults, and what it then refuses or says."""

import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgefer.cli.measure import bench as command
from edgefer.contract import Contract, Normalisation
from edgefer.data import open_dataset, save_npz
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.measure.telemetry import Recording
from edgefer.report import bench, timing
from edgefer.report.sweep import run_sweep
from tests.report import conftest


def benchmark(*arguments, **settings):
    return conftest.benchmark(*arguments, **{"seconds": 0.02, **settings})


def test_compute_leaves_out_what_surrounds_the_runtimes_call(fake_classifier, faces, monkeypatch):
    engine = fake_classifier()
    checked = []
    monkeypatch.setattr(engine, "_check_batch", lambda batch: checked.append(len(batch)))
    benchmark(engine, faces, fake_classifier("pytorch"), scope="compute")
    during_timing = len(checked)
    benchmark(engine, faces, fake_classifier("pytorch"), scope="e2e")
    assert during_timing == 2, "the hundred evaluated faces, and no timed call"
    assert len(checked) - during_timing > 50


def test_iterations_are_timed_exactly_and_recorded(fake_classifier, faces):
    report = benchmark(fake_classifier(), faces, fake_classifier("pytorch"), iterations=35)
    assert [row.latency.n for row in report.rows] == [35, 35]
    settings = report.to_json()["details"]["settings"]
    assert (settings["iterations"], settings["scope"]) == (35, "e2e")


def test_a_speedup_needs_ten_rounds(fake_classifier, faces):
    few, enough = (
        benchmark(fake_classifier(), faces, fake_classifier("pytorch"), iterations=count).engines[0]
        for count in (45, 50)
    )
    assert few.speedup is None, "nine rounds: an interval from so few would be too narrow"
    assert enough.speedup is not None


def test_a_paced_run_is_long_enough_for_a_p95(fake_classifier, faces):
    report = benchmark(fake_classifier(ms=0.1), faces, fake_classifier("pytorch", ms=0.1), scope="paced", fps=2000)
    assert [row.latency.n for row in report.rows] == [200, 200]
    assert all(row.latency.percentile("95") is not None and row.speedup is not None for row in report.engines)
    assert not any("too few" in reason for reason in report.warnings)


def test_a_paced_run_counts_misses(fake_classifier, faces):
    slow, fast = fake_classifier(ms=30), fake_classifier("pytorch", ms=0.1)
    report = benchmark(slow, faces, fast, scope="paced", fps=100, iterations=20, warm_up=0)
    engine, base = report.engines[0].pace, report.baseline.pace
    assert engine.misses == engine.frames > 20
    assert base.misses <= base.frames
    row = report.to_json()["details"]["rows"][1]
    assert row["pace"]["miss_share"] == 1
    assert report.engines[0].latency.min >= 30


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"scope": "fast"}, "no scope 'fast'", "compute, e2e, paced"),
        ({"iterations": 0}, "--iterations is 0, not a whole number", "--iterations 1"),
        ({"warm_up": -1}, "must not be negative, and is -1 s", "--warm-up"),
        ({"margin_pp": 0, "iterations": 5}, "margin must be a positive", "--margin"),
        ({"margin_pp": float("nan")}, "margin must be a positive", "--margin"),
        ({"seconds": float("inf")}, "longer than 0 s, not inf", "--seconds"),
        ({"warm_up": float("nan")}, "must not be negative, and is nan", "--warm-up"),
        ({"scope": "paced", "fps": 0}, "frame rate and deadline", "--fps"),
        ({"scope": "paced", "fps": float("nan")}, "frame rate and deadline", "--fps"),
        ({"scope": "paced", "deadline_ms": -1}, "frame rate and deadline", "--fps"),
        ({"processes": 0}, "--processes is 0, not a whole number", "--processes 1"),
    ],
)
def test_impossible_requests_are_refused(fake_classifier, faces, arguments, message, hint):
    with pytest.raises(EdgeferError, match=message) as caught:
        path = "engine.onnx"
        bench_engine = fake_classifier()
        batches = bench_engine.session.batches
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench, "load_engine", lambda *_, **__: bench_engine)
            benchmark(path, faces, fake_classifier("pytorch"), **arguments)
    assert hint in caught.value.hint
    assert batches == [], "it is refused before anything is evaluated"


def test_an_open_engine_is_evaluated_by_one_process_and_that_is_said(fake_classifier, faces, capsys):
    benchmark(fake_classifier(name="held.onnx"), faces, fake_classifier("pytorch"), processes=3)
    assert "held.onnx is open already: one process computes its answers, not 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["--html", "x.pdf"], "--html writes .html or .htm, not x.pdf: name it x.html"),
        (["--html", "/dev/null/x.html"], "cannot write /dev/null/x.html: /dev/null is not a folder"),
        (["--json", "x.onnx"], "--json writes .json, not x.onnx: name it x.json"),
        (["--margin", "0.5%"], "'0.5%' is ambiguous"),
        (["--save-baseline", "x.npz", "--save-predictions", "./x.npz"], "two of the files to write are the same"),
        (["--samples", "s.txt"], "written as .csv or .npz"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_anything_is_opened(files, message):
    done = CliRunner().invoke(command, ["none.onnx", "--data", "none.npz", "--baseline", "lenet", *files])
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"


def other_contract(classifier, **changed):
    contract = replace(classifier.contract, **changed)
    return Classifier(classifier.session, contract, precision="int8", size_bytes=1, name="other.onnx")


def test_the_same_network_with_another_input_is_refused(fake_classifier, faces):
    odd = other_contract(fake_classifier(), normalisation=Normalisation(mean=(0.5,)))
    with pytest.raises(EdgeferError, match="they are not the same fakenet") as caught:
        benchmark(odd, faces, fake_classifier("pytorch"))
    assert "other.onnx takes 4×4×1 faces (scale 0.003922; mean 0.5; std 1)" in caught.value.message
    assert "--save-baseline" in caught.value.hint


def test_another_network_with_another_input_is_compared_with_a_warning(fake_classifier, faces):
    other = other_contract(fake_classifier(), normalisation=Normalisation(mean=(0.5,)), architecture="othernet")
    report = benchmark(other, faces, fake_classifier("pytorch"))
    assert any("two networks are compared" in warning for warning in report.warnings)


def test_a_class_without_faces_is_said_and_has_no_figures(fake_classifier, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = labels = np.arange(60) % 2
    save_npz(tmp_path / "two.npz", images, labels, ("angry", "happy", "sad"), ["test"] * 60)
    report = benchmark(fake_classifier(), open_dataset(tmp_path / "two.npz"), fake_classifier("pytorch"))
    assert any("has no face of sad" in warning for warning in report.warnings)
    row = report.to_json()["details"]["rows"][1]
    assert row["accuracy"]["per_class"][2] == {"name": "sad", "n": 0, "precision": None, "recall": None, "f1": None}
    assert row["paired"]["per_class"][2] == {"name": "sad", "n": 0, "drop_pp": None, "ci_pp": None}


class NotANumber:
    """Logits that overflow."""

    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, feeds):
        return {"logits": np.full((len(feeds["faces"]), 3), np.nan, np.float32)}


def test_an_engine_that_returns_nan_is_refused(fake_classifier, faces):
    good = fake_classifier()
    contract = Contract(good.contract.labels, 4, 4, 1, Normalisation(), architecture="fakenet")
    bad = Classifier(NotANumber(good.session), contract, precision="fp16", size_bytes=1, name="bad.onnx")
    with pytest.raises(EdgeferError, match="bad.onnx .* not finite for 64 of 64 faces") as caught:
        benchmark(bad, faces, fake_classifier("pytorch"))
    assert "--bf16" in caught.value.hint


def test_an_interrupted_evaluation_goes_on_with_what_is_missing(fake_classifier, faces, tmp_path, monkeypatch):
    monkeypatch.setattr("edgefer.measure.evaluate.CHUNK", 10)
    base, engine = fake_classifier("pytorch"), fake_classifier()
    run, calls = engine.session.run, []

    def stopping(feeds):
        calls.append(len(feeds["faces"]))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return run(feeds)

    monkeypatch.setattr(engine.session, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        benchmark(engine, faces, base, cache=tmp_path / "cache")
    done = len(base.session.batches)
    calls[:] = [0] * 10
    report = benchmark(engine, faces, base, cache=tmp_path / "cache", iterations=1, warm_up=0)
    assert base.session.batches[done] == 4, "golden faces"
    assert 10 not in base.session.batches[done:], "the baseline was finished before: nothing is computed twice"
    assert calls[10:17] == [4, 10, 10, 10, 10, 10, 10], "golden faces, and six of ten chunks"
    assert report.engines[0].accuracy.top1 == 1
    assert list((tmp_path / "cache").iterdir()) == [], "nothing is left when all is done"


def test_an_interrupted_timing_need_not_evaluate_again(fake_classifier, faces, tmp_path, monkeypatch):
    engine, base, cache = fake_classifier(), fake_classifier("pytorch"), tmp_path / "cache"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench, "time_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            benchmark(engine, faces, base, cache=cache)
    evaluated = [list(session.batches) for session in (engine.session, base.session)]
    assert all(len(batches) == 3 for batches in evaluated), "golden faces, 64 faces, 36 faces"
    benchmark(engine, faces, base, cache=cache, iterations=1, warm_up=0)
    again = engine.session.batches[3:]
    assert again[0] == 4
    assert 64 not in again
    assert list(cache.iterdir()) == []


def test_a_throttled_run_is_marked_with_the_reason(fake_classifier, faces, monkeypatch):
    hot = Recording(tuple({"t": i / 10, "mhz": 3000 - 200 * i, "throttling": []} for i in range(9)), 0.1)
    monkeypatch.setattr(Recording, "between", lambda self, start, end: hot)

    class Fake:
        def __init__(self, gpu):
            assert gpu is None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def recording(self):
            return hot

    monkeypatch.setattr(timing, "Recorder", Fake)
    report = benchmark(fake_classifier(), faces, fake_classifier("pytorch"), seconds=0.3, telemetry=True)
    reason = "the clock fell from 2,800 to 1,600 MHz"
    assert all(reason in row.disturbed.median and reason in row.disturbed.tail for row in report.rows)
    assert reason not in report.engines[0].disturbed.speedup, "it slowed both"
    details = report.to_json()["details"]
    assert reason in details["disturbances"]
    assert details["telemetry"]["throttled"] == ["the clock fell from 2,800 to 1,600 MHz"]


def test_where_energy_is_told_each_engine_alone_gives_joules_an_image(fake_classifier, faces, monkeypatch):
    class Board:
        """Draws 4 W, as a fake that is asked for all readings of the last minute."""

        def __init__(self, gpu):
            self.gpu = gpu

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def recording(self):
            now = time.monotonic()
            power = {"INA monitors": {"watts": 4.0}}
            return Recording(tuple({"t": now - 60 + i / 10, "throttling": [], "power": power} for i in range(601)), 0.1)

    monkeypatch.setattr(timing, "Recorder", Board)
    monkeypatch.setattr(timing, "ENERGY_SECONDS", 0.3)
    engine, base = fake_classifier(ms=10), fake_classifier("pytorch", ms=1)
    report = benchmark(engine, faces, base, batch=4, seconds=0.2, telemetry=True)
    joules = report.engines[0].energy.joules_per_image
    assert report.engines[0].energy.source == "INA monitors"
    assert 4.0 * 0.010 / 4 <= joules < 10 * 4.0 * 0.010 / 4, "four watts for ten milliseconds or more, over four faces"
    assert report.baseline.energy.joules_per_image < joules
    rows = report.to_json()["details"]["rows"]
    assert rows[1]["energy"] == {"source": "INA monitors", "joules_per_image": joules}
    assert report.telemetry["watts"] == pytest.approx(4.0)


def test_a_sweep_times_every_combination(fake_classifier, faces, monkeypatch):
    opened = []

    def load(path, threads):
        opened.append((path, threads))
        return fake_classifier(ms=20)

    monkeypatch.setattr("edgefer.report.sweep.load_engine", load)
    found = run_sweep("x.onnx", faces, batches=(1, 4), threads=(1, 2), concurrency=(1, 2), seconds=0.15)
    shapes = [(point.threads, point.concurrency, point.batch) for point in found.points]
    assert len(shapes) == len(set(shapes)) == 8
    assert len(opened) == 4 * (1 + 2), "each caller has an engine of its own"
    one = {(point.concurrency, point.batch): point.images_per_s for point in found.points if point.threads == 1}
    assert one[1, 4] > 2 * one[1, 1], "four times, on a quiet machine"
    assert one[2, 1] > 1.2 * one[1, 1], "twice, on a quiet machine"
    told = found.to_json()
    assert set(told) == {"engine", "scope", "seconds_a_point", "settings", "points", "environment"}
    assert told["settings"]["a_call_is"].startswith("uint8 batch in")
    assert {point["settled"] for point in told["points"]} <= {True, False}


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"batches": ()}, "batches is an empty list", "--batches"),
        ({"concurrency": (0,)}, "--concurrency is 0, not a whole number", "--concurrency"),
        ({"scope": "paced"}, "a sweep has no pace", "e2e"),
    ],
)
def test_impossible_sweeps_are_refused(faces, arguments, message, hint):
    with pytest.raises(EdgeferError, match=message) as caught:
        run_sweep("x.onnx", faces, **arguments)
    assert hint in caught.value.hint
