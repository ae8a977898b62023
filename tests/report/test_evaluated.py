"""Faces that trained or calibrated what is tested are left out, counted and told; the rest is reported on."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import edgefer
from edgefer.data import open_dataset
from edgefer.data.classes import FER2013
from edgefer.data.npz import save_npz
from edgefer.data.sources import face_hash
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions
from edgefer.measure.evaluate import evaluate
from edgefer.models.weights import load_weights
from edgefer.report import evaluated
from tests.end_to_end.conftest import edgefer as command
from tests.report.conftest import CLASSES, benchmark

TEST = 130


@pytest.fixture
def faces(tmp_path):
    """Test faces of noise, none like another but the last, which is the one before it, a level brighter."""
    images = np.random.default_rng(0).integers(0, 255, (TEST, 4, 4, 1), dtype=np.uint8)
    labels = np.where(np.arange(TEST) % 13 == 0, 1, np.arange(TEST) % 2 * 2)  # ten of class 1
    images[:, 0, 0, 0] = labels
    images[-1], labels[-1] = images[-2] + 1, labels[-2]
    save_npz(tmp_path / "faces.npz", images, labels, CLASSES, ["test"] * TEST)
    return open_dataset(tmp_path / "faces.npz").split("test")


def calibrated_with(hashes, choice=()):
    calibration = SimpleNamespace(face_hashes=tuple(hashes), origin="faces.npz:calib")
    return SimpleNamespace(calibration=calibration, precision=SimpleNamespace(layers=()), choice_faces=choice)


def test_each_face_is_counted_once_under_its_first_reason_with_its_near_duplicate(fake_classifier, faces, capsys):
    hashes = faces.face_hashes()
    base = fake_classifier(
        "pytorch", name="mini", met={"trained": frozenset(face[:10] for face in (*hashes[:12], hashes[-2]))}
    )
    engine = fake_classifier(name="folder/a.onnx", manifest=calibrated_with(hashes[10:15]))
    report = benchmark(engine, faces, base, seconds=0.02)
    assert report.left_out.given == TEST
    assert report.left_out.reasons == {"trained mini": 13, "calibrated a.onnx": 3, "nearly the same as these": 1}
    assert report.left_out.sentence().startswith("17 of 130 test faces are left out: 13 trained mini, 3 calibrated")
    assert report.left_out.sentence() in capsys.readouterr().err
    assert [row.accuracy.n for row in report.rows] == [TEST - 17] * 2
    kept = set(report.raw.faces.face_hashes())
    assert kept == set(hashes[15:-2])


def test_two_engines_of_one_calibration_are_one_reason_and_other_faces_none(fake_classifier, faces):
    hashes = faces.face_hashes()
    engines = [fake_classifier(name=f"{n}.onnx", manifest=calibrated_with(hashes[:2])) for n in "ab"]
    report = benchmark(engines, faces, fake_classifier("pytorch"), seconds=0.02)
    assert report.left_out.reasons == {"calibrated a.onnx, b.onnx": 2}
    strangers = fake_classifier(manifest=calibrated_with(["0123456789abcdef"]))
    assert benchmark(strangers, faces, fake_classifier("pytorch"), seconds=0.02).left_out is None


def test_an_engine_of_weights_that_ship_knows_what_trained_them(fake_classifier, faces, monkeypatch):
    hashes = faces.face_hashes()
    met = {
        "trained": frozenset(face[:10] for face in hashes[:3]),
        "chose": frozenset(face[:10] for face in hashes[3:5]),
    }
    monkeypatch.setattr(evaluated, "met_by_shipped", lambda sha256: met if sha256 == "ab" * 32 else {})
    engine = fake_classifier(name="a.onnx", manifest=calibrated_with((), tuple(face[:10] for face in hashes[5:9])))
    engine.contract = replace(engine.contract, lineage={"weights_sha256": "ab" * 32})
    report = benchmark(engine, faces, fake_classifier("pytorch", name="b"), seconds=0.02)
    assert report.left_out.reasons == {"trained a.onnx": 3, "chose a.onnx": 6}


def test_one_warning_names_the_networks_whose_training_faces_are_unknown(fake_classifier, faces):
    def named(name, lineage=None, **about):
        one = fake_classifier(name=name, **about)
        one.contract = replace(one.contract, lineage=lineage or {})
        return one

    known = named("w", {"fit_sha256": "ab"}, met={"trained": frozenset(["0123456789"])})
    silent = [named("a.onnx"), named("b.onnx"), named("random", {"weights": "random, seed 0"})]
    of_known = named("c.onnx", {"fit_sha256": "ab"})
    report = benchmark([*silent, of_known], faces, known, seconds=0.02)
    told = [warning for warning in report.warnings if "nothing tells" in warning]
    assert len(told) == 1
    assert "nothing tells which faces trained a.onnx, b.onnx: " in told[0]
    assert not any("nothing tells" in warning for warning in benchmark(of_known, faces, known, seconds=0.02).warnings)


def test_too_few_are_refused_before_anything_is_evaluated(fake_classifier, faces):
    engine = fake_classifier(manifest=calibrated_with(faces.face_hashes()[:40]))
    with pytest.raises(EdgeferError, match="40 calibrated fake; 89 distinct faces remain") as caught:
        benchmark(engine, faces, fake_classifier("pytorch"), seconds=0.02)
    assert "--exclude" in caught.value.hint
    assert engine.session.batches == []


def test_a_class_that_is_gone_is_a_warning(fake_classifier, faces):
    happy = [face for face, label in zip(faces.face_hashes(), faces.labels, strict=True) if label == 1]
    engine = fake_classifier(manifest=calibrated_with(happy))
    report = benchmark(engine, faces, fake_classifier("pytorch"), seconds=0.02)
    assert report.left_out.reasons == {"calibrated fake": 10}
    assert any("has no face of happy: nothing is known about that" in warning for warning in report.warnings)
    assert [score.recall is None for score in report.engines[0].accuracy.per_class] == [False, True, False]


def test_a_baseline_of_predictions_follows_what_was_left_out(fake_classifier, faces, tmp_path):
    host = evaluate(fake_classifier("pytorch", mistakes=7), faces.subset(np.arange(5, TEST)))
    host.save(tmp_path / "base.npz")
    engine = fake_classifier(manifest=calibrated_with(faces.face_hashes()[:8]))
    report = benchmark(engine, faces, tmp_path / "base.npz", seconds=0.02)
    assert report.left_out.reasons == {"calibrated fake": 8}
    assert report.baseline.accuracy.n == TEST - 8
    known = report.raw.predictions[0]
    assert np.array_equal(known.logits, host.logits[3:])
    assert np.array_equal(known.labels, faces.labels[8:])
    plain = fake_classifier(manifest=calibrated_with(["0123456789abcdef"]))
    report = benchmark(plain, faces, tmp_path / "base.npz", seconds=0.02)
    assert report.left_out.reasons == {"without an answer in fake": 5}
    bare = Predictions(host.logits, host.labels, host.classes, host.faces_sha256, "bare")
    with pytest.raises(EdgeferError, match="not run on the same faces"):
        benchmark(plain, faces, bare, seconds=0.02)


def test_a_limit_is_sampled_from_what_remains(faces, fake_classifier):
    test = faces.split("test")
    known = frozenset(test.face_hashes()[:40])
    one = fake_classifier(met={"trained": known})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluated, "MIN_LEFT", 10)
        found, left_out, _ = evaluated.evaluated_faces(test, [one], None, 30, 0)
    assert (len(found), left_out.faces, left_out.given) == (30, 40, len(test))
    assert not known & set(found.face_hashes())


def test_a_private_test_that_repeats_training_faces_is_benched_without_them(shared, tmp_path):
    """FER2013's private test repeats faces of its training part. It is not here: other real faces stand in for it."""
    pytest.importorskip("torch")
    met = load_weights("lenet").met
    fer2013 = shared / "data" / "fer2013"
    with np.load(fer2013 / "train.npz") as train, np.load(fer2013 / "public_test.npz") as public:
        images, labels = train["images"][:1500, ..., None], train["labels"][:1500]
        strangers, theirs = public["images"][:400, ..., None], public["labels"][:400]
    rows = {face_hash(image)[:10]: row for row, image in enumerate(images) if labels[row] >= 0}
    trained = [row for face, row in rows.items() if face in met["trained"]][:40]
    chose = [row for face, row in rows.items() if face in met["chose"]][:10]
    private = [(images[trained + chose], labels[trained + chose]), (strangers[theirs >= 0], theirs[theirs >= 0])]
    faces, emotions = (np.concatenate(part) for part in zip(*private, strict=True))
    save_npz(tmp_path / "fer.npz", faces, emotions, FER2013, ["private"] * len(faces))
    edgefer.export("lenet", tmp_path / "m.onnx")
    edgefer.build_engine(tmp_path / "m.onnx", tmp_path / "x.onnx", precision="int8")  # from the table that ships
    done = command(
        *(
            "bench",
            "x.onnx",
            "--data",
            "fer.npz:private",
            "--baseline",
            "lenet",
            "--iterations",
            30,
            "--json",
            "r.json",
        ),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "r.json").read_text())["details"]["left_out"]
    assert told["given"] == len(faces)
    assert told["reasons"]["trained lenet, x.onnx"] == 40
    assert told["reasons"]["chose lenet, x.onnx"] == 10
    assert "40 trained lenet, x.onnx, 10 chose lenet, x.onnx" in done.stderr
    assert "nothing tells" not in done.stdout + done.stderr
