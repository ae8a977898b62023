"""Steps of a build that a real builder takes only on a GPU, over fakes: nothing here says anything about TensorRT."""

from types import SimpleNamespace

import pytest

from edgefer.engines.tensorrt import build, timings
from edgefer.engines.tensorrt.binding import Log
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError


class FakeConfig:
    """A fake of IBuilderConfig that knows one timing cache, ``b"mine"``, and one of another GPU, ``b"other"``."""

    def __init__(self):
        self.cache = None

    def create_timing_cache(self, blob):
        return SimpleNamespace(blob=blob) if blob in (b"", b"mine", b"other") else None

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        if cache.blob == b"other":
            return False
        self.cache = cache.blob
        return True


@pytest.mark.parametrize(
    ("known", "used", "said"),
    [(b"", b"", False), (b"mine", b"mine", False), (b"other", b"", True), (b"damaged", b"", True)],
)
def test_a_timing_cache_of_another_place_is_started_anew(tmp_path, capfd, known, used, said):
    config = FakeConfig()
    timings.set_timings(config, known, tmp_path / "t.cache")
    assert config.cache == used
    assert ("t.cache is of another TensorRT or another GPU, and is started anew" in capfd.readouterr().err) is said


def test_a_timing_cache_is_read_before_anything_is_built(tmp_path):
    assert timings.read_timings(None) is None
    assert timings.read_timings(tmp_path / "new.cache") == b""
    (tmp_path / "t.cache").write_bytes(b"mine")
    assert timings.read_timings(tmp_path / "t.cache") == b"mine"
    for place in (tmp_path, tmp_path / "t.cache" / "below"):
        with pytest.raises(EdgeferError, match="cannot write"):
            timings.read_timings(place)


def serialised(plan, calibrator=None, during=lambda: None):
    def build_serialized_network(network, config):
        during()
        return plan

    builder = SimpleNamespace(build_serialized_network=build_serialized_network)
    target = target_of("8.6")  # has no progress monitor
    return build._serialised(None, target, builder, None, None, Log(), BuilderOptions(), calibrator)


def test_what_stopped_the_calibrator_stops_the_build():
    """TensorRT goes on with the faces so far, and makes a plan of them."""
    broken = SimpleNamespace(failure=EdgeferError("CUDA failed: cudaMemcpyAsync"))
    with pytest.raises(EdgeferError, match="cudaMemcpyAsync"):
        serialised(b"plan", broken)
    assert serialised(b"plan", SimpleNamespace(failure=None)) == b"plan"


def test_a_builder_that_returns_none_is_an_error():
    with pytest.raises(EdgeferError, match=r"TensorRT 8\.6\.0 could not build the engine: its log has no error"):
        serialised(None)


def test_ctrl_c_while_the_builder_runs_is_kept_until_it_returns():
    import signal

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            serialised(b"plan", during=lambda: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)


class FakeBuilder(SimpleNamespace):
    platform_has_fast_int8 = True


@pytest.mark.parametrize(
    ("version", "precision", "options", "flags"),
    [
        ("8.6", "fp32", {}, set()),
        ("8.6", "fp16", {}, {"FP16"}),
        ("8.6", "int8+fp16", {}, {"FP16", "INT8"}),
        ("10.3", "int8+fp16", {}, set()),
        ("10.3", "int8+fp16", {"calibrator": "entropy"}, {"FP16", "INT8"}),
        ("10.3", "fp16", {"dla": 0}, {"FP16"}),
        ("11.4.1", "int8+fp16", {"dla": 0}, set()),
    ],
)
def test_flags_where_types_do_not_decide(version, precision, options, flags):
    found = set()
    config = SimpleNamespace(set_flag=found.add)
    trt = SimpleNamespace(BuilderFlag=SimpleNamespace(FP16="FP16", INT8="INT8"))
    target = target_of(version)
    weak = BuilderOptions(**options).weakly_typed(target)
    build._set_precision(trt, target.has, FakeBuilder(), config, precision, weak)
    assert found == flags


def test_a_gpu_without_int8_is_refused():
    trt, slow = SimpleNamespace(), SimpleNamespace(platform_has_fast_int8=False)
    with pytest.raises(EdgeferError, match="no fast INT8") as error:
        build._set_precision(trt, target_of("8.6").has, slow, None, "int8", True)
    assert "--fp16" in error.value.hint
