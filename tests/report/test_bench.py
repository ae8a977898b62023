"""A benchmark from end to end on fakes: what it counts, what its JSON is, and what it refuses."""

import json

import numpy as np
import pytest

from edgefer.data.npz import save_npz
from edgefer.engines.load import TorchBaseline
from edgefer.errors import EdgeferError
from edgefer.measure.evaluate import evaluate
from edgefer.measure.latency import Interleaved, timed_batches
from edgefer.report import baseline, bench, timing
from tests.report.conftest import benchmark

KEYS = {
    "engine": None,
    "verdict": None,
    "model": None,
    "runtime": None,
    "precision": None,
    "batch": None,
    "threads": None,
    "latency_ms": {"p50", "p90", "p95", "p99", "n"},
    "images_per_s": None,
    "speedup": {"value", "ci95"},
    "disturbed": {"p50", "p90", "p95", "p99", "images_per_s", "speedup"},
    "size_bytes": None,
    "accuracy": {"top1", "n", "left_out"},
    "baseline": {"latency_ms", "disturbed", "accuracy", "size_bytes"},
    "paired": {"drop_pp", "ci95_pp", "mcnemar_p", "agreement"},
    "environment": None,
}


def test_one_engine_gives_exactly_the_json_that_is_scripted_against(fake_classifier, faces):
    base = fake_classifier("pytorch", ms=1)
    engine = fake_classifier("onnxruntime", "int8", mistakes=10, ms=0.2)
    report = benchmark(engine, faces, base, batch=4, threads=1, seconds=0.2)
    found = json.loads(json.dumps(report.to_json()))
    assert list(found) == [*KEYS, "schema", "details"]
    for key, inner in KEYS.items():
        if inner is not None:
            assert set(found[key]) == inner, key
    assert set(found["baseline"]["latency_ms"]) == KEYS["latency_ms"]
    assert set(found["baseline"]["accuracy"]) == {"top1", "n"}
    assert (found["model"], found["runtime"], found["precision"]) == ("fakenet", "onnxruntime", "int8")
    assert (found["batch"], found["threads"], found["size_bytes"]) == (4, 1, 1234)
    assert found["accuracy"] == {"top1": 0.9, "n": 100, "left_out": 0}, "every tenth of the 100 test faces is wrong"
    assert found["baseline"]["accuracy"] == {"top1": 1.0, "n": 100}
    assert found["paired"]["drop_pp"] == pytest.approx(10)
    assert found["paired"]["agreement"] == 0.9
    assert found["paired"]["mcnemar_p"] == pytest.approx(2 / 2**10)
    assert found["paired"]["ci95_pp"][0] < 10 < found["paired"]["ci95_pp"][1]
    assert found["images_per_s"] == pytest.approx(4000 / found["latency_ms"]["p50"])
    assert found["latency_ms"]["p99"] is None, "fewer than 1,000 calls were timed"
    assert found["latency_ms"]["n"] >= 50
    assert found["baseline"]["latency_ms"]["p50"] > found["latency_ms"]["p50"] > 0.2
    assert report.engines[0].speedup.value > 1.5
    assert "warnings" in found["environment"]


def test_several_engines_stand_under_others_without_the_environment(fake_classifier, faces):
    engines = [
        fake_classifier("onnxruntime", "fp32", name="folder/model.onnx"),
        fake_classifier("onnxruntime", "int8", mistakes=5, name="folder/model.int8.onnx"),
    ]
    report = benchmark(engines, faces, fake_classifier("pytorch", name="mini_xception"), seconds=0.05)
    found = report.to_json()
    assert [found["engine"], found["others"][0]["engine"]] == ["model.onnx", "model.int8.onnx"]
    assert list(found) == [*KEYS, "others", "schema", "details"]
    assert found["precision"] == "fp32"
    assert [set(other) for other in found["others"]] == [set(KEYS) - {"environment"}]
    assert found["others"][0]["paired"]["drop_pp"] == pytest.approx(20)
    assert [row.name for row in (report.baseline, *report.engines)] == [
        "mini_xception",
        "model.onnx",
        "model.int8.onnx",
    ]


