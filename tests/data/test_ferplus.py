"""FER+ votes: majority, ties, joining, and votes that do not belong to the faces."""

import numpy as np
import pytest

from edgefer.data import open_dataset
from edgefer.data.classes import FER2013, FERPLUS
from edgefer.data.ferplus import COLUMNS, distribution, majority
from edgefer.errors import EdgeferError

HEADER = "Usage,Image name," + ",".join(COLUMNS)


def votes(**counts):
    return [counts.get(name, 0) for name in COLUMNS]


ROWS = [
    votes(neutral=2, happiness=8),  # → happy
    votes(contempt=6, anger=4),  # → contempt
    votes(sadness=5, fear=5),  # no majority
    votes(unknown=7, neutral=3),  # unknown
    votes(NF=10),  # not a face
    votes(unknown=5, anger=5),  # no majority
    votes(surprise=4, fear=3, neutral=3),  # → surprise
]


@pytest.fixture
def write_votes(tmp_path):
    def write(rows, usages, names=None, header=HEADER, name="fer2013new.csv"):
        names = names or [f"fer{i:07d}.png" for i in range(len(rows))]
        lines = [f"{u},{n},{','.join(map(str, row))}" for row, u, n in zip(rows, usages, names, strict=True)]
        path = tmp_path / name
        path.write_text("\r\n".join([header, *lines]) + "\r\n")
        return path

    return write


@pytest.fixture
def csv_of_seven(faces, write_csv):
    images, labels = faces
    return write_csv([(labels[i], images[i], "PublicTest" if i == 6 else "Training") for i in range(7)])


USAGES = ["Training"] * 6 + ["PublicTest"]


def test_majority_ties_unknown_and_no_face():
    labels, dropped = majority(np.asarray(ROWS))
    assert labels.tolist() == [1, 7, -1, -1, -1, -1, 2]
    assert dropped == {"FER+ no majority": 2, "FER+ unknown": 1, "FER+ not a face": 1}


def test_votes_join_a_csv_by_row(csv_of_seven, write_votes, faces):
    opened = open_dataset(csv_of_seven, votes=write_votes(ROWS, USAGES))
    assert opened.classes == FERPLUS
    assert [opened.classes[label] for label in opened.labels] == ["happy", "contempt", "surprise"]
    assert opened.dropped == {"FER+ no majority": 2, "FER+ unknown": 1, "FER+ not a face": 1}
    assert np.array_equal(opened.images([0, 1, 2]), faces[0][[0, 1, 6]])
    assert len(opened.split("test")) == 1


def test_votes_beside_the_datas_own_labels(csv_of_seven, write_votes):
    path = write_votes(ROWS, USAGES)
    plain = open_dataset(csv_of_seven)
    both = open_dataset(csv_of_seven, votes=path, own_labels=True)
    assert both.classes == plain.classes == FER2013
    assert both.labels.tolist() == plain.labels.tolist()
    assert not both.voted
    assert both.soft[0, FER2013.index("happy")] == pytest.approx(0.8)
    assert both.soft[2].max() == pytest.approx(0.5)
    assert both.soft[3, FER2013.index("neutral")] == 1
    assert both.soft[4, both.labels[4]] == 1  # no tagger chose a class


def test_another_number_of_rows_is_refused(csv_of_seven, write_votes):
    path = write_votes(ROWS[:6], USAGES[:6])
    with pytest.raises(EdgeferError, match=r"has 6 rows and .*fer\.csv has 7: they cannot be joined by row") as caught:
        open_dataset(csv_of_seven, votes=path)
    assert "35,887 rows" in caught.value.hint


def test_another_order_is_refused(csv_of_seven, write_votes):
    with pytest.raises(EdgeferError, match=r"disagree on the Usage of 2 rows \(first: row 1\)") as caught:
        open_dataset(csv_of_seven, votes=write_votes(ROWS, USAGES[::-1]))
    assert "original order" in caught.value.hint


def test_votes_inside_an_npz(faces, tmp_path):
    labels = faces[1][:7].copy()
    labels[0] = -1
    np.savez(tmp_path / "f.npz", images=faces[0][:7], labels=labels, ferplus_votes=np.asarray(ROWS, np.uint8))
    opened = open_dataset(tmp_path / "f.npz", votes="npz")
    assert opened.labels.tolist() == [7, 2]
    assert opened.dropped == {"label −1": 1, "FER+ no majority": 2, "FER+ unknown": 1, "FER+ not a face": 1}
    np.savez(tmp_path / "g.npz", images=faces[0][:7], labels=labels)
    with pytest.raises(EdgeferError, match=r"g\.npz has no array 'ferplus_votes'") as caught:
        open_dataset(tmp_path / "g.npz", votes="npz")
    assert "fer2013new.csv" in caught.value.hint


