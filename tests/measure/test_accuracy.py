"""Predictions: what they say, what is refused, and the file they travel in."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, wilson_interval
from edgefer.measure.evaluate import evaluate

CLASSES = ("angry", "happy", "sad")


def predictions(**changed):
    logits = np.array([[2, 1, 0], [0, 3, 1], [0, 1, 0], [1, 0, 0], [5, 5, 1]], dtype=np.float32)
    values = {
        "logits": logits,
        "labels": np.array([0, 1, 0, 0, 1]),
        "classes": CLASSES,
        "faces_sha256": "ab" * 32,
        "name": "net",
    }
    return Predictions(**{**values, **changed})


def test_top1_confusion_and_recall():
    net = predictions()
    assert net.answers.tolist() == [0, 1, 1, 0, 0], "the first of equal logits is the answer"
    assert net.top1 == 3 / 5
    assert net.confusion().tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert net.top1_ci95 == wilson_interval(3, 5)


def test_wilson_against_published_values():
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I: 81/263, 15/148, 0/20, 1/29
    for (successes, n), interval in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0000, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(successes, n) == pytest.approx(interval, abs=5.1e-5)
    with pytest.raises(EdgeferError, match="1 of 0"):
        wilson_interval(1, 0)


def test_a_file_brings_back_what_was_saved(tmp_path):
    before = predictions()
    before.save(tmp_path / "predictions.npz")
    after = Predictions.load(tmp_path / "predictions.npz")
    assert np.array_equal(after.logits, before.logits)
    assert after.logits.dtype == np.float32
    assert np.array_equal(after.labels, before.labels)
    assert after.labels.dtype == np.int64
    assert (after.classes, after.faces_sha256, after.name) == (CLASSES, "ab" * 32, "net")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def saved(path, **changed):
    predictions().save(path)
    with np.load(path) as archive:
        content = {key: archive[key] for key in archive}
    np.savez(path, **{**content, **changed})


def test_wrong_files_are_refused_by_name(tmp_path):
    path = tmp_path / "predictions.npz"

    def refused(message):
        with pytest.raises(EdgeferError, match=message) as caught:
            Predictions.load(path)
        assert str(path) in caught.value.message
        return caught.value.hint

    assert "predictions.npz" in refused("no such file")
    for content in (b"", b"PK\x03\x04 cut short", b"neither zip nor npy"):
        path.write_bytes(content)
        assert refused("cannot be read as an npz")
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert refused("one array")
    np.savez(path, images=np.zeros((1, 2, 2)), labels=np.zeros(1))
    assert refused("lacks format, logits, classes, faces_sha256, name, groups, hashes and has images, labels")
    np.savez(path, format=np.array("edgefer.predictions/1"), logits=np.zeros((2, 3)))  # before groups were kept
    assert "again" in refused("its format is 'edgefer.predictions/1', this edgefer reads 'edgefer.predictions/3'")
    saved(path, format=np.array("edgefer.predictions/9"))
    assert "again" in refused("its format is 'edgefer.predictions/9', this edgefer reads 'edgefer.predictions/3'")
    saved(path, labels=np.array([0.0, 1, 0, 0, 1]))
    assert "integers" in refused("labels are float64 of shape")
    saved(path, classes=np.array("abc"))
    assert "text" in refused(r"classes are <U3 of shape \[\]")
    predictions().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + b"\xff\xff\xff\xff" + whole[64:])
    refused("cannot be read as an npz")
    with pytest.raises(EdgeferError, match=r"written as \.npz, not p.csv"):
        predictions().save(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.array([0, 1])}, r"shape \[5, 3\] for 2 labels and 3 classes, not \[2, 3\]"),
        ({"classes": ("a", "b")}, r"not \[5, 2\]"),
        ({"labels": np.array([0, 1, 0, 0, 3])}, "run from 0 to 3, but there are 3"),
        ({"labels": np.array([0, 1, -1, 0, 1])}, "run from -1 to 1"),
        ({"logits": np.full((5, 3), np.nan, np.float32)}, "5 of 5 faces are NaN"),
        ({"logits": np.zeros((0, 3), np.float32), "labels": np.zeros(0, np.int64)}, "no face"),
    ],
)
def test_contradictions_are_refused(changed, message):
    with pytest.raises(EdgeferError, match=message):
        predictions(**changed)


class FakeFaces:
    """Five faces, 2×2 grey, each filled with its label."""

    origin = "fake.npz:test"
    classes = CLASSES

    def __init__(self, labels=(0, 1, 2, 1, 0)):
        self.labels = np.array(labels, dtype=np.int64)

    def __len__(self):
        return len(self.labels)

    def fingerprint(self):
        return "cd" * 32

    def face_hashes(self):
        return tuple(f"{label:016x}" for label in self.labels)

    def group_keys(self):
        return np.arange(len(self), dtype=np.uint64)

    def subset(self, indices):
        return FakeFaces(self.labels[indices])

    def batches(self, size, contract=None):
        for start in range(0, len(self), size):
            labels = self.labels[start : start + size]
            yield np.repeat(labels.astype(np.uint8), 4).reshape(-1, 2, 2, 1), labels


def fake_classifier(seen, labels=CLASSES):
    def logits(batch):
        seen.append(len(batch))
        return np.eye(3, dtype=np.float32)[batch[:, 0, 0, 0]]

    return SimpleNamespace(name="fake", contract=SimpleNamespace(labels=labels), logits_of_all=logits)


def test_predict_goes_through_the_faces_in_batches():
    seen = []
    found = evaluate(fake_classifier(seen), FakeFaces(), batch_size=2)
    assert seen == [2, 2, 1]
    assert found.top1 == 1.0
    assert (found.faces_sha256, found.name, found.n) == ("cd" * 32, "fake", 5)


def test_predict_refuses_no_faces_and_other_classes():
    with pytest.raises(EdgeferError, match=r"fake.npz:test has 0 faces") as caught:
        evaluate(fake_classifier([]), FakeFaces(()))
    assert "split" in caught.value.hint
    with pytest.raises(EdgeferError, match="fake has the classes x, y, z; fake.npz:test has angry, happy, sad"):
        evaluate(fake_classifier([], ("x", "y", "z")), FakeFaces())
