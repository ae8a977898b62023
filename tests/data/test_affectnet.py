"""AffectNet's csv: three sets of classes, boxes, images that are missing, and rows that are wrong."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import ReadSettings, open_dataset
from edgefer.data.classes import AFFECTNET
from edgefer.errors import EdgeferError

cv2 = pytest.importorskip("cv2")

HEADER = [
    "subDirectory_filePath",
    *(f"face_{side}" for side in ("x", "y", "width", "height")),
    "facial_landmarks",
    "expression",
]
EXPRESSIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]


@pytest.fixture
def write(tmp_path):
    """Rows of EXPRESSIONS in a csv, an image of 40×30 each whose box, 10×12 at (5, 6), has the grey of its row."""

    def to(name="faces.csv", missing=(), expressions=EXPRESSIONS, boxed=True, change=lambda lines: lines):
        lines = [",".join([*HEADER, "valence", "arousal"] if boxed else [HEADER[0], "expression"])]
        for row, expression in enumerate(expressions):
            path = tmp_path / str(row % 3) / f"{row}.png"
            path.parent.mkdir(exist_ok=True)
            image = np.full((30, 40), 255, np.uint8)
            image[6:18, 5:15] = row
            if row not in missing:
                cv2.imwrite(str(path), image)
            box = '5,6,10,12,"1.0;2.0",' if boxed else ""
            lines.append(f"{row % 3}/{row}.png,{box}{expression}" + (",0.1,-0.2" if boxed else ""))
        (tmp_path / name).write_text("\n".join(change(lines)) + "\n")
        return tmp_path / name

    return to


def test_eight_classes_leave_out_what_is_no_expression(write):
    opened = open_dataset(write())
    assert opened.classes == AFFECTNET
    assert opened.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert opened.dropped == {"AffectNet none": 1, "AffectNet uncertain": 1, "AffectNet no face": 1}
    assert opened.splits == ()
    assert [opened.classes[i] for i in (6, 7)] == ["angry", "contempt"]


def test_seven_leave_contempt_out_and_nine_merge_the_rest(write):
    path = write()
    seven = open_dataset(path, reading=ReadSettings(classes="affectnet7"))
    assert len(seven.classes) == 7
    assert "contempt" not in seven.classes
    assert len(seven) == 8
    assert seven.dropped["AffectNet contempt"] == 1
    nine = open_dataset(path, reading=ReadSettings(classes="affectnet9"))
    assert nine.classes == (*AFFECTNET, "none")
    assert nine.per_class_counts()["none"] == 3
    assert nine.dropped == {}
    with pytest.raises(EdgeferError, match="no set of classes 'affectnet10'") as caught:
        open_dataset(path, reading=ReadSettings(classes="affectnet10"))
    assert "affectnet7, affectnet8, affectnet9" in caught.value.hint


def test_the_box_is_the_face(write):
    opened = open_dataset(write())
    faces = opened.images([0, 8])
    assert faces.shape == (2, 12, 10, 1)
    assert (faces[1] == 11).all()  # the last row: the three before it are left out
    whole = open_dataset(write(), reading=ReadSettings(boxes=False))
    assert whole.images([0]).shape == (1, 30, 40, 1)
    assert open_dataset(write(boxed=False)).images([0]).shape == (1, 30, 40, 1)


def test_a_box_outside_its_image(write):
    path = write(change=lambda lines: [lines[0], lines[1].replace("5,6,10,12", "200,210,300,320"), *lines[2:]])
    with pytest.raises(EdgeferError, match=r"0\.png is at x 200, y 210, 300×320 pixels, and the image has 40×30") as e:
        open_dataset(path).images([0])
    assert "--no-boxes" in e.value.hint


def test_missing_images_are_counted_and_listed(write, capsys):
    path = write(missing=(1, 2, 8))
    with pytest.raises(EdgeferError) as caught:
        open_dataset(path)
    assert "faces.csv: 2 of 9 images are missing on disk" in caught.value.message  # row 8 is left out anyway
    assert str(path.parent / "1" / "1.png") in caught.value.message
    assert "--allow-missing" in caught.value.hint
    opened = open_dataset(path, reading=ReadSettings(allow_missing=True))
    assert len(opened) == 7
    assert opened.dropped["image missing on disk"] == 2
    assert opened.per_class_counts()["happy"] == 0
    assert "2 of 9 images are missing on disk" in capsys.readouterr().err


def test_many_missing_images_are_not_all_listed(write):
    with pytest.raises(EdgeferError) as caught:
        open_dataset(write(missing=range(1, 12)))
    assert caught.value.message.count(".png") == 5
    assert caught.value.message.endswith(", …)")


def test_the_images_may_lie_elsewhere(write, tmp_path):
    path = write()
    (tmp_path / "lists").mkdir()
    moved = path.rename(tmp_path / "lists" / "faces.csv")
    with pytest.raises(EdgeferError, match="9 of 9 images are missing") as caught:
        open_dataset(moved, reading=ReadSettings(allow_missing=True))
    assert "--root" in caught.value.hint
    assert len(open_dataset(moved, reading=ReadSettings(root=tmp_path))) == 9


def test_a_class_without_images_is_known_and_a_sample_does_without_it(write):
    opened = open_dataset(write(missing=(7,)), reading=ReadSettings(allow_missing=True))
    assert opened.per_class_counts()["contempt"] == 0
    assert len(opened.stratified(4, seed=0)) == 4


@pytest.mark.parametrize(
    ("name", "splits"), [("training.csv", ("train",)), ("validation.csv", ("test",)), ("all.csv", ())]
)
def test_the_name_declares_the_part(write, name, splits):
    assert open_dataset(write(name)).splits == splits


def test_a_gzipped_list(write, tmp_path):
    path = tmp_path / "faces.csv.gz"
    path.write_bytes(gzip.compress(write().read_bytes()))
    assert len(open_dataset(path)) == 9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,0.1", ",11,0.1", "line 3: the expression '11' is not one of 0…10"),
        (",1,0.1", ",happy,0.1", "line 3: the expression 'happy'"),
        (",1,0.1", f",{'1' * 5000},0.1", "line 3: the expression '1111"),
        ("1/1.png,5", "1/1.png,left", "line 3: could not convert string to float: 'left'"),
        ("1/1.png,5,6,10,12", "1/1.png,5,6,0,12", "line 3: the face box 5×6×0×12 has no area"),
        ('1/1.png,5,6,10,12,"1.0;2.0",1,0.1,-0.2', "1/1.png", "line 3: list index out of range"),
        ("1/1.png,", ",", "line 3: the path of the image is empty"),
        ("expression", "mood", "is not AffectNet's csv: it has subdirectory_filepath"),
    ],
)
def test_bad_rows_are_named(write, old, new, message):
    path = write()
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(EdgeferError) as caught:
        open_dataset(path)
    assert message in caught.value.message
    assert caught.value.hint


def test_an_empty_list(write):
    with pytest.raises(EdgeferError, match="has a header and no rows"):
        open_dataset(write(expressions=[]))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"classes": "affectnet7"}, "--classes"),
        ({"allow_missing": True}, "--allow-missing"),
        ({"boxes": False}, "--no-b"),
    ],
)
def test_options_of_another_kind_are_refused(options, name, faces, tmp_path):
    np.savez(tmp_path / "f.npz", images=faces[0], labels=faces[1])
    with pytest.raises(EdgeferError) as caught:
        open_dataset(tmp_path / "f.npz", reading=ReadSettings(**options))
    assert name in caught.value.message
    assert "has no effect with" in caught.value.message


def test_rows_of_expressions_that_are_left_out_are_read_no_further(write):
    def spoilt(lines):
        return [*lines[:9], *(line.replace(",5,6,10,12,", ",,,0,0,") for line in lines[9:12]), *lines[12:]]

    assert len(open_dataset(write(change=spoilt))) == 9
    with pytest.raises(EdgeferError, match="line 10"):
        open_dataset(write(change=spoilt), reading=ReadSettings(classes="affectnet9"))


def test_an_expression_that_is_a_digit_and_no_number(write):
    with pytest.raises(EdgeferError, match="the expression '²' is not one of 0…10"):
        open_dataset(write(change=lambda lines: [line.replace('",3,', '",²,') for line in lines]))


def test_inspect_lists_missing_images_with_and_without_allowing_them(write):
    path = write(missing=(1, 4))
    for arguments in ((), ("--allow-missing",)):
        done = CliRunner().invoke(cli, ["data", "inspect", str(path), "--json", "--strict", *arguments])
        assert done.exit_code == 1, done.output
        found = json.loads(done.stdout)
        assert "image missing on disk: 2" in found["problems"]
        assert [Path(name).name for name in found["faults"]["image missing on disk"]] == ["1.png", "4.png"]


def test_a_set_of_left_out_faces_alone_says_why(write):
    with pytest.raises(EdgeferError, match=r"no labelled face: all were left out: AffectNet none \(2\)") as caught:
        open_dataset(write(expressions=[8, 8]))
    assert "choose other classes" in caught.value.hint
