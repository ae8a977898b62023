"""``DATA`` and ``DATA:split``."""

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz
from edgefer.errors import EdgeferError


@pytest.fixture
def path(faces, tmp_path):
    save_npz(tmp_path / "faces.npz", *faces, splits=["train"] * 150 + ["test"] * 60)
    return tmp_path / "faces.npz"


@pytest.mark.parametrize(("split", "count"), [("train", 150), ("test", 60), ("all", 210)])
def test_a_split_is_picked_after_a_colon(path, split, count):
    opened = open_dataset(f"{path}:{split}")
    assert len(opened) == count
    assert opened.picked == split
    assert opened.origin == f"{path}:{split}"


def test_part_prefers_what_was_picked(path):
    assert len(open_dataset(path).part("test")) == 60
    assert len(open_dataset(f"{path}:train").part("test")) == 150
    assert len(open_dataset(f"{path}:all").part("test")) == 210


def test_an_existing_path_with_a_colon_is_a_path(path, tmp_path):
    odd = tmp_path / "faces:test.npz"
    odd.write_bytes(path.read_bytes())
    assert len(open_dataset(odd)) == 210
    assert len(open_dataset(f"{odd}:test")) == 60


def test_an_unknown_split_names_the_close_one(path):
    with pytest.raises(EdgeferError, match="there is no split 'tset'") as caught:
        open_dataset(f"{path}:tset")
    assert caught.value.hint == "did you mean 'test'? splits are train, fit, val, calib, test, private, all"


@pytest.mark.parametrize("spec", ["missing.csv", "missing.csv:test", "missing"])
def test_a_missing_path_is_an_error(spec, tmp_path):
    with pytest.raises(EdgeferError) as caught:
        open_dataset(tmp_path / spec)
    assert caught.value.message == f"there is no data set {tmp_path / spec.partition(':')[0]}"
    assert "a folder of images" in caught.value.hint


def test_an_unknown_kind_is_an_error(tmp_path):
    (tmp_path / "faces.mat").write_bytes(b"x")
    with pytest.raises(EdgeferError, match="is of no known kind") as caught:
        open_dataset(tmp_path / "faces.mat")
    assert "an npz with images and labels" in caught.value.hint


def test_faces_of_another_set_are_kept_out_of_what_trains(tmp_path):
    generator = np.random.default_rng(5)
    images = generator.integers(0, 256, (400, 48, 48, 1), dtype=np.uint8)
    labels = np.arange(400) % 7
    save_npz(tmp_path / "train.npz", images, labels)
    save_npz(tmp_path / "test.npz", images[::10], labels[::10])
    whole = open_dataset(tmp_path / "train.npz")
    kept = open_dataset(tmp_path / "train.npz", exclude=tmp_path / "test.npz")
    unwanted = set(open_dataset(tmp_path / "test.npz").face_hashes())
    assert len(kept.split("train")) == 360
    for part in ("fit", "val", "calib"):
        left = [h for h in whole.split(part).face_hashes() if h not in unwanted]
        assert list(kept.split(part).face_hashes()) == left
    assert sum(sum(kept.split(p).dropped.values()) for p in ("fit", "val", "calib")) == 40
    assert list(kept.split("fit").dropped) == [f"also in {tmp_path / 'test.npz'}"]
    assert len(kept.split("all")) == 400
    named = open_dataset(f"{tmp_path / 'train.npz'}:calib", exclude=tmp_path / "test.npz")
    assert named.face_hashes() == kept.split("calib").face_hashes()
