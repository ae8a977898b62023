"""npz files: round trips, memory maps, and every way in which they can be bad."""

import io
import zipfile

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz
from edgefer.data.npz import load_npz
from edgefer.errors import EdgeferError


def test_what_is_saved_is_opened(faces, tmp_path):
    images, labels = faces
    path = tmp_path / "faces.npz"
    declared = ["train", "val", "test", "private"] * 52 + ["train"] * 2
    save_npz(path, images, labels, classes=list("abcdefg"), splits=declared)
    opened = open_dataset(path)
    assert opened.classes == tuple("abcdefg")
    assert opened.splits == ("train", "val", "test", "private")
    assert np.array_equal(opened.images(range(210)), images)
    assert np.array_equal(opened.labels, labels)
    assert len(opened.split("private")) == 52
    assert [entry.name for entry in tmp_path.iterdir()] == ["faces.npz"]


def test_uncompressed_images_are_memory_mapped_and_compressed_ones_read(faces, tmp_path):
    save_npz(tmp_path / "stored.npz", *faces)
    np.savez_compressed(tmp_path / "packed.npz", images=faces[0], labels=faces[1])
    (stored,) = load_npz(tmp_path / "stored.npz").source.blocks(np.arange(10))
    (packed,) = load_npz(tmp_path / "packed.npz").source.blocks(np.arange(10))
    assert isinstance(stored, np.memmap)
    assert not isinstance(packed, np.memmap)
    assert np.array_equal(stored, packed)
    assert np.array_equal(stored, faces[0][:10])


def test_grey_without_channels_colour_and_small_integer_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", images=images, labels=np.asarray([0, 1, 2, -1, 3, 3], np.int8))
    opened = open_dataset(tmp_path / "colour.npz")
    assert opened.images([0, 4]).shape == (2, 20, 30, 3)
    assert np.array_equal(opened.images([3]), images[[4]])
    assert opened.dropped == {"label −1": 1}
    np.savez(tmp_path / "grey.npz", images=images[..., 0], labels=np.zeros(6, np.int64))
    assert open_dataset(tmp_path / "grey.npz").images([0]).shape == (1, 20, 30, 1)


IMAGES = np.zeros((4, 48, 48), np.uint8)
LABELS = np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ({"labels": LABELS}, "has no array 'images' (it has: labels)", "save_npz"),
        ({"x": IMAGES}, "has no array 'images'", "save_npz"),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, "'images' is float32, not uint8", "0…255"),
        ({"images": IMAGES[0], "labels": LABELS}, "'images' is 48×48", "N×H×W"),
        ({"images": np.zeros((4, 1, 48, 48), np.uint8), "labels": LABELS}, "'images' is 4×1×48×48", "N×H×W×1 (grey)"),
        ({"images": np.zeros((4, 0, 48), np.uint8), "labels": LABELS}, "'images' is 4×0×48", "N×H×W"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "has 4 images and 3 labels", "one label for each image"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "'labels' is float64 with 1 axes", "N integers"),
        ({"images": IMAGES, "labels": LABELS[:, None]}, "'labels' is int64 with 2 axes", "N integers"),
        ({"images": IMAGES, "labels": LABELS + 7}, "has labels from 7 to 7 for 7 classes", "'classes'"),
        ({"images": IMAGES, "labels": LABELS - 2}, "has labels from -2 to -2", "−1"),
        (
            {"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b", "a"])},
            "names the class 'a' 2 times",
            "is one name",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "\x1b[2J"])},
            "has a class that is called '\\x1b",
            "letters",
        ),
        ({"images": IMAGES, "labels": LABELS - 1}, "all were left out: label −1 (4)", "other classes or labels"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "has no labelled face", "images and labels"),
        (
            {"images": IMAGES, "labels": LABELS, "splits": np.array(["train"])},
            "'splits' is <U5 of shape (1,)",
            "4 names",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "splits": np.array(["train"] * 3 + ["x"])},
            "'splits' names 'x'",
            "private",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "ferplus_votes": LABELS},
            "'ferplus_votes' is int64 of shape (4,)",
            "4×10",
        ),
        ({"images": np.array([None, {}]), "labels": LABELS}, "cannot be read as an npz", "damaged"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_bad_arrays_are_named(save, content, message, hint, tmp_path):
    path = tmp_path / "faces.npz"
    save(path, **content)
    with pytest.raises(EdgeferError) as caught:
        open_dataset(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_images_without_labels(tmp_path):
    np.savez(
        tmp_path / "faces.npz",
        images=IMAGES + np.arange(4, dtype=np.uint8)[:, None, None],
        splits=["train"] * 3 + ["test"],
    )
    opened = open_dataset(tmp_path / "faces.npz")
    assert (len(opened), opened.labelled, len(opened.split("train"))) == (4, False, 3)


@pytest.mark.parametrize("kept", [0, 10, 5000, -30])
def test_a_truncated_npz_is_refused(kept, faces, tmp_path):
    path = tmp_path / "faces.npz"
    save_npz(path, *faces)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EdgeferError, match="cannot be read as an npz"):
        open_dataset(path)


def test_a_damaged_member_is_refused(faces, tmp_path):
    path = tmp_path / "faces.npz"
    np.savez_compressed(path, images=faces[0], labels=faces[1])
    content = bytearray(path.read_bytes())
    content[20000:20200] = bytes(200)
    path.write_bytes(bytes(content))
    with pytest.raises(EdgeferError, match="cannot be read as an npz"):
        open_dataset(path)


def test_a_zip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "faces.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no array")
    with pytest.raises(EdgeferError, match="cannot be read as an npz"):
        open_dataset(path)


def test_a_changed_pixel_is_noticed(tmp_path):
    save_npz(
        tmp_path / "a.npz",
        np.arange(14 * 48 * 48, dtype=np.uint32).astype(np.uint8).reshape(14, 48, 48),
        np.arange(14) % 7,
    )
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(EdgeferError, match="checksum"):
        open_dataset(tmp_path / "a.npz")


def test_images_shorter_than_their_header_are_not_filled_with_the_bytes_behind_them(tmp_path):
    path = tmp_path / "x.npz"
    content = io.BytesIO()
    np.save(content, np.zeros((10, 4, 4), np.uint8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content.getvalue()[:-48])  # seven of the ten that the header tells
        archive.writestr("behind", bytes(1000))
    with pytest.raises(EdgeferError, match="its images should have 160 bytes, and have 112"):
        open_dataset(path)
