"""fit, val and calib: their shares, their independence of order, and that twins and leaks stay on one side."""

import numpy as np
import pytest

from edgefer.data import FaceSet, splits, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource
from edgefer.data.splits import Grouping, division_sentence, normalised, thumbnails
from edgefer.errors import EdgeferError
from edgefer.progress import as_many, number_of

PARTS = ("fit", "val", "calib")


def faceset(images, labels, parts="train"):
    """A set with a part for each face, with one for all of them, or with None."""
    names = [parts] * len(images) if isinstance(parts, str) else parts
    codes = None if names is None else np.asarray([splits.DECLARED.index(name) for name in names], np.int8)
    return FaceSet(ArraySource(images), labels, FER2013, origin="synthetic", parts=codes)


@pytest.fixture(scope="module")
def many():
    return synthetic_faces(1400, seed=11)


@pytest.fixture(scope="module")
def twins(many):
    """The first 200 faces, and again brighter, with less contrast and one pixel of noise."""
    images = many[0][:200]
    again = np.clip(images.astype(np.float64) * 0.9 + 20, 0, 255).astype(np.uint8)
    again[np.arange(200), np.arange(200) % 48, 7, 0] ^= 64
    return np.concatenate([images, again]), np.concatenate([many[1][:200]] * 2)


def keys(images):
    whole = faceset(images, np.zeros(len(images), np.int64))
    grouping = Grouping(len(images))
    for start in range(0, len(images), 100):
        grouping.add(images[start : start + 100], list(whole.face_hashes()[start : start + 100]))
    return grouping.keys()


def test_groups_of_many_faces_are_found_in_a_file_as_in_memory(twins, monkeypatch):
    in_memory = keys(twins[0])
    monkeypatch.setattr("edgefer.data.splits._IN_MEMORY", 10)
    monkeypatch.setattr("edgefer.data.splits._ROWS_AT_ONCE", 64)
    assert (keys(twins[0]) == in_memory).all()
    monkeypatch.setattr("edgefer.data.splits._MANY", 10)
    assert (keys(twins[0]) == in_memory).all(), "with longer hashes too"
    monkeypatch.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    assert (keys(twins[0]) == in_memory).all()


def test_the_shares_are_as_promised_and_the_parts_are_apart(many):
    opened = faceset(*many)
    hashes = [set(opened.split(part).face_hashes()) for part in PARTS]
    assert [round(len(part) / 1400, 2) for part in hashes] == [
        pytest.approx(0.85, abs=0.03),
        pytest.approx(0.10, abs=0.025),
        pytest.approx(0.05, abs=0.02),
    ]
    assert sum(map(len, hashes)) == len(set().union(*hashes)) == len(set(opened.face_hashes()))


def test_the_parts_do_not_depend_on_the_order_of_rows(many):
    shuffled = np.random.default_rng(0).permutation(1400)
    for part in PARTS:
        plain = faceset(*many).split(part)
        mixed = faceset(many[0][shuffled], many[1][shuffled]).split(part)
        assert set(plain.face_hashes()) == set(mixed.face_hashes())


def test_the_parts_are_pinned(many):
    """A change of the hash would move faces between the parts of models that are already trained."""
    assert splits.divide(np.arange(6, dtype=np.uint64), splits.SHARES, seed=0).tolist() == PINNED


PINNED = ["val", "fit", "fit", "fit", "fit", "fit"]


def test_twins_under_another_light_share_a_key(twins):
    groups = keys(twins[0])
    assert np.array_equal(groups[:200], groups[200:])
    assert len(np.unique(groups)) > 195  # and strangers do not


def test_twins_are_never_apart(twins):
    opened = faceset(*twins)
    place = {}
    for part in PARTS:
        for digest in opened.split(part).face_hashes():
            place[digest] = part
    hashes = opened.face_hashes()
    assert all(place[hashes[i]] == place[hashes[i + 200]] for i in range(200))
    assert set(place.values()) == set(PARTS)


def test_faces_that_look_otherwise_are_strangers(many):
    flat = normalised(thumbnails(many[0][:300]))
    alike = flat @ flat.T
    groups = keys(many[0][:300])
    a, b = np.nonzero(alike < 0.9)
    joined = groups[a] == groups[b]
    assert joined.mean() < 0.001


