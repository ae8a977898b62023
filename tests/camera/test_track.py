import numpy as np
import pytest

from edgefer.camera.track import MISSES, Tracker, match

from .conftest import detection

STEP = 1 / 30


def walk(tracker, positions, start=0.0):
    """One look a position (None: nobody); the views of each."""
    return [tracker.update([] if x is None else [detection(x, 100)], start + i * STEP) for i, x in enumerate(positions)]


def test_a_moving_face_keeps_its_number():
    views = walk(Tracker(), range(0, 200, 10))
    assert [[t.number for t in view] for view in views] == [[1]] * 20


def test_a_face_is_where_its_motion_takes_it_between_looks():
    tracker = Tracker()
    walk(tracker, [0, 10, 20, 30, 40, 50])
    for ahead in (1, 2, 3):
        (face,) = tracker.predict((5 + ahead) * STEP)
        assert face.predicted
        assert face.detection.box[0] == pytest.approx(50 + 10 * ahead, abs=2)
        assert face.detection.crop.x == pytest.approx(75 + 10 * ahead, abs=2)


def test_an_identity_survives_missed_looks_and_moves_on():
    tracker = Tracker()
    views = walk(tracker, [0, 10, 20, 30, *[None] * MISSES, 60])
    assert [t.number for t in views[-1]] == [1]
    assert all(view[0].predicted for view in views[4:6])
    assert views[5][0].detection.box[0] == pytest.approx(50, abs=3)


def test_a_face_that_is_gone_ends_and_a_new_one_has_a_new_number():
    tracker = Tracker()
    views = walk(tracker, [0, 10, *[None] * (MISSES + 1), 20])
    assert views[-2] == []
    assert [t.number for t in views[-1]] == [2]


def test_two_faces_that_cross_keep_their_numbers():
    tracker = Tracker()
    for step in range(21):
        left, right = detection(20 * step, 100), detection(400 - 20 * step, 100, size=80)
        views = tracker.update([left, right] if step % 2 else [right, left], step * STEP)
    by_size = {round(t.detection.box[2]): t.number for t in views}
    first = {round(d.box[2]): n for d, n in ((detection(0, 0, 80), 1), (detection(0, 0), 2))}
    assert by_size == first


def test_a_face_that_jumps_is_matched_by_nearness():
    views = walk(Tracker(), [0, 0, 28])
    assert [t.number for t in views[-1]] == [1]
    views = walk(Tracker(), [0, 0, 150])
    assert [t.number for t in views[-1]] == [1, 2]


def test_what_was_found_once_only_is_no_face_where_two_looks_are_asked_for():
    tracker = Tracker(confirmations=2)
    assert walk(tracker, [0, None, 50, None]) == [[]] * 4
    assert [t.number for t in walk(tracker, [80, 81], start=1.0)[-1]] == [1]


def test_a_look_is_wanted_for_new_and_missed_faces_only():
    tracker = Tracker()
    assert not tracker.wants_search
    wants = []
    for index, x in enumerate([0, 1, 2, None, 4]):
        walk(tracker, [x], start=index * STEP)
        wants.append(tracker.wants_search)
    assert wants == [True, False, False, True, False]


def test_reset_forgets_faces_but_not_the_count():
    tracker = Tracker()
    walk(tracker, [0])
    tracker.reset()
    assert [t.number for t in walk(tracker, [0])[0]] == [2]


def test_the_best_pairs_are_taken_first():
    tracks = np.array([[0.0, 0, 10, 10], [4, 0, 10, 10]])
    assert match(tracks, np.array([[3.0, 0, 10, 10]])) == {1: 0}
    assert match(tracks, np.array([[3.0, 0, 10, 10], [0, 0, 10, 10]])) == {0: 1, 1: 0}
    assert match(np.zeros((0, 4)), tracks) == {}
    assert match(tracks, np.zeros((0, 4))) == {}


def test_a_face_of_another_size_nearby_is_another_face():
    assert match(np.array([[0.0, 0, 100, 100]]), np.array([[30.0, 30, 20, 20]])) == {}


def test_sizes_follow_a_face_that_comes_nearer():
    tracker = Tracker()
    for step in range(20):
        (face,) = tracker.update([detection(100 - step, 100 - step, 50 + 2 * step)], step * STEP)
    assert face.detection.box[2] == pytest.approx(88, abs=3)
    assert face.detection.crop.side == pytest.approx(face.detection.box[2])
