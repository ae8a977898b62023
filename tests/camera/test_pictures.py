import struct

import cv2
import numpy as np
import pytest

from edgefer.camera.pictures import decode_picture, read_picture, write_picture
from edgefer.errors import EdgeferError

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def test_8_bits_come_as_they_are():
    np.testing.assert_array_equal(decode_picture(png(NOISE), "x"), NOISE)


def test_16_bits_become_8_by_257():
    deep = np.array([[[0, 128, 129], [257, 32896, 65535]]], np.uint16)
    np.testing.assert_array_equal(decode_picture(png(deep), "x"), [[[0, 0, 1], [1, 128, 255]]])


def test_what_is_transparent_shows_white():
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 128]]], np.uint8)
    np.testing.assert_array_equal(decode_picture(png(pixels), "x"), [[[10, 20, 30], [255, 255, 255], [127, 177, 227]]])


def test_grey_becomes_three_channels():
    np.testing.assert_array_equal(decode_picture(png(NOISE[:, :, 0]), "x"), np.repeat(NOISE[:, :, :1], 3, axis=2))


def test_a_phone_s_jpeg_is_turned_upright():
    jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(NOISE, (0, 0), 3), [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    tag = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)  # orientation 6: a quarter clockwise
    exif = b"Exif\0\0" + tag
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    np.testing.assert_array_equal(
        decode_picture(turned, "x"), cv2.rotate(decode_picture(jpeg, "x"), cv2.ROTATE_90_CLOCKWISE)
    )


def bomb():
    content = bytearray(png(NOISE))
    content[16:24] = struct.pack(">II", 60_000, 50_000)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "face.jpg is empty", "copy it again"),
        (b"hello, I am a text\nof two lines", "begins with the text 'hello, I am a text'", "JPEG, PNG"),
        ("grüße aus köln, wo es regnet".encode(), "begins with the text 'grüße aus köln", "JPEG, PNG"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "begins with the bytes 7f 45 4c 46", "JPEG, PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is a heic file, which OpenCV does not read", "JPEG, PNG"),
        (png(NOISE)[:60], "damaged or cut short", "JPEG, PNG"),
        (bomb(), "60000×50000 pixels", "shrink it"),
        (cv2.imencode(".tiff", NOISE.astype(np.float32))[1].tobytes(), "float32 values", "8 or 16 bits"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, content, message, hint):
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(EdgeferError) as fault:
        read_picture(path)
    assert message in fault.value.message
    assert "face.jpg" in fault.value.message
    assert hint in fault.value.hint


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EdgeferError, match=r"none\.png: No such file"):
        read_picture(tmp_path / "none.png")


def test_pictures_are_written_whole(tmp_path):
    write_picture(tmp_path / "a" / "x.png", NOISE)
    np.testing.assert_array_equal(read_picture(tmp_path / "a" / "x.png"), NOISE)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.png"]