def test_a_folder_joins_by_image_name(write_votes, tmp_path):
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "d" / "happy").mkdir(parents=True)
    for number in (6, 0):
        cv2.imwrite(str(tmp_path / "d" / "happy" / f"fer{number:07d}.png"), np.full((48, 48), number, np.uint8))
    path = write_votes(ROWS, USAGES)
    opened = open_dataset(tmp_path / "d", votes=path)
    assert [opened.classes[label] for label in opened.labels] == ["happy", "surprise"]
    cv2.imwrite(str(tmp_path / "d" / "happy" / "me.png"), np.zeros((48, 48), np.uint8))
    with pytest.raises(EdgeferError, match=r"has no row for 1 of the images .*\(for example me\.png\)") as caught:
        open_dataset(tmp_path / "d", votes=path)
    assert "Image name" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"emotion,pixels,Usage\n", "is not FER+'s csv: no column neutral, happiness"),
        (b"", "is not FER+'s csv"),
        (b"\xff\xfe\x00\x81" * 50, "it is not a text file"),
        (f"{HEADER}\nTraining,a.png,1,2,3\n".encode(), "line 2: 5 columns, and the header has 12"),
        (f"{HEADER}\nTraining,a.png,1,2,3,4,5,6,7,8,9,x\n".encode(), "line 2: ten whole numbers"),
        (f"{HEADER}\nTraining,a.png,1,2,3,4,5,6,7,8,9,３\n".encode(), "line 2: ten whole numbers"),
        (f"{HEADER}\nLunch,a.png,1,2,3,4,5,6,7,8,9,0\n".encode(), "line 2: Usage 'Lunch'"),
        (f"{HEADER}\nTraining,a.png,1,2,3,4,5,6,7,8,9,-1\n".encode(), "line 2: Usage 'Training' with votes"),
    ],
)
def test_bad_votes_are_named(content, message, csv_of_seven, tmp_path):
    path = tmp_path / "votes.csv"
    path.write_bytes(content)
    with pytest.raises(EdgeferError) as caught:
        open_dataset(csv_of_seven, votes=path)
    assert message in caught.value.message
    assert caught.value.hint


def test_missing_votes_are_named(csv_of_seven, tmp_path):
    with pytest.raises(EdgeferError, match=r"cannot read .*none\.csv: No such file"):
        open_dataset(csv_of_seven, votes=tmp_path / "none.csv")


def test_the_real_votes(shared):
    opened = open_dataset(shared / "data" / "fer2013" / "public_test.npz", votes="npz")
    assert len(opened) + sum(opened.dropped.values()) == 3579
    assert opened.per_class_counts()["happy"] > 850
    assert sum(opened.dropped.values()) < 350


def test_shares_of_the_taggers_over_the_classes():
    votes = np.array([[2, 6, 0, 0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0, 9, 0, 1]])
    shares = distribution(votes, np.array([3, 1]), FER2013)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(
        shares[0], [0, 0, 0, 6 / 8, 0, 0, 2 / 8]
    )  # angry disgust fear happy sad surprise neutral
    np.testing.assert_array_equal(shares[1], [0, 1, 0, 0, 0, 0, 0])  # contempt is no class here: the label stands


def test_rows_in_another_order_than_the_images(csv_of_seven, write_votes):
    names = [f"fer{i:07d}.png" for i in (0, 1, 3, 2, 4, 5, 6)]
    with pytest.raises(EdgeferError, match=r"row 4 has the image fer0000002\.png after fer0000003\.png") as caught:
        open_dataset(csv_of_seven, votes=write_votes(ROWS, USAGES, names))
    assert "as it is published" in caught.value.hint


def test_votes_that_agree_with_the_labels_by_chance_only(tmp_path):
    labels = np.random.default_rng(0).integers(0, 7, 200)
    own = np.zeros((200, 10), np.int64)
    own[np.arange(200), [FERPLUS.index(FER2013[label]) for label in labels]] = 9
    images = np.zeros((200, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=labels, ferplus_votes=own)
    assert len(open_dataset(tmp_path / "a.npz", votes="npz")) == 200
    np.savez(tmp_path / "b.npz", images=images, labels=labels, ferplus_votes=np.roll(own, 1, axis=0))
    with pytest.raises(EdgeferError, match=r"agrees with the labels of .* on [\d.]+% of 200 faces, and 1\d\.\d% would"):
        open_dataset(tmp_path / "b.npz", votes="npz")
