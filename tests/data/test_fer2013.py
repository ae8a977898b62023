"""FER2013's csv in all its spellings, and every way in which it can be bad."""

import gzip
import tracemalloc

import numpy as np
import pytest

from edgefer.data import open_dataset
from edgefer.data.fer2013 import load_csv
from edgefer.errors import EdgeferError

USAGES = ("Training", "PublicTest", "PrivateTest")


def rows_of(images, labels, usages=USAGES):
    return [(labels[i], images[i], usages[i % len(usages)]) for i in range(len(labels))]


def test_a_csv_gives_back_every_pixel_label_and_split(faces, write_csv):
    images, labels = faces[0][:9], faces[1][:9]
    opened = open_dataset(write_csv(rows_of(images, labels)))
    assert np.array_equal(opened.images(range(9)), images)
    assert opened.labels.tolist() == labels.tolist()
    assert opened.labels.dtype == np.int64
    assert opened.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert opened.splits == ("train", "test", "private")
    assert np.array_equal(opened.split("test").images(range(3)), images[1::3])
    assert np.array_equal(opened.split("private").images(range(3)), images[2::3])
    assert len(opened.split("all")) == 9


def test_columns_are_found_by_name_in_any_order_quoted_and_with_spaces(faces, tmp_path):
    images, labels = faces[0][:3], faces[1][:3]
    path = tmp_path / "icml.csv"
    lines = [f'{labels[i]}, {USAGES[i]}, "{" ".join(map(str, images[i].ravel()))}"' for i in range(3)]
    path.write_bytes("\ufeffemotion, Usage, pixels\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n")
    opened = open_dataset(path)
    assert np.array_equal(opened.images([0, 1, 2]), images)
    assert opened.splits == ("train", "test", "private")


def test_kaggles_two_columns_declare_no_split_and_are_divided(faces, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "emotion,pixels\n" + "".join(f'{y},"{" ".join(map(str, x.ravel()))}"\n' for x, y in zip(*faces, strict=True))
    )
    opened = open_dataset(path)
    assert opened.splits == ()
    assert len(opened.split("train")) + len(opened.split("test")) == len(opened) == 210
    assert sum(len(opened.split(part)) for part in ("fit", "val", "calib")) == len(opened.split("train"))
    assert len(open_dataset(f"{path}:all").split("test")) == 210


def test_gzip_is_recognised_by_content(faces, write_csv, tmp_path):
    plain = write_csv(rows_of(*faces))
    for name in ("a.csv.gz", "b.csv"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes(), 1))
        assert open_dataset(tmp_path / name).fingerprint() == open_dataset(plain).fingerprint()


def test_labels_of_minus_one_are_dropped_and_counted(faces, write_csv):
    rows = rows_of(*faces, usages=("PublicTest",))
    rows[3] = (-1, *rows[3][1:])
    rows[8] = (-1, *rows[8][1:])
    opened = open_dataset(write_csv(rows))
    assert len(opened) == 208
    assert opened.dropped == {"label −1": 2}
    kept = [i for i in range(210) if i not in (3, 8)]
    assert np.array_equal(opened.images(range(208)), faces[0][kept])


