import struct
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from edgefer import intake
from edgefer.errors import EdgeferError
from edgefer.intake import (
    ImageHeader,
    check_archive,
    check_size,
    decode_image,
    image_header,
    parse_json,
    reading,
)

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
GREY = NOISE[:, :, 0]
CLEAR = np.dstack([NOISE, GREY])
DEEP = CLEAR.astype(np.uint16) * 257


def encode(suffix, array, *options):
    return cv2.imencode(suffix, array, list(options))[1].tobytes()


@pytest.mark.parametrize(
    ("suffix", "array", "kind", "channels", "bits"),
    [
        (".png", NOISE, "PNG", 3, 8),
        (".png", GREY, "PNG", 1, 8),
        (".png", DEEP, "PNG", 4, 16),
        (".jpg", NOISE, "JPEG", 3, 8),
        (".jpg", GREY, "JPEG", 3, 8),
        (".webp", NOISE, "WebP", 3, 8),
        (".webp", CLEAR, "WebP", 4, 8),
        (".bmp", NOISE, "BMP", 3, 8),
        (".bmp", CLEAR, "BMP", 4, 8),
        (".tiff", GREY, "TIFF", 1, 8),
        (".tiff", NOISE, "TIFF", 3, 8),
        (".tiff", DEEP, "TIFF", 4, 16),
        (".tiff", NOISE.astype(np.float32), "TIFF", 3, 32),
        (".ppm", NOISE, "PNM", 3, 8),
        (".pgm", DEEP[:, :, 0], "PNM", 1, 16),
    ],
)
def test_headers_give_kind_size_channels_and_depth(suffix, array, kind, channels, bits):
    content = encode(suffix, array)
    assert image_header(content) == ImageHeader(kind, 53, 37, channels, bits)
    for cut in (0, 1, 2, 5):
        assert image_header(content[:cut]) is None
    decoded = decode_image(content, "x")
    assert decoded.nbytes == image_header(content).decoded_bytes
    assert decoded.shape[:2] == (37, 53)


def test_headers_of_lossless_webp_gif_old_bmp_and_large_endian_tiff():
    for array, channels in ((NOISE, 3), (CLEAR, 4)):
        content = encode(".webp", array, cv2.IMWRITE_WEBP_QUALITY, 101)
        assert content[12:16] == b"VP8L"
        assert image_header(content) == ImageHeader("WebP", 53, 37, channels)
    assert image_header(b"GIF89a" + struct.pack("<HH", 53, 37)) == ImageHeader("GIF", 53, 37, 4)
    old = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 53, 37, 1, 24)
    assert image_header(old) == ImageHeader("BMP", 53, 37, 3)
    tags = [(256, 4, 53), (257, 4, 37)]
    tiff = (
        b"MM\0*" + struct.pack(">IH", 8, 2) + b"".join(struct.pack(">HHII", tag, kind, 1, n) for tag, kind, n in tags)
    )
    assert image_header(tiff) == ImageHeader("TIFF", 53, 37, 1)
    assert image_header(b"P6\n# by hand\n53 37\n255\n") == ImageHeader("PNM", 53, 37, 3)


def test_damaged_headers_are_none_and_never_a_fault():
    random = np.random.default_rng(1)
    for suffix, array in ((".png", DEEP), (".jpg", NOISE), (".webp", CLEAR), (".tiff", DEEP), (".bmp", NOISE)):
        content = bytearray(encode(suffix, array)[:400])
        for _ in range(300):
            changed = bytearray(content)
            changed[int(random.integers(2, len(changed)))] = int(random.integers(256))
            image_header(bytes(changed[: int(random.integers(2, len(changed)))]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (ImageHeader("PNG", 60_000, 50_000), "x has 60000×50000 pixels, more than 50 million"),
        (ImageHeader("PNG", 6000, 6000, 4, 16), "x has 6000×6000 pixels of 4 × 16 bits, which take 288 MB"),
    ],
)
def test_what_would_take_too_much_memory_is_refused(header, message):
    with pytest.raises(EdgeferError) as fault:
        check_size(header, "x")
    assert message in fault.value.message
    assert "shrink it" in fault.value.hint
    check_size(ImageHeader("WebP", 7070, 7070, 4), "x")
    check_size(ImageHeader("PNG", 5000, 5000, 4, 16), "x")


MEASURED = """
import sys
from edgefer.camera.pictures import cv2
from edgefer.camera.pictures import read_picture
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
before = peak()
pixels = read_picture(sys.argv[1])
print(pixels.shape, pixels[0, 0], pixels[3534, 7069], pixels[3535, 0], pixels[7069, 7069], sep=";")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak on Linux only")
def test_two_kilobytes_that_hold_fifty_million_transparent_pixels_take_no_more_than_twice_their_decoded_size(tmp_path):
    path = tmp_path / "clear.webp"
    clear = np.zeros((7070, 7070, 4), np.uint8)
    clear[:, :, :3] = 10, 20, 30
    clear[:3535, :, 3] = 128
    path.write_bytes(encode(".webp", clear, cv2.IMWRITE_WEBP_QUALITY, 101))
    del clear
    assert path.stat().st_size < 3000
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    answer, grown = done.stdout.splitlines()
    half = "[132 137 142]"  # of 10, 20, 30 over white
    assert answer == f"(7070, 7070, 3);{half};{half};[255 255 255];[255 255 255]"
    assert float(grown) < 2 * intake.MAX_DECODED_BYTES / 1e6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "NaN is no number of JSON"),
        ('{"a": -Infinity}', "Infinity is no number"),
        ("[1e999]", "the number 1e999 is too large"),
        ("9" * 5000, "digits"),
        ("[" * 100_000, "recursion"),
        ("{", "Expecting property name"),
        (b"\xff\xfe", "it is not a text file"),
    ],
)
def test_json_beyond_its_limits_is_one_line(text, message):
    with pytest.raises(EdgeferError, match=message) as caught:
        parse_json(text, "a report", "write one")
    assert caught.value.message.startswith("a report cannot be read: ")
    assert "\n" not in caught.value.message
    assert parse_json('{"a": [1, 2.5e3]}', "a report", "") == {"a": [1, 2500.0]}


def test_a_boundary_makes_one_printable_line_of_what_a_library_raises():
    with pytest.raises(EdgeferError) as caught, reading("x.bin", "copy it", "an archive"):
        raise struct.error("\n\x1b[31mno\nmore" + "e" * 500)
    assert caught.value.message.startswith("x.bin cannot be read as an archive: error: ?[31mno")
    assert len(caught.value.message) < 250
    assert caught.value.message.isprintable()
    own = EdgeferError("own", "hint")
    with pytest.raises(EdgeferError) as caught, reading("x.bin", ""):
        raise own
    assert caught.value is own
    with pytest.raises(KeyboardInterrupt), reading("x.bin", ""):
        raise KeyboardInterrupt


def test_an_archive_is_measured_before_it_is_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(50_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000
    monkeypatch.setattr(intake, "available_memory", lambda: 60_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip") as archive:
        with pytest.raises(EdgeferError, match="would take 0.1 GB of memory"):
            check_archive(archive, "bomb.zip", "")
        check_archive(archive, "bomb.zip", "", skipped="a")
        archive.infolist()[0].flag_bits |= 1
        with pytest.raises(EdgeferError, match="is encrypted"):
            check_archive(archive, "bomb.zip", "")
