"""Predicting in several processes and after an interruption gives what one run in one process gives."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.data import open_dataset, save_npz
from edgefer.data.sources import ArraySource
from edgefer.engines.classifier import Classifier
from edgefer.engines.session import TensorSpec
from edgefer.errors import EdgeferError
from edgefer.measure import evaluate as module
from edgefer.measure.evaluate import Cache, evaluate

CLASSES = ("angry", "happy", "sad")


class Pixels:
    """Logits from pixels; fails after ``allowed`` faces, counts what it computed."""

    name, version = "fake", "0"
    inputs = (TensorSpec("faces", "uint8", (None, 4, 4, 1)),)
    outputs = (TensorSpec("logits", "float32", (None, 3)),)

    def __init__(self, allowed=None, bias=0.0):
        self.allowed, self.bias, self.done = allowed, bias, 0

    def run(self, feeds):
        faces = feeds["faces"]
        self.done += len(faces)
        if self.allowed is not None and self.done > self.allowed:
            raise KeyboardInterrupt
        return {"logits": faces.reshape(len(faces), -1)[:, :3].astype(np.float32) + np.float32(self.bias)}

    def close(self):
        pass


def classifier(**options):
    contract = Contract(CLASSES, 4, 4, 1, Normalisation(), architecture="fakenet")
    return Classifier(Pixels(**options), contract, precision="fp32", size_bytes=1, name="fake")


def broken():
    raise SystemExit(9)


@pytest.fixture
def faces(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 16)
    images = np.random.default_rng(0).integers(0, 256, (100, 4, 4, 1), dtype=np.uint8)
    save_npz(tmp_path / "faces.npz", images, np.arange(100) % 3, CLASSES, ["test"] * 100)
    return open_dataset(tmp_path / "faces.npz").split("test")


def test_chunks_and_batches_change_nothing(faces):
    found = evaluate(classifier(), faces, batch_size=7)
    pixels = faces.images(np.arange(100)).reshape(100, -1)[:, :3]
    assert np.array_equal(found.logits, pixels.astype(np.float32))
    assert found.labels.tolist() == faces.labels.tolist()
    assert found.faces_sha256 == faces.fingerprint()


@pytest.mark.filterwarnings("ignore")
def test_two_processes_give_what_one_gives(faces):
    alone = evaluate(classifier(), faces)
    together = evaluate(classifier(), faces, processes=2, reopen=classifier)
    assert np.array_equal(alone.logits, together.logits)


def test_an_interrupted_run_goes_on_where_it_stopped(faces, tmp_path):
    cache = tmp_path / "cache"
    stopped = classifier(allowed=70)
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, faces, batch_size=16, cache=Cache(cache))
    kept = sorted(path.name for path in cache.rglob("*.npy"))
    assert len(kept) == 4, "four golden faces, then chunks of 16 until 70 are passed"
    again = classifier()
    kept = Cache(cache)
    found = evaluate(again, faces, batch_size=16, cache=kept)
    assert again.session.done == 4 + 100 - 64, "golden faces, and only the chunks that were missing"
    assert np.array_equal(found.logits, evaluate(classifier(), faces).logits)
    assert len(list(cache.rglob("*.npy"))) == 7
    (cache / "mine.txt").write_text("not ours to remove")
    kept.clear()
    assert [path.name for path in cache.iterdir()] == ["mine.txt"]


def test_a_damaged_chunk_is_computed_again_and_another_networks_is_not_taken(faces, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        evaluate(classifier(allowed=70), faces, batch_size=16, cache=Cache(cache))
    first, second, *_ = sorted(cache.rglob("*.npy"))
    first.write_bytes(b"cut short")
    np.save(second, np.zeros((3, 3), np.float32))
    other = classifier(bias=1000.0)
    found = evaluate(other, faces, batch_size=16, cache=Cache(cache))
    assert other.session.done == 104, "another network: nothing of it was there"
    assert found.logits.min() >= 1000
    same = classifier()
    assert np.array_equal(
        evaluate(same, faces, batch_size=16, cache=Cache(cache)).logits, evaluate(classifier(), faces).logits
    )
    assert same.session.done == 4 + 100 - 32, "two chunks were good, two were not"


def test_an_engine_built_anew_is_another_one(faces, tmp_path):
    def engine(sha256, **options):
        made = classifier(**options)
        made.manifest = SimpleNamespace(engine_sha256=sha256)
        return made

    with pytest.raises(KeyboardInterrupt):
        evaluate(engine("a", allowed=70), faces, batch_size=16, cache=Cache(tmp_path))
    for sha256, computed in (("b", 104), ("a", 104 - 64)):
        again = engine(sha256)
        evaluate(again, faces, batch_size=16, cache=Cache(tmp_path))
        assert again.session.done == computed, "golden faces that are answered alike do not make it the same engine"


@pytest.mark.filterwarnings("ignore")
def test_a_process_that_dies_is_one_error(faces):
    with pytest.raises(EdgeferError, match="processes that predict .* died") as caught:
        evaluate(classifier(), faces, processes=2, reopen=broken)
    assert "--processes 1" in caught.value.hint


def test_bad_arguments_are_refused(faces, tmp_path):
    with pytest.raises(EdgeferError, match="--processes is 0") as caught:
        evaluate(classifier(), faces, processes=0)
    assert "--processes" in caught.value.hint
    (tmp_path / "file").write_text("x")
    with pytest.raises(EdgeferError, match="cache .* cannot be used") as caught:
        evaluate(classifier(), faces, cache=Cache(tmp_path / "file"))
    assert "--cache" in caught.value.hint


def test_mapped_faces_travel_to_another_process_by_their_place_in_the_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (500, 20, 20, 1), dtype=np.uint8)
    save_npz(tmp_path / "faces.npz", images, np.zeros(500, int), CLASSES)
    faces = open_dataset(tmp_path / "faces.npz")
    carried = pickle.dumps(faces)
    assert len(carried) < 20_000, "labels and row numbers, and no pixels"
    assert np.array_equal(pickle.loads(carried).images(np.arange(500)), images)
    mapped = np.memmap(tmp_path / "raw", np.uint8, mode="w+", shape=(50, 4, 4))
    mapped[:] = np.arange(50, dtype=np.uint8)[:, None, None]
    part = pickle.loads(pickle.dumps(ArraySource(mapped[10:30])))
    assert next(part.blocks(np.arange(20)))[:, 0, 0, 0].tolist() == list(range(10, 30)), (
        "a part of a map stays that part"
    )
    plain = pickle.loads(pickle.dumps(ArraySource(images)))
    assert np.array_equal(next(plain.blocks(np.arange(500))), images)