def test_leading_zeros_and_repeated_spaces_are_numbers_all_the_same(write_csv, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("emotion,pixels,Usage\n3,  007  0255 " + " 1" * 2302 + "  ,Training\n")
    image = open_dataset(path).images([0])[0].ravel()
    assert image[:4].tolist() == [7, 255, 1, 1]


def test_every_value_of_a_byte_is_read(write_csv):
    image = (np.arange(2304) % 256).astype(np.uint8)
    assert open_dataset(write_csv([(0, image, "Training"), (1, image[::-1], "Training")])).images(
        [1]
    ).ravel().tolist() == (image[::-1].tolist())


def test_blank_lines_are_no_rows_however_many_there_are(tmp_path):
    path = tmp_path / "blank.csv"
    path.write_text("emotion,pixels,Usage\n" + "\n" * (3 << 20) + f"1,{GOOD},Training\n\n")
    assert len(open_dataset(path)) == 1


GOOD = " ".join(["17"] * 2304)
ONE_LESS = " ".join(["17"] * 2303)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (f"0,{ONE_LESS},Training", "2303 pixels, where 48×48 = 2304 are expected"),
        (f"0,{GOOD} 5,Training", "2305 pixels"),
        (f"0,{ONE_LESS} 256,Training", "pixel 2304 is 256, which is more than 255"),
        (f"0,{ONE_LESS} 99999999999999999999,Training", "which is more than 255"),
        (f"0,{ONE_LESS} x,Training", "pixel 2304 is 'x', which is no whole number"),
        (f"0,-1 {ONE_LESS},Training", "pixel 1 is '-1', which is no whole number"),
        (f"0,{ONE_LESS} 1.5,Training", "pixel 2304 is '1.5'"),
        ("0,,Training", "0 pixels"),
        (f"7,{GOOD},Training", "the label '7' is not one of 0…6"),
        (f"-2,{GOOD},Training", "the label '-2'"),
        (f"３,{GOOD},Training", "the label '３' is not one of 0…6"),
        (f"{'1' * 5000},{GOOD},Training", "the label '1111"),
        (f"happy,{GOOD},Training", "the label 'happy'"),
        (f",{GOOD},Training", "the label ''"),
        (f"0,{GOOD},Holiday", "the Usage 'Holiday' is none of Training, PublicTest, PrivateTest"),
        (f"0,{GOOD}", "2 columns, and the header has 3"),
        (f"0,{GOOD},Training,more", "4 columns"),
    ],
)
def test_a_bad_row_is_named_by_line_and_cause(row, cause, tmp_path):
    path = tmp_path / "fer.csv"
    path.write_text(f"emotion,pixels,Usage\n1,{GOOD},Training\n{row}\n2,{GOOD},Training\n")
    with pytest.raises(EdgeferError) as caught:
        open_dataset(path)
    assert caught.value.message.startswith(f"{path} line 3: ")
    assert cause in caught.value.message
    assert caught.value.hint == "the file is damaged or was edited: repair or delete the row"


def test_a_bad_row_far_down_has_its_own_line_number(tmp_path):
    path = tmp_path / "fer.csv"
    path.write_text("emotion,pixels,Usage\n" + f"1,{GOOD},Training\n" * 700 + f"1,{ONE_LESS},Training\n")
    with pytest.raises(EdgeferError, match=r"line 702: 2303 pixels"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty", "emotion, pixels and Usage"),
        (b"emotion,pixels,Usage\n", "has a header and no rows", "emotion, pixels and Usage"),
        (b"a,b,c\n1,2,3\n", "is no FER2013 csv: it has no column emotion or pixels (line 1 has: a, b, c)", "emotion"),
        (b"pixels\n1 2\n", "it has no column emotion", "emotion"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is no FER2013 csv", "emotion"),
        (b"Usage,Image name,neutral,contempt,NF\n", "is no FER2013 csv", "--votes"),
        (b"\x1f\x8bnonsense and more nonsense", "is a damaged gzip file", "download it again"),
    ],
)
def test_what_is_no_fer2013_csv_is_refused(content, message, hint, tmp_path):
    path = tmp_path / "fer.csv"
    path.write_bytes(content)
    with pytest.raises(EdgeferError) as caught:
        open_dataset(path)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_gzip_file_that_is_cut_off_is_refused(faces, write_csv, tmp_path):
    whole = gzip.compress(write_csv(rows_of(*faces)).read_bytes(), 1)
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgeferError, match=r"cut\.csv\.gz ends too soon.*the gzip file is cut off"):
        open_dataset(path)
    broken = bytearray(whole)
    broken[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    path.write_bytes(bytes(broken))
    with pytest.raises(EdgeferError, match=r"cut\.csv\.gz"):
        open_dataset(path)


def test_reading_holds_the_faces_and_one_chunk_of_text(tmp_path):
    path = tmp_path / "many.csv"
    generator = np.random.default_rng(0)
    block = "".join(f"1,{' '.join(map(str, generator.integers(0, 256, 2304)))},Training\n" for _ in range(50))
    count = 5000
    path.write_text("emotion,pixels,Usage\n" + block * (count // 50))
    tracemalloc.start()
    loaded = load_csv(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(loaded.labels) == count
    assert peak < count * 2304 * 1.15 + 20e6


def test_the_real_csv_equals_the_real_npz(shared):
    folder = shared / "data" / "fer2013"
    csv, npz = open_dataset(folder / "public_test.csv.gz"), open_dataset(folder / "public_test.npz")
    assert len(csv) == len(npz) == 3573
    assert csv.splits == ("test",)
    assert npz.dropped == {"label −1": 6}
    assert csv.fingerprint() == npz.fingerprint()
    assert csv.per_class_counts()["disgust"] == 56
