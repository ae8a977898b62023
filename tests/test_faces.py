import base64
import json
from pathlib import Path

import numpy as np
import pytest

from edgefer import faces
from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "faces.json").read_text(encoding="utf-8"))


def contract(size=48, channels=1, margin=0.0):
    norm = Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels)
    return Contract(("a", "b"), size, size, channels, norm, "none", margin)


def decoded(case, key):
    return np.frombuffer(base64.b64decode(case[key]), np.uint8).reshape(case[f"{key}_shape"])


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_vectors(case):
    height, _, channels = case["face_shape"]
    box = tuple(case["box"]) if case["box"] else None
    face = faces.prepare(decoded(case, "image"), contract(height, channels, case["crop_margin"]), box)
    np.testing.assert_array_equal(face, decoded(case, "face"))


@pytest.mark.parametrize("case", GOLDEN)
def test_opencv_agrees_within_one_level(case):
    cv2 = pytest.importorskip("cv2")
    image = decoded(case, "image").astype(np.float32)
    height, width, channels = case["face_shape"]
    if case["box"]:
        x, y, w, h = case["box"]
        m = case["crop_margin"]
        left, top, right, bottom = (
            int(np.floor(v + 0.5)) for v in (x - m * w, y - m * h, x + w + m * w, y + h + m * h)
        )
        pad = 64
        image = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        image = image.reshape(*image.shape[:2], -1)[top + pad : bottom + pad, left + pad : right + pad]
    if channels == 1 and image.shape[2] == 3:
        image = image @ np.float32([0.299, 0.587, 0.114])
    if channels == 3 and image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)
    assert np.abs(expected - decoded(case, "face")).max() <= 1.0


def test_crop_repeats_the_edge():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    cut = faces.crop(image, (-1, -1, 3, 3))[:, :, 0]
    np.testing.assert_array_equal(cut, [[0, 0, 1], [0, 0, 1], [4, 4, 5]])


def test_grey_weights_and_rounding_half_to_even():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert faces.prepare(np.repeat(red, 48, 0).repeat(48, 1), contract())[0, 0, 0] == 76  # 0.299 · 255 = 76.245
    np.testing.assert_array_equal(faces.to_uint8(np.float32([0.5, 1.5, 2.5, -3.0, 300.0])), [0, 2, 2, 0, 255])


def test_a_face_that_fits_is_returned_as_it_is():
    batch = faces.golden_faces(contract(), 3)
    assert faces.prepare_batch(batch, contract()) is batch
    np.testing.assert_array_equal(faces.prepare(batch[0], contract()), batch[0])


def test_golden_faces_differ_and_stay():
    first = faces.golden_faces(contract(), 4)
    assert first.shape == (4, 48, 48, 1)
    assert len({face.tobytes() for face in first}) == 4
    assert int(first.astype(np.int64).sum()) == 1289094


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 10, 3), np.uint8), "no pixels"),
        (np.zeros((10, 10), np.uint16), "uint16"),
        (np.zeros((10, 10, 4), np.uint8), "10×10×4"),
    ],
)
def test_bad_images(image, message):
    with pytest.raises(EdgeferError, match=message) as fault:
        faces.prepare(image, contract())
    assert fault.value.hint


def test_a_box_without_area():
    with pytest.raises(EdgeferError, match="no area"):
        faces.prepare(np.zeros((10, 10), np.uint8), contract(), (3, 3, 0.2, 5))


def test_an_empty_batch_keeps_its_shape():
    assert faces.prepare_batch(np.zeros((0, 9, 9, 1), np.uint8), contract()).shape == (0, 48, 48, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source", [1, 3])
def test_prepare_reads_only_what_it_needs_and_gives_the_same_pixels(channels, source):
    generator = np.random.default_rng(channels + source)
    wanted = contract(24, channels, margin=0.1)
    image = generator.integers(0, 256, (90, 120, source), dtype=np.uint8)
    for _ in range(40):
        box = (*generator.uniform(-30, 80, 2), *generator.uniform(5, 120, 2))
        cut = faces.to_channels(faces.crop(image, faces.expand(box, 0.1)), channels)
        step_by_step = faces.to_uint8(faces.resize(cut, 24, 24))
        np.testing.assert_array_equal(faces.prepare(image, wanted, box), step_by_step)
