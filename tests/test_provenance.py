"""The set of faces that a file has met: small, the same after a round trip, and readable as files had it before."""

import base64
import zlib

import numpy as np
import pytest

from edgefer.provenance import begin_as, beginnings, packed, unpacked


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_a_set_is_small_and_comes_back(count):
    numbers = np.random.default_rng(0).integers(0, 1 << 63, count, dtype=np.uint64)
    hashes = [f"{number:016x}" for number in numbers.tolist()]
    text = packed([*hashes, *hashes[:3]])
    assert unpacked(text) == beginnings(hashes) == tuple(sorted(face[:10] for face in hashes))
    assert len(text) <= 40 + 5 * count
    assert packed(unpacked(text)) == text
    assert '"' not in text
    assert "\\" not in text


def test_the_extremes_of_a_hash_come_back():
    hashes = ("0" * 10, "0" * 9 + "1", "f" * 10)
    assert unpacked(packed(hashes)) == hashes


def test_lists_of_hashes_and_base64_are_read_as_files_had_them():
    hashes = ["abcdef0123456789", "00ff00ff00ff00ff"]
    assert unpacked(hashes) == ("00ff00ff00", "abcdef0123")
    assert unpacked(base64.b64encode(bytes.fromhex("00ff00ff00abcdef0123")).decode()) == ("00ff00ff00", "abcdef0123")
    assert unpacked("") == unpacked([]) == ()


@pytest.mark.parametrize(
    "content",
    [
        *("sorted40:", "sorted40:x", packed(["0123456789"])[:-4], "no base64!", "AAAA", ["01234"], ["not a hash"], 7),
        "sorted40:" + base64.b85encode(zlib.compress(b"123")).decode(),
    ],
)
def test_what_is_damaged_is_a_value_or_type_error(content):
    with pytest.raises((ValueError, TypeError)):
        unpacked(content)


def test_faces_are_known_by_how_their_hashes_begin():
    assert begin_as(["0123456789abcdef", "ffff456789abcdef"], ["0123456789ffffff"]).tolist() == [True, False]
    assert begin_as(["0123456789abcdef"], []).tolist() == [False]
