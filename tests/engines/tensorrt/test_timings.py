"""Timing caches: from one build to the next, of another place, damaged, or where none can be written."""

import pytest

from edgefer.engines.tensorrt import timings
from edgefer.errors import EdgeferError
from tests.engines.tensorrt.test_build import build


def test_timings_are_kept_from_one_build_to_the_next(machine, tmp_path, capfd):
    path = tmp_path / "jetson.cache"
    build(machine(), timing_cache=path)
    assert path.read_bytes() == b"timings of Orin"
    here = machine()
    build(here, timing_cache=path)
    assert here.tensorrt.seen._cache._content == b"timings of Orin"
    assert "started anew" not in capfd.readouterr().err


@pytest.mark.parametrize("known", [b"timings of Orin", b"damaged"])
def test_timings_of_another_place_are_started_anew(machine, tmp_path, capfd, known):
    path = tmp_path / "t.cache"
    path.write_bytes(known)
    build(machine(name="Thor", capability=(11, 0)), timing_cache=path)
    assert "t.cache is of another TensorRT or another GPU, and is started anew" in capfd.readouterr().err
    assert path.read_bytes() == b"timings of Thor"


def test_timings_are_read_before_anything_is_built(tmp_path, monkeypatch):
    path = tmp_path / "t.cache"
    assert timings.read_timings(None) is None
    assert timings.read_timings(path) == b""
    path.write_bytes(b"mine")
    assert timings.read_timings(path) == b"mine"
    for place in (tmp_path, path / "below"):
        with pytest.raises(EdgeferError, match="cannot write"):
            timings.read_timings(place)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(EdgeferError, match=r"t\.cache cannot be read: .*Permission denied"):
        timings.read_timings(path)