def test_small_odd_and_flat_faces_can_be_grouped():
    generator = np.random.default_rng(0)
    for shape in ((5, 3, 1), (13, 50, 3), (1, 1, 1)):
        images = generator.integers(0, 256, (30, *shape), dtype=np.uint8)
        assert len(np.unique(keys(images))) == len(np.unique(images.reshape(30, -1), axis=0))
    flat = np.repeat(np.arange(8, dtype=np.uint8), 48 * 48).reshape(8, 48, 48, 1)
    assert len(np.unique(keys(flat))) == 8
    assert len(np.unique(keys(np.zeros((0, 48, 48, 1), np.uint8)))) == 0


def test_a_thumbnail_is_the_area_mean():
    image = np.arange(48 * 48, dtype=np.uint16).reshape(1, 48, 48, 1).astype(np.uint8)
    assert np.allclose(thumbnails(image)[0], image[0, :, :, 0].reshape(12, 4, 12, 4).mean(axis=(1, 3)))


def test_train_faces_that_are_also_measured_on_are_dropped_and_counted(many):
    images = many[0][:300].copy()
    images[:5] = images[200:205]  # train repeats test
    images[5:8] = images[250:253]  # train repeats private
    images[100:102] = images[210:212]  # val repeats test
    opened = faceset(images, many[1][:300], ["train"] * 100 + ["val"] * 100 + ["test"] * 50 + ["private"] * 50)
    assert len(opened.split("train")) == 92
    assert opened.split("train").dropped == {"also in test": 5, "also in private": 3}
    assert opened.split("val").dropped == {"also in test": 2}
    assert len(opened.split("test")) == 50
    assert not set(opened.split("fit").face_hashes()) & set(opened.split("test").face_hashes())


def test_a_declared_val_stays_and_train_gives_fit_and_calib(many):
    opened = faceset(*many, ["train"] * 1000 + ["val"] * 200 + ["test"] * 200)
    assert len(opened.split("val")) == 200
    assert len(opened.split("fit")) + len(opened.split("calib")) == 1000
    assert len(opened.split("calib")) == pytest.approx(55, abs=25)
    with pytest.raises(EdgeferError, match="holds the faces of 'train' only, and 'val' was asked for"):
        opened.split("train").split("val")


def test_parts_of_train_are_the_same_from_the_whole_and_from_train(many):
    opened = faceset(*many, ["train"] * 1200 + ["test"] * 200)
    assert opened.split("calib").fingerprint() == opened.split("train").split("calib").fingerprint()


def test_test_faces_alone_refuse_to_train_choose_or_calibrate(faces):
    opened = faceset(*faces, ["test"] * 210)
    for part in PARTS:
        with pytest.raises(EdgeferError) as caught:
            opened.split(part)
        assert caught.value.message == f"synthetic has no 'train' split, and so no '{part}' (it has: test)"
        assert "training faces" in caught.value.hint
    with pytest.raises(EdgeferError, match=r"synthetic has no 'private' split \(it has: test\)") as caught:
        opened.split("private")
    assert caught.value.hint == "its splits are: test"


def test_train_faces_alone_have_no_test(faces):
    with pytest.raises(EdgeferError, match=r"has no 'test' split \(it has: train\)") as caught:
        faceset(*faces, ["train"] * 210).split("test")
    assert caught.value.hint == "pass synthetic:all if none of these faces trained or calibrated the model"


def test_a_picked_split_gives_no_other(faces):
    opened = faceset(*faces, ["train"] * 150 + ["test"] * 60)
    with pytest.raises(EdgeferError, match=r"synthetic:test holds the faces of 'test' only, and 'calib' was asked for"):
        opened.split("test").split("calib")
    assert opened.split("test").split("test") is opened.split("test")
    assert opened.split("all").split("test") is opened.split("all")
    with pytest.raises(EdgeferError, match="without a private part"):
        opened.split("all").split("private")


def test_an_empty_part_says_so(faces):
    with pytest.raises(EdgeferError, match="part of synthetic is empty: only 1 face was divided, 1 without"):
        for part in PARTS:
            faceset(faces[0][:1], faces[1][:1]).split(part)