def test_names_stay_apart(fake_classifier, faces):
    engines = [fake_classifier(name=name) for name in ("here/a.onnx", "there/a.onnx", "b.onnx", "b.onnx")]
    report = benchmark(engines, faces, fake_classifier("pytorch"), seconds=0.01)
    assert [row.name for row in report.engines] == ["here/a.onnx", "there/a.onnx", "b.onnx #1", "b.onnx #2"]


def test_predictions_are_a_baseline_without_latency(fake_classifier, faces, tmp_path):
    evaluate(fake_classifier(name="far away"), faces.split("test")).save(tmp_path / "p.npz")
    report = benchmark(fake_classifier(mistakes=10), faces, tmp_path / "p.npz", seconds=0.02)
    found = report.to_json()
    figures = {key: [] for key in ("p50", "p90", "p95", "p99", "images_per_s", "speedup")}
    accuracy = {"top1": 1.0, "n": 100}
    assert found["baseline"] == {
        "latency_ms": None,
        "disturbed": figures,
        "accuracy": accuracy,
        "size_bytes": None,
    }
    assert found["paired"]["drop_pp"] == pytest.approx(10)
    assert report.baseline.name == "far away"
    assert report.engines[0].speedup is None


def test_predictions_on_other_faces_are_refused(fake_classifier, faces, tmp_path):
    evaluate(fake_classifier(name="far away"), faces.split("train")).save(tmp_path / "p.npz")
    engine = fake_classifier()
    with pytest.raises(EdgeferError, match="100 without an answer in far away; 0 distinct faces remain"):
        benchmark(engine, faces, tmp_path / "p.npz", seconds=0.02)
    assert engine.session.batches == [], "it is refused before anything is evaluated or timed"


def test_paths_are_loaded_with_the_threads_and_closed(fake_classifier, faces_file, monkeypatch):
    engine, base, kept, asked = fake_classifier(), fake_classifier("pytorch"), fake_classifier("openvino"), []

    def load(classifier):
        return lambda spec, threads, **_: asked.append((spec, threads)) or classifier

    sessions = [classifier.session for classifier in (engine, base, kept)]
    monkeypatch.setattr(bench, "load_engine", load(engine))
    monkeypatch.setattr(baseline, "load_baseline", load(base))
    benchmark(["x.onnx", kept], faces_file, "fakenet", threads=2, seconds=0.02)
    assert asked == [("x.onnx", 2), (TorchBaseline("fakenet", device="cpu"), 2)]
    assert [session.closed for session in sessions] == [True, True, False]


def test_data_means_its_test_split_unless_one_is_named(fake_classifier, faces_file):
    report = benchmark(fake_classifier(), faces_file, fake_classifier("pytorch"), seconds=0.02)
    assert (report.data, report.baseline.accuracy.n) == ("faces.npz:test", 100)
    assert not any("flattered" in warning for warning in report.warnings)
    named = benchmark(fake_classifier(), f"{faces_file}:train", fake_classifier("pytorch"), seconds=0.02)
    assert named.baseline.accuracy.n == 50
    assert any("train or choose" in warning for warning in named.warnings)


def test_a_limit_samples_faces_by_the_seed(fake_classifier, faces):
    def hashes(seed):
        engine = fake_classifier()
        report = benchmark(engine, faces, fake_classifier("pytorch"), limit=30, seed=seed, seconds=0.01)
        assert report.baseline.accuracy.n == 30
        return report.faces_sha256

    assert hashes(1) == hashes(1) != hashes(2)


@pytest.mark.parametrize("batch", [1, 7, 64, 250])
def test_timed_batches_are_whole_and_of_real_faces(fake_classifier, faces, batch):
    test = faces.split("test")
    batches = timed_batches(fake_classifier(), test, batch)
    assert {len(b) for b in batches} == {batch}
    real = {face.tobytes() for face in test.images(np.arange(len(test)))}
    timed = {face.tobytes() for b in batches for face in b}
    assert timed <= real
    assert len(timed) >= min(58, batch * len(batches))


