"""``DATA`` and ``DATA:split``."""

from dataclasses import fields

import numpy as np
import pytest

from edgefer.data import ReadSettings, open_dataset, save_npz
from edgefer.data.opening import FORMATS, Format
from edgefer.data.sources import ArraySource, Loaded
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
    assert len(open_dataset(path).picked_or("test")) == 60
    assert len(open_dataset(f"{path}:train").picked_or("test")) == 150
    assert len(open_dataset(f"{path}:all").picked_or("test")) == 210


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
    save_npz(tmp_path / "train.npz", images, labels, splits=["train"] * 400)
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
    assert len(kept.split("all")) == 360
    save_npz(tmp_path / "undeclared.npz", images, labels)
    elsewhere = open_dataset(tmp_path / "undeclared.npz", exclude=tmp_path / "test.npz")
    assert len(elsewhere.split("train")) == 360, "the test is the other file: nothing is set aside for one"
    named = open_dataset(f"{tmp_path / 'train.npz'}:calib", exclude=tmp_path / "test.npz")
    assert named.face_hashes() == kept.split("calib").face_hashes()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"root": "x"}, "--root has no effect"),
        ({"boxes": False, "allow_missing": True}, "--allow-missing and --no-boxes have no effect"),
    ],
)
def test_settings_without_effect_are_named_with_what_takes_them(settings, said, path):
    with pytest.raises(EdgeferError) as caught:
        open_dataset(path, reading=ReadSettings(**settings))
    assert caught.value.message.startswith(f"{said} with {path}, which is not an AffectNet csv")
    assert "RAF-DB" in caught.value.message


def test_every_format_takes_settings_that_exist():
    known = {f.name for f in fields(ReadSettings)} - {"relabelling"}
    assert all(set(row.settings) <= known for row in FORMATS)


def test_a_further_format_is_a_row(monkeypatch, tmp_path):
    def read(path):
        labels = np.array([0, 1, 0])
        return Loaded(ArraySource(np.full((3, 8, 8), int(path.read_text()), np.uint8)), labels, ("a", "b"), None)

    row = Format("a file that is a number", lambda path: path.suffix == ".number", read)
    monkeypatch.setattr("edgefer.data.opening.FORMATS", (row, *FORMATS))
    (tmp_path / "x.number").write_text("7")
    opened = open_dataset(tmp_path / "x.number")
    assert (opened.classes, opened.labels.tolist(), opened.images([2]).max()) == (("a", "b"), [0, 1, 0], 7)
    with pytest.raises(EdgeferError, match="--root has no effect with"):
        open_dataset(tmp_path / "x.number", reading=ReadSettings(root="y"))
    with pytest.raises(EdgeferError) as caught:
        open_dataset(tmp_path / "missing")
    assert "a file that is a number" in caught.value.hint
