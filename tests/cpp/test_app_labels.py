"""The C++ app answers as the Python app does: same faces, same tracks, same labels."""

import cv2
import numpy as np
import pytest

from edgefer.camera.app import App, Options
from edgefer.camera.detection import Detection, Square
from edgefer.camera.smooth import Smoothing
from edgefer.engines.load import load_engine
from edgefer.models import default_engine

from ..camera.conftest import KeepingSink, room, with_face
from .program import events_of, program, run, write_boxes, write_sequence

FRAMES = 40


class Pictures:
    """A video of pictures in memory."""

    live = False
    name, fps = "pictures", None

    def __init__(self, pictures, stills):
        self._pictures, self.stills = iter(pictures), stills

    def read(self):
        picture = next(self._pictures, None)
        return None if picture is None else picture.copy()

    def close(self):
        pass


class Given:
    """A detector that is told the boxes of each frame; frames differ, so it knows them by their pixels."""

    name, confirmations = "given", 1

    def __init__(self, pictures, boxes):
        self._boxes = {picture.tobytes(): boxes.get(number, []) for number, picture in enumerate(pictures)}

    def detect(self, pixels):
        return [
            Detection((x, y, w, h), 1.0, Square(x + w / 2, y + h / 2, (w * h) ** 0.5))
            for x, y, w, h in self._boxes[pixels.tobytes()]
        ]

    def close(self):
        pass


def in_python(engine, pictures, detector, options, *, stills=False):
    sink = KeepingSink()
    with load_engine(engine) as classifier:
        App(Pictures(pictures, stills), detector, classifier, [sink], options).run()
    return [(seen.frame.number, face) for seen in sink.seen for face in seen.faces]


def assert_alike(events, faces, *, pixels=0.11, probability=0.01):
    assert [(e["frame"], e["track"], e["predicted"]) for e in events] == [
        (number, face.tracked.number, face.tracked.predicted) for number, face in faces
    ]
    assert [e["label"] for e in events] == [face.label for _, face in faces]
    for event, (number, face) in zip(events, faces, strict=True):
        assert event["box"] == pytest.approx(face.tracked.detection.box, abs=pixels)
        assert list(event["probabilities"].values()) == pytest.approx(face.probabilities, abs=probability)
        assert event["video_s"] in (None, pytest.approx(number / 30, abs=1e-3))


def moving(levels=(20, 235)):
    """Two squares that move over a room and change their grey; the second hides for a while."""
    pictures, boxes = [], {}
    for number in range(FRAMES):
        picture = room()
        places = [(20 + 4 * number, 30, 60, 60), (230 - 3 * number, 140, 48, 48)]
        shown = places if not 15 <= number < 22 else places[:1]
        for index, (x, y, w, h) in enumerate(shown):
            grey = levels[index] if number < 25 else levels[1 - index]
            picture[y : y + h, x : x + w] = np.clip(grey + np.arange(h)[:, None, None] % 9 - 4, 0, 255)
        boxes[number] = shown
        pictures.append(picture)
    return pictures, boxes


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (Options(), []),
        (Options(every=1, smoothing=Smoothing("none")), ["--detect-every", "1", "--smooth", "none"]),
        (
            Options(every=4, max_faces=1, smoothing=Smoothing("majority", min_confidence=0.7)),
            ["--detect-every=4", "--max-faces=1", "--smooth=majority", "--min-confidence=0.7"],
        ),
    ],
    ids=["ema", "none", "majority"],
)
def test_a_sequence_with_given_boxes_has_pythons_labels(brightness, tmp_path, options, arguments):
    program()
    pictures, boxes = moving()
    sequence = write_sequence(tmp_path / "frames", pictures)
    given = write_boxes(tmp_path / "boxes.jsonl", boxes)
    out = tmp_path / "events.jsonl"
    done = run(brightness, "--source", sequence, "--every-frame", "--boxes", given, "--events", out, *arguments)
    assert done.returncode == 0, done.stderr
    events = events_of(out)
    faces = in_python(brightness, pictures, Given(pictures, boxes), options)
    assert {event["label"] for event in events} >= {"dark", "bright"}
    assert_alike(events, faces)
    assert f"{FRAMES} frames shown" in done.stderr


