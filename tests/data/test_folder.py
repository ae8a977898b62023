"""A folder a class: layouts, class names, decoding on demand, and what cannot be decoded."""

import builtins
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from edgefer.data import ReadSettings, open_dataset
from edgefer.data.classes import FER2013, FERPLUS
from edgefer.errors import EdgeferError

cv2 = pytest.importorskip("cv2")


def png(width, height):
    """A file of some 70 bytes that says it is large."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def gif(width, height):
    """35 bytes that say they are large."""
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0" + size + b"\0\2\2\x4c\1\0;"


@pytest.fixture
def fill(tmp_path):
    """Write grey 10×8 images (or others) below tmp_path/d; returns the root."""

    def write(*names, image=None):
        for number, name in enumerate(names):
            path = tmp_path / "d" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((10, 8), number, np.uint8) if image is None else image)
        return tmp_path / "d"

    return write


def test_class_folders_without_splits(fill):
    root = fill("b/1.png", "a/2.jpg", "a/1.PNG", "a/3.webp", "b/2.bmp", "b/3.jpeg", "b/notes.png")
    (root / "b" / "notes.png").rename(root / "b" / "notes.txt")
    (root / ".hidden").mkdir()
    opened = open_dataset(root)
    assert opened.classes == ("a", "b")
    assert opened.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert opened.splits == ()
    assert opened.images([3])[0, 0, 0, 0] == 0
    assert opened.images([0]).shape == (1, 10, 8, 1)


def test_images_without_class_folders_have_no_labels(fill, capfd):
    root = fill("1.png", "2.jpg", "notes.png")
    (root / "notes.png").rename(root / "notes.txt")
    opened = open_dataset(root)
    assert (len(opened), opened.labelled, opened.classes) == (2, False, ())
    assert opened.images([1]).shape == (1, 10, 8, 1)
    said = capfd.readouterr().err
    assert "no class folders: its 2 images have no labels" in said
    assert "1 of its 3 files is not JPEG, PNG, BMP or WebP" in said
    assert len(open_dataset(f"{root}:all")) == 2


def test_split_folders_without_class_folders_keep_their_splits(fill):
    opened = open_dataset(fill("train/1.png", "train/2.png", "test/1.png"))
    assert not opened.labelled
    assert opened.splits == ("train", "test")
    assert len(opened.split("train")) == 2


def test_a_list_names_images_relative_to_itself(fill, tmp_path):
    root = fill("b/1.png", "a/2.jpg")
    listing = root / "faces.txt"
    listing.write_text(f"# two images\nb/1.png\n\n{root / 'a' / '2.jpg'}\n")
    opened = open_dataset(listing)
    assert (len(opened), opened.labelled) == (2, False)
    assert opened.images([0])[0, 0, 0, 0] == 0
    assert opened.name_of(1) == str(root / "a" / "2.jpg")
    elsewhere = tmp_path / "list.txt"
    elsewhere.write_text("b/1.png\na/missing.png\n")
    with pytest.raises(EdgeferError, match="2 of 2 images are missing on disk"):
        open_dataset(elsewhere)
    settings = ReadSettings(root=root, allow_missing=True)
    assert len(open_dataset(elsewhere, reading=settings)) == 1
    for content, fault in ((b"\n# none\n", "names no image"), (b"\xff\xd8\xff", "is not a text file")):
        elsewhere.write_bytes(content)
        with pytest.raises(EdgeferError, match=fault):
            open_dataset(elsewhere)


def test_split_folders_in_any_spelling(fill):
    opened = open_dataset(fill("Training/happy/1.png", "Testing/happy/1.png", "Valid/happy/1.png", "Test/sad/1.png"))
    assert opened.splits == ("train", "val", "test")
    assert len(opened.split("test")) == 2
    assert opened.classes == ("happy", "sad")


def test_a_validation_folder_without_a_test_folder_is_the_test_split_and_is_announced(fill, capfd):
    opened = open_dataset(fill("train/a/1.png", "val/a/1.png", "val/a/2.png"))
    assert opened.splits == ("train", "test")
    assert len(opened.split("test")) == 2
    said = capfd.readouterr().err
    assert "declares no test split: its validation split (2 faces) is the test split" in said


def test_fer2013s_names_take_its_order_under_any_spelling(fill):
    names = ("Anger", "disgusted", "FEAR", "happiness", "sadness", "Surprised", "neutral")
    opened = open_dataset(fill(*(f"{name}/1.png" for name in names)))
    assert opened.classes == FER2013
    assert [opened.images([i])[0, 0, 0, 0] for i in np.argsort(opened.labels)] == list(range(7))


def test_eight_names_take_ferplus_order(fill):
    assert open_dataset(fill(*(f"{name}/1.png" for name in FERPLUS))).classes == FERPLUS


def test_numbered_folders(fill):
    assert open_dataset(fill(*(f"train/{i}/1.png" for i in range(7)))).classes == FER2013


def test_numbers_of_other_counts_stay_numbers(fill):
    opened = open_dataset(fill(*(f"{i}/1.png" for i in range(11))))
    assert opened.classes == tuple(str(i) for i in range(11))
    assert [opened.images([i])[0, 0, 0, 0] for i in np.argsort(opened.labels)] == list(range(11))


def test_two_spellings_of_one_class_are_two_folders_of_one_label(fill):
    names = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    root = fill(*(f"train/{name}/1.png" for name in names), *(f"test/{name}/1.png" for name in FER2013))
    assert open_dataset(root).per_class_counts() == dict.fromkeys(FER2013, 2)


def test_colour_is_rgb_and_sizes_may_differ_until_they_are_stacked(fill):
    image = np.zeros((6, 6, 3), np.uint8)
    image[..., 2] = 250  # red, in OpenCV's order
    opened = open_dataset(fill("a/1.png", image=image))
    assert opened.images([0])[0, 0, 0].tolist() == [250, 0, 0]
    opened = open_dataset(fill("a/2.png"))
    with pytest.raises(EdgeferError, match="differ in size") as caught:
        opened.images([0, 1])
    assert "contract" in caught.value.hint
    assert len(set(opened.face_hashes())) == 2


def test_a_contract_brings_files_to_one_size(fill):
    faces = pytest.importorskip("edgefer.faces")
    from edgefer.contract import Contract, Normalisation

    contract = Contract(("a", "b"), 16, 16, 1, Normalisation(), "tiny")
    fill("a/1.png", image=np.full((6, 9, 3), 77, np.uint8))
    opened = open_dataset(fill("b/2.png", "b/3.png"))
    ((batch, labels), (rest, _)) = opened.batches(2, contract)
    assert batch.shape == (2, 16, 16, 1)
    assert rest.shape == (1, 16, 16, 1)
    assert labels.tolist() == [0, 1]
    assert int(batch[0, 3, 3, 0]) == 77
    assert faces.prepare(np.full((6, 9), 77, np.uint8), contract).shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no image at all", "is not an image: it begins with the text 'no image at all'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "cannot be decoded, it is damaged or cut short"),
        (png(32_000, 32_000), "has 32000×32000 pixels, more than 50 million"),
        (png(60_000, 60_000), "has 60000×60000 pixels, more than 50 million"),
        (gif(65_535, 65_535), "has 65535×65535 pixels, more than 50 million"),
    ],
)
def test_an_unreadable_image_is_named_when_it_is_read(content, message, fill):
    root = fill("a/1.png", "a/2.png")
    (root / "a" / "2.png").write_bytes(content)
    opened = open_dataset(root)
    assert opened.images([0]).shape == (1, 10, 8, 1)
    with pytest.raises(EdgeferError) as caught:
        opened.images([1])
    assert caught.value.message == f"the image {root / 'a' / '2.png'} {message}"
    (root / "a" / "2.png").unlink()
    with pytest.raises(EdgeferError, match=r"cannot read the image .*2\.png: No such file"):
        opened.images([1])


def test_no_images_and_mixed_layouts_are_refused(fill, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeferError, match="has no images in class folders") as caught:
        open_dataset(tmp_path / "empty")
    assert "ROOT/<split>/<class>" in caught.value.hint
    with pytest.raises(EdgeferError, match=r"has split folders and others beside them \(happy\)"):
        open_dataset(fill("train/happy/1.png", "happy/1.png"))


def test_without_opencv_the_extra_is_named(fill, monkeypatch):
    opened = open_dataset(fill("a/1.png"))
    real = builtins.__import__

    def refuse(module):
        raise ImportError(f"No module named '{module}'")

    monkeypatch.setattr("edgefer.errors.importlib.import_module", refuse)
    assert builtins.__import__ is real
    with pytest.raises(EdgeferError, match="reading image files needs the Python package 'cv2'") as caught:
        opened.images([0])
    assert caught.value.hint == "pip install 'edgefer[camera]'"


INSPECT = """
import sys
from edgefer.cli import main
try:
    main()
