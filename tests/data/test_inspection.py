"""`edgefer data inspect`: counts, sizes, duplicates, what cannot be read, what is wrong; contact sheets."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import FaceSet, ReadSettings, contact_sheet, open_dataset, save_npz
from edgefer.data.classes import FER2013
from edgefer.data.inspection import inspect_faces
from edgefer.data.sources import ArraySource
from edgefer.errors import EdgeferError


@pytest.fixture
def flawed(faces, tmp_path):
    """60 train and 30 test faces; two exact repeats across, one of them with another label, one within, one near."""
    images, labels = faces[0][:90].copy(), faces[1][:90].copy()
    images[60] = images[0]
    labels[60] = labels[0]
    images[61] = images[1]
    labels[61] = (labels[1] + 1) % 7
    images[5] = images[4]
    labels[5] = labels[4]
    images[62] = np.clip(images[7].astype(int) + 9, 0, 255)
    save_npz(tmp_path / "f.npz", images, labels, splits=["train"] * 60 + ["test"] * 30)
    return tmp_path / "f.npz"


def run(*arguments):
    return CliRunner().invoke(cli, ["data", "inspect", *map(str, arguments)])


def test_counts_and_repeats(flawed):
    found, _ = inspect_faces(open_dataset(flawed))
    assert found.faces == 90
    assert {split: sum(counts.values()) for split, counts in found.counts.items()} == {"train": 60, "test": 30}
    assert found.sizes == {"48×48×1": 90}
    assert found.exact.within == {"train": 1, "test": 0}
    assert found.exact.across == {"train & test": 4}
    assert found.exact.other_labels == 2
    assert found.near.across["train & test"] >= 6
    assert found.near.across["train & test"] <= 10
    assert any("4 faces have the same pixels in train & test" in problem for problem in found.problems)
    assert any("2 faces have the same pixels as another with a different label" in p for p in found.problems)


def test_the_command_prints_tables_json_and_a_sheet(flawed, tmp_path):
    pytest.importorskip("cv2")
    done = run(flawed, "--sheet", tmp_path / "s.png")
    assert done.exit_code == 0, done.output
    assert "90 faces, 7 classes" in done.output
    assert "same pixels: 1 in train, 4 in train & test" in done.output
    assert "what is wrong:" in done.output
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads(run(flawed, "--json").stdout)["exact"]["across"] == {"train & test": 4}
    assert run(flawed, "--strict").exit_code == 1


def test_a_sheet_is_as_wide_as_its_longest_row_and_not_without_end(faces, tmp_path):
    cv2 = pytest.importorskip("cv2")
    many = np.zeros((6000, 4, 4, 1), np.uint8)
    save_npz(tmp_path / "m.npz", many, np.arange(6000) % 2, ["a", "b"])
    assert run(tmp_path / "m.npz", "--sheet", tmp_path / "s.png", "--per-class", "2500").exit_code == 0
    fault = run(tmp_path / "m.npz", "--sheet", tmp_path / "t.png", "--per-class", "2000000000").exception
    assert "a contact sheet of 6,000 faces is too large" in fault.message
    assert not (tmp_path / "t.png").exists()
    save_npz(tmp_path / "f.npz", many[:6], np.arange(6) % 2, ["a", "b"])
    assert run(tmp_path / "f.npz", "--sheet", tmp_path / "s.png", "--per-class", "2000000000").exit_code == 0
    assert cv2.imread(str(tmp_path / "s.png")).shape[1] < 400


def test_nothing_wrong(faces, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (70, 20, 20, 1), dtype=np.uint8)
    save_npz(tmp_path / "g.npz", images, np.arange(70) % 7, splits=["train"] * 42 + ["test"] * 28)
    done = run(tmp_path / "g.npz", "--strict")
    assert done.exit_code == 0
    assert "no fault was found" in done.output
    assert "same pixels: none" in done.output


def test_what_is_no_fault_is_noted(faces, tmp_path):
    images = faces[0][:40].copy()
    images[1] = images[0]
    save_npz(tmp_path / "u.npz", images, np.repeat(np.arange(7), 6)[:40])
    done = run(tmp_path / "u.npz", "--strict")
    assert done.exit_code == 0
    assert "names no splits: by a hash of the pixels, " in done.output.replace("\n", " ")
    assert "the same pixels as another of their split: 1 (2.5 %)" in done.output
    assert done.output.rstrip().endswith("apart from the notes, no fault was found")


def test_files_that_cannot_be_read_are_listed(tmp_path):
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(1)
    for name in ("happy", "sad", "angry"):
        (tmp_path / name).mkdir()
        for number in range(0 if name == "angry" else 4):
            image = generator.integers(0, 256, (10 + number, 12), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), image)
    (tmp_path / "sad" / "0.png").write_bytes(b"")
    (tmp_path / "sad" / "1.png").write_bytes(b"\x89PNG broken")
    found, kept = inspect_faces(open_dataset(tmp_path))
    assert (found.faces, found.unreadable, len(kept)) == (6, 2, 6)
    assert {name: sum(one[name] for one in found.counts.values()) for name in found.classes} == {
        "angry": 0,
        "happy": 4,
        "sad": 2,
    }
    assert found.sizes["12×12×1"] == 2
    assert "sad/0.png is empty" in found.unreadable_listed[0]
    assert found.problems[0] == "2 faces cannot be read"
    assert found.problems[1] == f"{tmp_path} has no face of angry"
    done = run(tmp_path, "--sheet", tmp_path / "s.png")
    assert done.exit_code == 0, done.output
    assert "unreadable: the image" in done.output
    for name in ("happy/0", "happy/1", "happy/2", "happy/3", "sad/2", "sad/3"):
        (tmp_path / f"{name}.png").write_bytes(b"x")
    with pytest.raises(EdgeferError, match="none of 8 faces can be read"):
        inspect_faces(open_dataset(tmp_path))


def test_images_without_labels_are_counted_and_shown(tmp_path):
    np.savez(tmp_path / "faces.npz", images=np.arange(3 * 144, dtype=np.uint8).reshape(3, 12, 12))
    done = run(tmp_path / "faces.npz", "--sheet", tmp_path / "s.png")
    assert done.exit_code == 0, done.output
    assert "without a label" in done.output
    assert "undeclared: " in done.output  # what the column means
    assert (tmp_path / "s.png").stat().st_size > 100


def test_what_was_dropped_and_maps(flawed):
    done = run(flawed, "--map", "disgust=angry,fear=", "--json")
    found = json.loads(done.stdout)
    assert found["classes"] == ["angry", "happy", "sad", "surprise", "neutral"]
    assert list(found["dropped"]) == ["class 'fear' left out"]
    assert isinstance(run("none.csv").exception, EdgeferError)


def test_big_images_stream(tmp_path):
    """A folder whose images together are far larger than what is held at any time."""
    import tracemalloc

    cv2 = pytest.importorskip("cv2")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(20):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((600, 600, 3), number, np.uint8))
    faces = open_dataset(tmp_path)
    tracemalloc.start()
    inspect_faces(faces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 40 * 600 * 600 * 3


def test_the_real_test_faces(shared):
    found, _ = inspect_faces(open_dataset(shared / "data" / "fer2013" / "public_test.npz"))
    assert found.faces + sum(found.dropped.values()) == 3579
    assert found.sizes == {"48×48×1": found.faces}


def folder_of(root, names):
    cv2 = pytest.importorskip("cv2")
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8))
    return root


def test_a_split_with_unreadable_images_is_inspected(tmp_path):
    names = [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("a", "b") for i in range(3)]
    root = folder_of(tmp_path / "d", names)
    (root / "train" / "a" / "1.png").write_bytes(b"no image")
    found = json.loads(run(f"{root}:train", "--json").stdout)
    assert (found["faces"], found["unreadable"]) == (5, 1)
    assert "1 face cannot be read" in found["problems"]


def test_what_a_class_folder_holds_besides_images_is_said(tmp_path, capfd):
    root = folder_of(tmp_path / "d", ["a/1.png", "b/2.png", "b/deep/3.png"])
    (root / "a" / "4.tif").write_bytes(b"x")
    (root / "a" / "5.png").symlink_to(tmp_path / "nowhere.png")
    assert len(open_dataset(root)) == 2
    assert "files that are not JPEG, PNG, BMP or WebP left out: 1 (" in capfd.readouterr().err
    found = json.loads(run(root, "--json").stdout)
    assert set(found["faults"]) == {
        "folders inside class folders",
        "links that lead nowhere",
        "files that are not JPEG, PNG, BMP or WebP",
    }
    assert "links that lead nowhere: 1" in found["problems"]


def test_folders_that_differ_in_case_are_one_class(tmp_path):
    opened = open_dataset(folder_of(tmp_path / "d", ["Happy/1.png", "happy/2.png", "odd/3.png", "Odd/4.png"]))
    assert opened.per_class_counts() == {"Happy": 2, "Odd": 2}


def test_classes_of_a_folder_are_its_folders(tmp_path):
    with pytest.raises(EdgeferError, match="--classes has no effect with .*, which is not an AffectNet csv") as caught:
        open_dataset(folder_of(tmp_path / "d", ["a/1.png", "b/2.png"]), reading=ReadSettings(classes="affectnet7"))
    assert "--map OLD=NEW" in caught.value.hint


@pytest.fixture
def opened(faces):
    pytest.importorskip("cv2")
    return FaceSet(ArraySource(faces[0]), faces[1], FER2013, origin="synthetic")


def test_a_class_a_row_with_its_faces(opened, faces, tmp_path):
    import cv2

    contact_sheet(opened, tmp_path / "sheet.png", per_class=5)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (7 * 80, 96 + 5 * 76 + 4, 3)
    first = opened.images([np.flatnonzero(faces[1] == 3)[0]])[0]
    shown = cv2.resize(sheet[3 * 80 + 4 : 3 * 80 + 76, 96 : 96 + 72, 0], (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - first[..., 0]).mean() < 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["sheet.png"]


def test_columns_break_a_class_into_rows(opened, tmp_path):
    import cv2

    contact_sheet(opened, tmp_path / "sheet.png", per_class=5, columns=2)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (7 * 3 * 80, 96 + 2 * 76 + 4, 3)


def test_wrong_predictions_are_red(opened, faces, tmp_path):
    import cv2

    predicted = faces[1].copy()
    predicted[np.flatnonzero(faces[1] == 0)[1]] = 5
    contact_sheet(opened, tmp_path / "sheet.png", per_class=3, predicted=predicted)
    sheet = cv2.imread(str(tmp_path / "sheet.png")).astype(int)
    red = (sheet[..., 2] > 150) & (sheet[..., 1] < 60)
    rows, columns = np.nonzero(red)
    assert rows.max() < 96
    assert columns.min() >= 96 + 76
    assert columns.max() < 96 + 2 * 76
    assert red.sum() > 500


def test_bad_arguments_are_named(opened, tmp_path):
    with pytest.raises(EdgeferError, match="shows nothing"):
        contact_sheet(opened, tmp_path / "s.png", per_class=0)
    with pytest.raises(EdgeferError, match=r"shape \(3,\).*for 210 faces") as caught:
        contact_sheet(opened, tmp_path / "s.png", predicted=[0, 1, 2])
    assert caught.value.hint == "pass one whole number for each face"
    with pytest.raises(EdgeferError, match="from 9 to 9 for 7 classes"):
        contact_sheet(opened, tmp_path / "s.png", predicted=np.full(210, 9))
    assert not list(tmp_path.iterdir())
