"""Label maps: explicit, or by name; soft labels follow."""

import numpy as np
import pytest

from edgefer.data import ReadSettings, aligned, open_dataset, parse_map, relabel, save_npz
from edgefer.data.ferplus import COLUMNS
from edgefer.errors import EdgeferError


@pytest.fixture
def four(tmp_path):
    images = np.arange(8, dtype=np.uint8)[:, None, None] * np.ones((8, 6, 6), np.uint8)
    save_npz(tmp_path / "f.npz", images, [0, 1, 2, 3] * 2, ("a", "b", "c", "d"), ["train"] * 4 + ["test"] * 4)
    return tmp_path / "f.npz"


def test_classes_are_renamed_merged_and_left_out(four):
    faces = open_dataset(four, reading=ReadSettings(relabelling=parse_map("a=x, b=y,c=x,d=")))
    assert faces.classes == ("x", "y")
    assert faces.labels.tolist() == [0, 1, 0, 0, 1, 0]
    assert faces.dropped == {"class 'd' left out": 2}
    assert faces.images([5]).max() == 6
    assert len(faces.split("test")) == 3
    assert len(open_dataset(f"{four}:test", reading=ReadSettings(relabelling={"d": ""}))) == 3


def test_a_map_onto_given_classes(four):
    faces = relabel(open_dataset(four), ("z", "c", "b", "a"), {"d": "z"})
    assert [faces.classes[label] for label in faces.labels] == ["a", "b", "c", "z"] * 2
    with pytest.raises(EdgeferError, match="has the class 'd', none of a, b, c") as caught:
        relabel(open_dataset(four), ("a", "b", "c"), {})
    assert "OLD= to leave it out" in caught.value.hint


def test_names_that_agree_are_brought_into_order(four, capsys):
    faces = aligned(open_dataset(four), ("d", "c", "b", "a"))
    assert faces.labels.tolist() == [3, 2, 1, 0] * 2
    assert "brought by name into the network's order (d, c, b, a)" in capsys.readouterr().err
    more = aligned(open_dataset(four), ("d", "e", "c", "b", "a"))
    assert more.per_class_counts()["e"] == 0
    assert "it has none of e" in capsys.readouterr().err
    assert more.stratified(4, seed=0).per_class_counts() == {"d": 1, "e": 0, "c": 1, "b": 1, "a": 1}


def test_nothing_is_guessed_where_names_differ(four, capsys):
    faces = open_dataset(four)
    assert aligned(faces, ("a", "b", "c", "d")) is faces
    assert aligned(faces, ("A", "b", "c", "d")) is faces
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [("a", "'a' is no pair"), ("=a", "'=a' is no pair"), ("a=b,", "'' is no pair"), ("a=b,a=c", "maps 'a' twice")],
)
def test_bad_maps(text, message):
    with pytest.raises(EdgeferError) as caught:
        parse_map(text)
    assert message in caught.value.message
    assert "--map happy=happiness" in caught.value.hint


def test_maps_that_do_not_fit(four):
    with pytest.raises(EdgeferError, match="has no class 'aa' to map: it has a, b, c, d") as caught:
        open_dataset(four, reading=ReadSettings(relabelling={"aa": "x"}))
    assert "did you mean 'a'?" in caught.value.hint
    with pytest.raises(EdgeferError, match="has 1 class after the map"):
        open_dataset(four, reading=ReadSettings(relabelling={"a": "x", "b": "x", "c": "x", "d": ""}))


def vote(**counts):
    return [counts.get(name, 0) for name in COLUMNS]


VOTES = [vote(neutral=6, happiness=2, unknown=2), vote(anger=7, disgust=3), vote(NF=10), vote(fear=5, sadness=4)]


def test_soft_labels_are_shares_of_the_votes(tmp_path):
    images = np.zeros((4, 6, 6), np.uint8)
    np.savez(tmp_path / "v.npz", images=images, labels=[6, 0, 1, 2], ferplus_votes=np.asarray(VOTES))
    faces = open_dataset(tmp_path / "v.npz", votes="npz")
    assert faces.soft.shape == (3, 8)
    assert faces.soft.dtype == np.float32
    assert faces.soft[0].tolist() == [0.75, 0.25, 0, 0, 0, 0, 0, 0]
    assert np.allclose(faces.soft.sum(axis=1), 1)
    assert faces.soft.argmax(axis=1).tolist() == faces.labels.tolist()
    assert faces.subset([2, 0]).soft[1, 0] == 0.75
    assert open_dataset(tmp_path / "v.npz").soft.shape == (4, 7)
    np.savez(tmp_path / "n.npz", images=images, labels=[6, 0, 1, 2])
    assert open_dataset(tmp_path / "n.npz").soft is None
    merged = relabel(faces, None, {"disgust": "angry", "happy": ""})
    assert merged.classes == ("neutral", "surprise", "sad", "angry", "fear", "contempt")
    assert merged.soft[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert merged.soft[1].tolist() == [0, 0, 0, 1, 0, 0]


def test_soft_labels_of_real_votes(shared):
    faces = open_dataset(shared / "data" / "fer2013" / "public_test.npz", votes="npz")
    assert faces.soft.shape == (len(faces), 8)
    assert np.allclose(faces.soft.sum(axis=1), 1, atol=1e-5)
    assert (faces.soft.argmax(axis=1) == faces.labels).all()


def test_votes_that_are_all_on_a_class_left_out_leave_the_label(tmp_path):
    votes = np.asarray([vote(anger=10), vote(happiness=6, sadness=4)])
    np.savez(tmp_path / "v.npz", images=np.zeros((2, 6, 6), np.uint8), labels=[0, 3], ferplus_votes=votes)
    faces = open_dataset(tmp_path / "v.npz", votes="npz")
    faces.labels = np.asarray([1, 1])  # of a set whose own labels stand beside the votes
    soft = relabel(faces, None, {"angry": ""}).soft
    assert soft[0].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert np.allclose(soft.sum(axis=1), 1)
