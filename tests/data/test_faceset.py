"""What a FaceSet gives: batches, hashes, balanced choices."""

import hashlib

import numpy as np
import pytest

from edgefer.data import FaceSet, refuse_overlap
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource
from edgefer.errors import EdgeferError


def faceset(images, labels, **options):
    return FaceSet(ArraySource(images), labels, FER2013, origin="synthetic", **options)


def test_batches_are_in_order_and_whole(faces):
    opened = faceset(*faces)
    batches = list(opened.batches(64))
    assert [len(images) for images, _ in batches] == [64, 64, 64, 18]
    assert np.array_equal(np.concatenate([images for images, _ in batches]), faces[0])
    assert np.array_equal(np.concatenate([labels for _, labels in batches]), faces[1])


def test_consecutive_faces_are_a_view(faces):
    assert np.shares_memory(faceset(*faces).images(range(5, 60)), faces[0])
    assert np.array_equal(faceset(*faces).images([7, 3, 3]), faces[0][[7, 3, 3]])


def test_a_subset_keeps_its_own_order(faces):
    part = faceset(*faces).subset([9, 4, 4])
    assert part.labels.tolist() == faces[1][[9, 4, 4]].tolist()
    assert np.array_equal(part.images([0, 1, 2]), faces[0][[9, 4, 4]])
    assert np.array_equal(part.subset([1]).images([0]), faces[0][[4]])


def test_hashes_are_of_shape_and_pixels(faces):
    opened = faceset(*faces)
    expected = hashlib.sha256(b"(48, 48, 1)" + faces[0][8].tobytes()).hexdigest()[:16]
    assert opened.face_hashes()[8] == expected
    assert opened.subset([3, 8]).face_hashes()[1] == expected
    flat = faceset(np.zeros((1, 4, 2), np.uint8), [0]).face_hashes()
    assert flat != faceset(np.zeros((1, 2, 4), np.uint8), [0]).face_hashes()


def test_the_fingerprint_sees_pixels_labels_and_order(faces):
    images, labels = faces[0][:20], faces[1][:20]
    reference = faceset(images, labels).fingerprint()
    assert len(reference) == 64
    assert faceset(images.copy(), labels.copy()).fingerprint() == reference
    changed = images.copy()
    changed[19, 47, 47, 0] ^= 1
    relabelled = labels.copy()
    relabelled[0] = (relabelled[0] + 1) % 7
    others = [faceset(changed, labels), faceset(images, relabelled), faceset(images[::-1], labels[::-1])]
    assert len({reference, *(other.fingerprint() for other in others)}) == 4


def test_a_balanced_choice_is_equal_deterministic_and_balanced_from_the_start(faces):
    opened = faceset(*faces)
    chosen = opened.stratified(70, seed=3)
    assert set(chosen.per_class_counts().values()) == {10}
    assert sorted(chosen.labels[:7].tolist()) == list(range(7))
    assert chosen.fingerprint() == opened.stratified(70, seed=3).fingerprint()
    assert chosen.fingerprint() != opened.stratified(70, seed=4).fingerprint()
    assert len(set(chosen.face_hashes())) == 70


def test_a_short_class_gives_all_and_the_others_make_up(faces):
    keep = np.concatenate([np.flatnonzero(faces[1] == c)[: 2 if c == 1 else 30] for c in range(7)])
    counts = faceset(faces[0][keep], faces[1][keep]).stratified(40, seed=0).per_class_counts()
    assert counts["disgust"] == 2
    assert sorted(counts.values()) == [2, 6, 6, 6, 6, 7, 7]


def test_the_other_classes_make_up_for_one_without_faces(faces):
    keep = np.isin(faces[1], [0, 1, 2, 3, 4])
    counts = faceset(faces[0][keep], faces[1][keep]).stratified(10, seed=0).per_class_counts()
    assert list(counts.values()) == [2, 2, 2, 2, 2, 0, 0]


def test_faces_without_labels_are_sampled_counted_and_asked_for_labels(faces):
    opened = FaceSet(ArraySource(faces[0]), np.full(210, -1), (), origin="photos")
    assert opened.per_class_counts() == {}
    sample = opened.stratified(50, seed=1)
    assert len(set(sample.face_hashes())) == 50
    assert sample.fingerprint() != opened.stratified(50, seed=2).fingerprint()
    assert len(opened.split("train")) == len(opened.split("all")) == 210, "nothing is divided"
    with pytest.raises(EdgeferError, match="photos has no labels, and training needs them"):
        opened.require_labels("training")


@pytest.mark.parametrize("count", [0, -1, 211])
def test_more_faces_than_there_are_is_an_error(count, faces):
    with pytest.raises(EdgeferError, match=f"{count} faces asked of synthetic, which has 210") as caught:
        faceset(*faces).stratified(count, seed=0)
    assert caught.value.hint == "ask for 1 to 210"


def test_an_overlap_is_refused_with_count_and_example(faces):
    hashes = faceset(*faces).face_hashes()
    refuse_overlap(hashes[:100], hashes[100:], "a", "b")
    with pytest.raises(EdgeferError) as caught:
        refuse_overlap(hashes[:102], hashes[100:], "the calibration faces", "the test faces")
    example = min(hashes[100:102])[:10]
    assert caught.value.message == (
        f"2 of the faces are both in the calibration faces and in the test faces (for example {example})"
    )
    assert "--exclude" in caught.value.hint


def test_faces_of_another_set_can_be_left_out(faces):
    opened = faceset(*faces)
    less = opened.without(opened.face_hashes()[:4], "also in the test file")
    assert len(less) == 206
    assert less.dropped == {"also in the test file": 4}
    assert np.array_equal(less.images([0]), faces[0][[4]])
    assert opened.without(["0" * 16], "x").dropped == {}
    assert len(opened.without([], "x")) == 210
