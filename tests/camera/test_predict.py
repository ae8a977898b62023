from dataclasses import replace

import numpy as np
import pytest

from edgefer.camera.detectors import open_detector
from edgefer.camera.pictures import write_picture
from edgefer.engines.classifier import Classifier
from edgefer.engines.onnxruntime import OnnxRuntimeSession

from .conftest import CONTRACT, DETECTOR, brightness_model, needs_detector, room, with_face


class Counting:
    """A session that remembers the sizes of its batches."""

    def __init__(self, content):
        self._session = OnnxRuntimeSession(content)
        self.name, self.version = self._session.name, self._session.version
        self.inputs, self.outputs = self._session.inputs, self._session.outputs
        self.sizes = []

    def run(self, feeds):
        self.sizes.append(len(feeds["faces"]))
        return self._session.run(feeds)

    def close(self):
        self._session.close()


def counted(batch="N"):
    session = Counting(brightness_model(batch=batch))
    return Classifier(session, CONTRACT, precision="fp32", size_bytes=1, name="x"), session


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (2, [2]), (3, [4]), (8, [8]), (9, [8, 1]), (21, [8, 8, 8]), (200, [8] * 25)]
)
def test_faces_go_in_few_sizes_of_batches(count, sizes):
    classifier, session = counted()
    faces = np.random.default_rng(0).integers(0, 256, (count, 24, 24, 1), dtype=np.uint8)
    together = classifier.probabilities_of_all(faces)
    assert session.sizes == sizes
    assert together.shape == (count, 3)
    one_by_one = np.concatenate([classifier.probabilities(face[None]) for face in faces])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_an_engine_with_a_batch_of_its_own_gets_that():
    classifier, session = counted(batch=2)
    assert classifier.probabilities_of_all(np.zeros((5, 24, 24, 1), np.uint8)).shape == (5, 3)
    assert session.sizes == [2, 2, 2]


@pytest.mark.parametrize(("low", "high", "sizes"), [(1, 4, [4, 4, 1]), (1, 1, [1] * 9), (4, 32, [8, 4])])
def test_an_engine_with_a_profile_gets_no_batch_outside_it(low, high, sizes):
    classifier, session = counted()
    session.inputs = (replace(session.inputs[0], batches=(low, high)),)
    assert classifier.probabilities_of_all(np.zeros((9, 24, 24, 1), np.uint8)).shape == (9, 3)
    assert session.sizes == sizes


def test_nobody_is_an_empty_answer_without_a_run():
    classifier, session = counted()
    assert classifier.probabilities_of_all(np.zeros((0, 24, 24, 1), np.uint8)).shape == (0, 3)
    assert session.sizes == []


@needs_detector
def test_a_picture_is_predicted_with_names_or_with_what_is_open(tmp_path, engine, classifier):
    import edgefer

    path = tmp_path / "face.png"
    pixels = with_face(room(), 170, 120, 140)
    write_picture(path, pixels)
    named = edgefer.predict(path, engine, DETECTOR)
    with_open = edgefer.predict(pixels, classifier, open_detector(DETECTOR), min_confidence=0.999)
    (face,), (unsure,) = named.faces, with_open.faces
    assert (face.label, face.sure, unsure.label, unsure.sure) == ("medium", True, "medium", False)
    assert face.probabilities.tolist() == unsure.probabilities.tolist()
    assert (named.labels, named.size) == (CONTRACT.labels, (320, 240))
    (whole,) = edgefer.predict(np.full((24, 24, 3), 255, np.uint8), engine, detector=None).faces
    assert (whole.label, whole.detection.box) == ("bright", (0, 0, 24, 24))
    assert classifier.probabilities(np.zeros((1, 24, 24, 1), np.uint8)).argmax() == 0  # it stays open


@needs_detector
def test_a_list_gives_a_list_and_the_engine_that_ships_is_the_default(tmp_path):
    import edgefer

    path = tmp_path / "face.png"
    pixels = with_face(room(), 170, 120, 140)
    write_picture(path, pixels)
    first, nobody, grey = edgefer.predict([path, room(), pixels[:, :, 0]], detector=DETECTOR)
    assert len(first.faces) == len(grey.faces) == 1
    assert first.labels == ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
    assert first.faces[0].box == first.faces[0].detection.box
    assert repr(first).startswith(f"<Prediction of 320×240 pixels: {first.faces[0].label} ")
    assert "no face found: detector=None takes the picture itself as a face" in repr(nobody)
    assert edgefer.predict([], detector=DETECTOR) == []
