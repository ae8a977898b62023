import cv2
import numpy as np
import pytest

from edgefer.camera.frame import Frame, LabelledFace, LabelledFrame
from edgefer.camera.overlay import PALETTE, UNSURE, draw, draw_faces
from edgefer.camera.track import TrackedFace

from .conftest import detection

LABELS = ("dark", "medium", "bright")


def canvas(height=240, width=320):
    return np.full((height, width, 3), 100, np.uint8)


def face(box=(60, 80, 100), label="medium", values=(0.2, 0.5, 0.3)):
    return LabelledFace(TrackedFace(1, detection(*box), False), np.array(values, np.float32), label)


def test_status_and_labels_of_faces_below_it_are_both_read(classifier):
    pictures = []
    for faces in ((), (face((4, 26, 100)),)):
        seen = LabelledFrame(Frame(0, canvas(), 0.0, 0.0, 0.0), faces, 0, True, 1.0, 1.0, 0.01)
        draw(seen, classifier, None)
        pictures.append(seen.frame.pixels)
    status = (pictures[0] != 100).any(axis=2)
    assert (pictures[0][status] == pictures[1][status]).all()
    assert (pictures[1] == PALETTE[1]).all(axis=2).sum() > 1500  # the box, and most of 16 rows of some 90


@pytest.mark.parametrize(("label", "colour"), [("medium", PALETTE[1]), (None, UNSURE)])
def test_the_box_is_where_the_face_is_in_the_colour_of_its_class(label, colour):
    picture = canvas()
    draw_faces(picture, [face(label=label)], LABELS)
    assert tuple(picture[130, 60]) == colour  # left edge
    assert tuple(picture[130, 160]) == colour  # right edge
    assert (picture[130, 70:150] == 100).all()  # the face itself stays as it is


def test_bars_are_as_long_as_the_probabilities():
    lengths = []
    for share in (0.25, 0.5, 1.0):
        picture = canvas(480, 640)
        draw_faces(picture, [face((60, 80, 200), values=(0, share, 1 - share))], LABELS)
        bar = (picture[:, 270:] == PALETTE[1]).all(axis=2)
        lengths.append(bar.sum(axis=1).max())
    assert lengths[0] == pytest.approx(lengths[2] / 4, abs=3)
    assert lengths[1] == pytest.approx(lengths[2] / 2, abs=3)


ROW = ((80, 80, 150), (285, 70, 150), (480, 80, 145))
GRID = tuple((x, y, 130) for y in (60, 300) for x in (60, 255, 450))


@pytest.mark.parametrize(("boxes", "with_bars"), [(ROW, 3), (GRID, 0), (((0, 0, 420),), 1), (((60, 5, 470),), 0)])
def test_bars_and_labels_cover_no_face(boxes, with_bars):
    picture = canvas(480, 640)
    labels = (*LABELS, "a", "b", "c", "d", "e")
    draw_faces(picture, [face(box, values=np.eye(8)[1]) for box in boxes], labels)
    for x, y, side in boxes:
        assert (picture[y + 40 : y + side - 5, x + 5 : x + side - 5] == 100).all()
    dark = (picture == 100 // 8).all(axis=2).astype(np.uint8)  # the ground of the bars
    sizes = cv2.connectedComponentsWithStats(dark)[2][1:, cv2.CC_STAT_AREA]
    assert (sizes > 5000).sum() == with_bars


@pytest.mark.parametrize(("step", "labelled"), [(130, 12), (44, 4)])
def test_labels_of_small_faces_cover_no_neighbour_and_no_label(monkeypatch, step, labelled):
    boxes = [(20 + step * (i % 4), 60 + step * (i // 4), 40) for i in range(12)]
    filled, rectangle = [], cv2.rectangle

    def watched(pixels, start, end, colour, thickness, *others):
        if thickness < 0:
            filled.append((*start, *end))
        rectangle(pixels, start, end, colour, thickness, *others)

    monkeypatch.setattr(cv2, "rectangle", watched)
    draw_faces(canvas(480, 640), [face(box) for box in boxes], LABELS)
    assert len(filled) >= labelled
    taken = [*filled, *((x, y, x + side, y + side) for x, y, side in boxes)]
    for i, (left, top, right, bottom) in enumerate(filled):
        meets = [a for a in taken if a[0] < right and left < a[2] and a[1] < bottom and top < a[3]]
        own = [(x, y, x + s, y + s) for x, y, s in boxes if (x, y, x + s, y + s) in meets]
        assert len(own) <= 1, f"label {i} lies on two faces"
        assert len(meets) == 1 + len(own), f"label {i} lies on another"


@pytest.mark.parametrize("box", [(-40, -40, 100), (280, 200, 100), (400, 300, 50), (0, 0, 2000), (150, 238, 1)])
def test_faces_over_the_edge_are_drawn_without_an_error(box):
    draw_faces(canvas(), [face(box)], LABELS)


@pytest.mark.parametrize("size", [(8, 8), (120, 2000), (2000, 120)])
def test_any_size_of_picture_can_be_drawn_on(size, classifier):
    frame = Frame(0, canvas(*size), 0.0, 0.0, 0.0)
    seen = LabelledFrame(frame, (face(),), 3, True, 1, 1, 0.01)
    draw(seen, classifier, 29.7, recording=True)
    assert (frame.pixels != 100).any()


def test_recording_shows(classifier):
    pictures = []
    for recording in (False, True):
        frame = Frame(0, canvas(480, 640), 0.0, 0.0, 0.0)
        draw(LabelledFrame(frame, (), 0, True, 1, 1, 0.01), classifier, None, recording=recording)
        pictures.append(frame.pixels)
    red = (pictures[1][:60, 500:] == (40, 40, 230)).all(axis=2).sum()
    assert red > 20
    assert (pictures[0][:60, 500:] == 100).all()