@pytest.mark.parametrize("saved", [False, True])
def test_networks_with_another_order_of_the_classes_are_brought_into_one(
    fake_classifier, faces, tmp_path, capsys, saved
):
    other = fake_classifier(labels=("sad", "angry", "happy"), mistakes=10, name="other.onnx")
    answers = other.session.run
    other.session.run = lambda inputs: {"logits": np.roll(answers(inputs)["logits"], 1, axis=1)}
    base = fake_classifier(name="base.onnx")
    if saved:  # predictions keep the order that they were made in
        evaluate(base, faces.split("test")).save(tmp_path / "p.npz")
        base = tmp_path / "p.npz"
    report = benchmark([other, fake_classifier(mistakes=10)], faces, base, seconds=0.02)
    assert report.baseline.accuracy.top1 == 1.0
    assert [row.accuracy.top1 for row in report.engines] == [0.9, 0.9]
    assert [row.paired.drop_pp for row in report.engines] == pytest.approx([10, 10])
    assert "brought by name into the" in capsys.readouterr().err


def test_other_labels_are_refused_with_both_lists(fake_classifier, faces):
    odd = fake_classifier(labels=("angry", "happy", "neutral"), name="odd.onnx")
    for engine, base in ((odd, fake_classifier()), (fake_classifier(), odd)):
        with pytest.raises(EdgeferError) as caught:
            benchmark(engine, faces, base, seconds=0.01)
        assert "odd.onnx has the classes angry, happy, neutral" in caught.value.message
        assert "angry, happy, sad" in caught.value.message
        assert "labelled with the network's classes" in caught.value.hint


def test_the_refusal_comes_before_anything_runs(fake_classifier, faces):
    odd = fake_classifier(labels=("x", "y", "z"))
    with pytest.raises(EdgeferError):
        benchmark(odd, faces, fake_classifier(), seconds=0.01)
    assert odd.session.batches == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 0}, "--batch is 0, not"),
        ({"threads": 0}, "--threads is 0, not"),
        ({"limit": 0}, "--limit is 0, not"),
        ({"seconds": 0}, "longer than 0 s"),
    ],
)
def test_impossible_arguments_are_refused(fake_classifier, faces, arguments, message):
    with pytest.raises(EdgeferError, match=message):
        benchmark(fake_classifier(), faces, fake_classifier(), **{"seconds": 0.01, **arguments})


def test_no_engine_and_no_face_are_refused(fake_classifier, faces):
    with pytest.raises(EdgeferError, match="no engine") as caught:
        benchmark([], faces, fake_classifier())
    assert "edgefer bench" in caught.value.hint
    with pytest.raises(EdgeferError, match="0 faces") as caught:
        benchmark(fake_classifier(), faces.split("test").subset([]), fake_classifier())
    assert "split" in caught.value.hint


def test_warnings_say_what_limits_the_numbers():
    assert "4 threads" in next(timing.too_many_threads(2, 4))
    taken = Interleaved({"b": np.ones((60, 5)), "c": np.ones((30, 5))}, ("b",))
    assert next(timing.unsettled(taken)).startswith("b had not settled")
    assert list(timing.too_few(taken)) == ["c was timed 150 times, too few for a p95 (200): time it longer"]


def test_classes_in_another_order_are_warned_of_once(fake_classifier, tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(300) % 3
    images[:, 0, 0, 0] = labels
    save_npz(tmp_path / "own.npz", images, labels, ("angry", "sad", "happy"))
    engines = fake_classifier("pytorch"), fake_classifier("onnxruntime", "int8", mistakes=10)
    report = benchmark(engines[1], f"{tmp_path}/own.npz:all", engines[0], seconds=0.1)
    about = [warning for warning in report.warnings if "in another order" in warning]
    assert len(about) == 1
    assert "as angry, sad, happy: `edgefer contract check`, with labelled faces other than own.npz:all" in about[0]