def test_turned_and_flipped_pictures_are_python_s_too(brightness, tmp_path):
    program()
    pictures = [with_face(room(), 100 + number, 90, 80) for number in range(6)]
    turned = [cv2.flip(cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE), 1) for picture in pictures]
    boxes = {number: [(60, 70, 90, 90)] for number in range(6)}
    given = write_boxes(tmp_path / "boxes.jsonl", boxes)
    sequence = write_sequence(tmp_path / "frames", pictures)
    out = tmp_path / "events.jsonl"
    done = run(brightness, "--source", sequence, "--boxes", given, "--events", out, "--rotate", "90", "--mirror")
    assert done.returncode == 0, done.stderr
    assert_alike(events_of(out), in_python(brightness, turned, Given(turned, boxes), Options()))


def test_the_engine_that_ships_runs_though_its_manifest_names_onnx_runtime(tmp_path):
    program()
    pictures = [with_face(room(), 100 + 2 * number, 110, 110, number % 3) for number in range(12)]
    boxes = {number: [(45 + 2 * number, 55, 110, 110)] for number in range(12)}
    sequence = write_sequence(tmp_path / "frames", pictures)
    given = write_boxes(tmp_path / "boxes.jsonl", boxes)
    out = tmp_path / "events.jsonl"
    done = run(default_engine(), "--source", sequence, "--every-frame", "--boxes", given, "--events", out)
    assert done.returncode == 0, done.stderr
    assert "was built" not in done.stderr
    events = events_of(out)
    assert {len(event["probabilities"]) for event in events} == {8}
    assert_alike(events, in_python(default_engine(), pictures, Given(pictures, boxes), Options()))


def test_haar_follows_a_synthetic_face(brightness, tmp_path):
    program()
    pictures = [with_face(room(), 100 + 4 * number, 120, 120) for number in range(30)]
    sequence = write_sequence(tmp_path / "frames", pictures)
    out = tmp_path / "events.jsonl"
    done = run(brightness, "--source", sequence, "--events", out)
    if "is not where OpenCV keeps it" in done.stderr:
        pytest.skip("OpenCV's cascades are not installed: apt install opencv-data")
    assert done.returncode == 0, done.stderr
    events = events_of(out)
    assert len(events) >= 25
    assert {event["track"] for event in events} == {1}
    for event in events:
        x, y, width, height = event["box"]
        assert x + width / 2 == pytest.approx(100 + 4 * event["frame"], abs=16)
        assert y + height / 2 == pytest.approx(120, abs=16)


def test_yunet_finds_what_it_finds_in_python(brightness, shared, tmp_path):
    from edgefer.camera.detectors import YuNet

    program()
    file = shared / "detectors" / "face_detection_yunet_2023mar.onnx"
    portrait = cv2.imread(str(shared / "data" / "astronaut.png"))
    if not file.is_file() or portrait is None:
        pytest.skip("YuNet or the portrait is not in ../shared")
    turn = cv2.getRotationMatrix2D((portrait.shape[1] / 2, portrait.shape[0] / 3), 15, 1.0)
    tilted = cv2.warpAffine(portrait, turn, portrait.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    pictures = [portrait, cv2.resize(portrait, None, fx=0.7, fy=0.9), tilted]
    write_sequence(tmp_path / "pictures", pictures)
    out = tmp_path / "events.jsonl"
    done = run(brightness, "--source", tmp_path / "pictures", "--detector", file, "--events", out)
    assert done.returncode == 0, done.stderr
    faces = in_python(brightness, pictures, YuNet(file, runtime="openvino"), Options(), stills=True)
    assert len(faces) == 3
    assert_alike(events_of(out), faces, pixels=0.5, probability=0.03)


@pytest.mark.slow
def test_the_shipped_network_reads_the_same_faces(tmp_path):
    from edgefer import BuildTarget, build_engine, export
    from edgefer.data import synthetic_faces

    program()
    export("mini_xception", tmp_path / "model.onnx")
    build_engine(
        tmp_path / "model.onnx", tmp_path / "engine.onnx", precision="fp32", target=BuildTarget("cpu", "openvino")
    )
    faces, _ = synthetic_faces(FRAMES, 5, 90)
    pictures, boxes = [], {}
    for number, face in enumerate(faces):
        picture = room()
        x, y = 40 + 2 * number, 60
        picture[y : y + 90, x : x + 90] = face
        pictures.append(picture)
        boxes[number] = [(x + 3, y + 2, 84, 84)]
    given = write_boxes(tmp_path / "boxes.jsonl", boxes)
    out = tmp_path / "events.jsonl"
    sequence = write_sequence(tmp_path / "frames", pictures)
    done = run(tmp_path / "engine.onnx", "--source", sequence, "--every-frame", "--boxes", given, "--events", out)
    assert done.returncode == 0, done.stderr
    assert_alike(events_of(out), in_python(tmp_path / "engine.onnx", pictures, Given(pictures, boxes), Options()))
