"""RAF-DB, as a list beside aligned faces and as numbered folders."""

import numpy as np
import pytest

from edgefer.data import ReadSettings, open_dataset
from edgefer.data.classes import FER2013
from edgefer.errors import EdgeferError

cv2 = pytest.importorskip("cv2")
NAMES = ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"]  # 1 … 7


@pytest.fixture
def root(tmp_path):
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "Image" / "aligned").mkdir(parents=True)
    lines = []
    for part, count in (("train", 7), ("test", 7)):
        for i in range(count):
            lines.append(f"{part}_{i:04d}.jpg {i + 1}")
            cv2.imwrite(str(tmp_path / "Image" / "aligned" / f"{part}_{i:04d}_aligned.jpg"), np.full((20, 20), i, "u1"))
    (tmp_path / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_list(root):
    opened = open_dataset(root)
    assert opened.classes == FER2013
    assert opened.splits == ("train", "test")
    test = opened.split("test")
    assert [test.classes[label] for label in test.labels] == NAMES
    assert test.images([3]).mean() == pytest.approx(3, abs=1)


def test_numbered_folders(tmp_path, capsys):
    for part in ("train", "test"):
        for number in range(1, 8):
            folder = tmp_path / part / str(number)
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "a.png"), np.full((8, 8), number, np.uint8))
    opened = open_dataset(f"{tmp_path}:test")
    assert opened.classes == FER2013
    by_grey = {int(opened.images([i]).mean()): opened.classes[label] for i, label in enumerate(opened.labels)}
    assert [by_grey[number] for number in range(1, 8)] == NAMES
    assert "folders 1…7 are read as RAF-DB numbers them" in capsys.readouterr().err


def test_missing_images(root):
    (root / "Image" / "aligned" / "train_0002_aligned.jpg").unlink()
    with pytest.raises(EdgeferError, match=r"1 of 14 images is missing on disk \(.*train_0002_aligned\.jpg\)"):
        open_dataset(root)
    assert open_dataset(root, reading=ReadSettings(allow_missing=True)).dropped == {"image missing on disk": 1}
    (root / "Image").rename(root / "elsewhere")
    with pytest.raises(EdgeferError, match="14 of 14") as caught:
        open_dataset(root)
    assert "--root" in caught.value.hint
    assert len(open_dataset(root, reading=ReadSettings(root=root / "elsewhere" / "aligned", allow_missing=True))) == 13


@pytest.mark.parametrize("line", ["train_0001.jpg 8", "train_0001.jpg", "lunch_1.jpg 1", "a b c"])
def test_bad_lines_are_named(root, line):
    path = root / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(EdgeferError) as caught:
        open_dataset(root)
    assert f"line 15: '{line}' is no image and label" in caught.value.message


def test_classes_do_not_go_with_it(root):
    with pytest.raises(EdgeferError, match="--classes has no effect with .*, which is not an AffectNet csv"):
        open_dataset(root, reading=ReadSettings(classes="affectnet8"))