def test_redividing_forgets_what_was_declared(many):
    opened = faceset(*many, ["test"] * 1400).redivided(seed=0, test_fraction=0.2)
    assert opened.splits == ("train", "test")
    assert len(opened.split("test")) == pytest.approx(280, abs=50)
    assert len(opened.split("test")) + len(opened.split("train")) == 1400
    calib, test = set(opened.split("calib").face_hashes()), set(opened.split("test").face_hashes())
    assert calib
    assert not calib & test
    other = faceset(*many).redivided(seed=1).split("test")
    assert set(other.face_hashes()) != test
    assert set(faceset(*many).redivided(seed=0).split("test").face_hashes()) == test


def test_a_set_without_splits_is_divided_once_and_says_so(twins, capfd):
    opened = faceset(*twins, None)
    train, test = opened.split("train"), opened.split("test")
    again = faceset(twins[0][::-1], twins[1][::-1], None)
    assert set(again.split("test").face_hashes()) == set(test.face_hashes()), "whatever the order of the rows"
    assert set(test.face_hashes()) == set(opened.redivided().split("test").face_hashes())
    assert len(test) == pytest.approx(80, abs=40)
    assert len(train) == 400 - len(test)
    assert not set(train.group_keys()) & set(test.group_keys()), "twins are on one side"
    assert sum(len(opened.split(part)) for part in PARTS) == len(train)
    assert len(opened.split("all")) == len(opened.split("all").split("test")) == 400, "what is picked is whole"
    said = capfd.readouterr().err.splitlines()
    expected = f"{len(test)} of its 400 faces measure (`test`) and {len(train)} train and calibrate (`train`)"
    assert said == [f"synthetic names no splits: by a hash of the pixels, {expected}"] * 2, "once for each opened set"


def test_faces_are_held_back_in_whole_groups(twins):
    rest, held = faceset(*twins, None).held_back(40)
    assert len(held) == pytest.approx(40, abs=1)
    assert len(rest) == 400 - len(held)
    assert not set(rest.face_hashes()) & set(held.face_hashes())
    assert not set(rest.group_keys()) & set(held.group_keys())
    shuffled = np.random.default_rng(0).permutation(400)
    again = faceset(twins[0][shuffled], twins[1][shuffled], None).held_back(40)[1]
    assert set(again.face_hashes()) == set(held.face_hashes())
    same = np.repeat(twins[0][:1], 50, axis=0)
    assert len(faceset(same, np.zeros(50, np.int64)).held_back(10)[1]) == 0, "one group of 50 is not cut"


def test_redividing_keeps_twins_together(twins):
    opened = faceset(*twins).redivided()
    test = set(opened.split("test").face_hashes())
    hashes = opened.face_hashes()
    assert all((hashes[i] in test) == (hashes[i + 200] in test) for i in range(200))
    assert 0 < len(test) < 200


@pytest.mark.parametrize(
    ("available", "total", "quotas"),
    [
        ([9, 9, 9], 9, [3, 3, 3]),
        ([1, 9, 9], 9, [1, 4, 4]),
        ([9, 9], 3, [1, 2]),
        ([1, 2, 9], 12, [1, 2, 9]),
        ([5], 0, [0]),
        ([30, 2, 30, 30], 20, [6, 2, 6, 6]),
    ],
)
def test_fair_quotas(available, total, quotas):
    assert splits.fair_quotas(available, total) == quotas


def test_real_twins_stay_on_one_side(shared):
    from edgefer.data import open_dataset

    fer2013 = shared / "data" / "fer2013"
    train = open_dataset(fer2013 / "train.npz", exclude=fer2013 / "public_test.npz")  # its test lies elsewhere
    parts = [set(train.split(part).face_hashes()) for part in PARTS]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert [len(train.split(part)) / len(train) for part in PARTS] == [
        pytest.approx(0.84, abs=0.015),
        pytest.approx(0.10, abs=0.01),
        pytest.approx(0.05, abs=0.01),
    ]


def test_counts_are_told_in_english():
    assert [number_of(count, "face") for count in (0, 1, 2000)] == ["0 faces", "1 face", "2,000 faces"]
    told = [as_many(count, words) for words in ("are left out", "measure the drop", "have", "were") for count in (1, 2)]
    assert told == [
        *("is left out", "are left out", "measures the drop", "measure the drop", "has", "have", "was", "were"),
    ]
    assert "1 of its 5 faces measures (`test`) and 4 train and calibrate" in division_sentence("x.npz", 4, 1)