finally:
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak // 1024, file=sys.stderr)
"""


def test_images_that_say_they_are_huge_are_counted_and_take_no_memory(fill):
    root = fill("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png")
    (root / "a" / "huge.png").write_bytes(png(32_000, 32_000))
    (root / "a" / "more.png").write_bytes(png(60_000, 60_000))
    (root / "b" / "huge.webp").write_bytes(gif(65_535, 65_535))
    (root / "b" / "flat.bmp").write_bytes(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 9_000, 1, 24, *[0] * 6)
    )
    done = subprocess.run(
        [sys.executable, "-c", INSPECT, "data", "inspect", str(root), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 32)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["faces"], found["unreadable"]) == (5, 4)
    assert all("more than 50 million" in fault for fault in found["unreadable_listed"])
    assert int(done.stderr.split()[-1]) < 700, "MB at the most"


def test_large_photographs_are_held_one_at_a_time(fill):
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8).repeat(200, 0).repeat(200, 1)
    root = fill(*(f"{name}/{number}.png" for name in ("a", "b") for number in range(10)), image=image)
    code = """
import sys
from edgefer.contract import Contract, Normalisation
from edgefer.data import ReadSettings, open_dataset
faces = open_dataset(sys.argv[1])
faces.face_hashes(), faces.fingerprint(), faces.group_keys()
((batch, _),) = faces.batches(20, Contract(("a", "b"), 48, 48, 1, Normalisation(), "tiny"))
print(batch.shape, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    shape, _, megabytes = done.stdout.rpartition(" ")
    assert shape == "(20, 48, 48, 1)"
    assert int(megabytes) < 600, "twenty images take 960 MB"


def test_folders_without_images_beside_flat_images_are_passed_over(tmp_path, capsys):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((9, 9), 40 * i, np.uint8))
    (tmp_path / "thumbs").mkdir()
    assert len(open_dataset(tmp_path)) == 3
    assert "folders without images are passed over: thumbs" in capsys.readouterr().err
