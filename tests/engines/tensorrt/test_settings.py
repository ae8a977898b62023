"""Every option reaches the builder: what is set on a fake of it that writes everything down."""

from types import SimpleNamespace

import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.engines.tensorrt import build
from edgefer.engines.tensorrt.compat import RTX, target_of
from edgefer.engines.tensorrt.cuda import Device
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.engines.tensorrt.sizes import Batches
from edgefer.errors import EdgeferError

CONTRACT = Contract(("a", "b"), 48, 48, 1, Normalisation(), "lenet")
ORIN, A100 = Device("Orin", "SM87", integrated=True), Device("A100", "SM80", integrated=False)


class Enum:
    """A fake of an enum: each member is its own name."""

    def __getattr__(self, name):
        return name


class FakeConfig:
    """A fake of IBuilderConfig: ``seen`` is what was set and called, by name."""

    def __init__(self):
        object.__setattr__(self, "seen", {})

    def __setattr__(self, name, value):
        self.seen[name] = value

    def __getattr__(self, name):
        def call(*arguments):
            self.seen.setdefault(name, []).append(arguments)
            return True

        return call

    def create_timing_cache(self, blob):
        return SimpleNamespace(blob=blob)

    def get_timing_cache(self):
        return SimpleNamespace(serialize=lambda: b"timings")


class FakeProfile:
    def set_shape(self, name, *shapes):
        assert name == "faces"
        self.sizes = tuple(shape[0] for shape in shapes)
        assert {shape[1:] for shape in shapes} == {(48, 48, 1)}


class FakeTensorRt:
    """A fake of the package, for one build."""

    BuilderFlag = ProfilingVerbosity = MemoryPoolType = DeviceType = HardwareCompatibilityLevel = Enum()
    ComputeCapability = Enum()
    NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
    IProgressMonitor = type("IProgressMonitor", (), {})

    def __init__(self):
        self.config, self.tensor, self.flags = FakeConfig(), SimpleNamespace(shape=None), None

    def Builder(self, logger):
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=lambda: self.config,
            create_optimization_profile=FakeProfile,
            build_serialized_network=lambda network, config: b"plan",
            num_DLA_cores=2,
            platform_has_fast_int8=True,
        )

    def _network(self, flags):
        self.flags = flags
        return SimpleNamespace(get_input=lambda index: self.tensor)

    def OnnxParser(self, network, logger):
        return SimpleNamespace(parse=lambda model: True)


def built(monkeypatch, version, precision="fp16", device=ORIN, fed=None, **options):
    fake = FakeTensorRt()
    target = RTX if version == "rtx" else target_of(version)
    monkeypatch.setattr(build, "import_tensorrt", lambda rtx: (fake, target))
    monkeypatch.setattr(build, "logger_of", lambda rtx: None)
    monkeypatch.setattr(build, "probe", lambda: device)
    monkeypatch.setattr(build, "free_bytes", lambda device: 3 << 30)
    made = build.build_plan(*(b"model", CONTRACT, precision, BuilderOptions(**options)), rtx=target.rtx, calibrator=fed)
    assert made.plan == b"plan"
    return fake


def flags(fake):
    return {flag for (flag,) in fake.config.seen.get("set_flag", [])}


@pytest.mark.parametrize(
    ("version", "creation"), [("jetpack5", 1), ("8.6", 1), ("10.3", 2), ("jetpack7", 2), ("11.4", 0), ("rtx", 0)]
)
def test_what_every_build_sets(monkeypatch, version, creation):
    fake = built(monkeypatch, version)
    seen = fake.config.seen
    assert fake.flags == creation
    assert seen["profiling_verbosity"] == "DETAILED"
    assert seen["clear_flag"] == [("TF32",)]
    assert seen["add_optimization_profile"][0][0].sizes == (1, 1, 32)
    assert ("progress_monitor" in seen) is (version not in ("jetpack5", "8.6"))
    assert seen.get("set_compute_capability") == ([("SM86", 0)] if version == "rtx" else None)
    assert seen.get("set_memory_pool_limit") == (None if version == "rtx" else [("WORKSPACE", 3 << 29)])


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"workspace": 1 << 29}, "set_memory_pool_limit", [("WORKSPACE", 1 << 29)]),
        ({"opt_level": 0}, "builder_optimization_level", 0),
        ({"hardware_compat": True, "device": A100}, "hardware_compatibility_level", "AMPERE_PLUS"),
        ({"version_compatible": True}, "set_flag", [("VERSION_COMPATIBLE",)]),
        ({"refit": True}, "set_flag", [("REFIT",)]),
        ({"sparsity": True}, "set_flag", [("SPARSE_WEIGHTS",)]),
    ],
)
def test_what_an_option_sets(monkeypatch, options, name, value):
    assert built(monkeypatch, "10.3", **options).config.seen[name] == value
    assert built(monkeypatch, "10.3").config.seen.get(name) != value


def test_dla(monkeypatch):
    on_dla = {"gpu_fallback": True, "batches": Batches(4, 4, 4)}
    fake = built(monkeypatch, "10.3", dla=1, **on_dla)
    assert (fake.config.seen["default_device_type"], fake.config.seen["DLA_core"]) == ("DLA", 1)
    assert flags(fake) == {"GPU_FALLBACK", "FP16"}
    assert fake.flags == 0
    assert fake.tensor.shape == (4, 48, 48, 1)
    assert flags(built(monkeypatch, "11.4.1", dla=0, **on_dla)) == {"GPU_FALLBACK"}
    with pytest.raises(EdgeferError, match="--dla 2: this machine has 2 DLA cores"):
        built(monkeypatch, "10.3", dla=2, **on_dla)


def test_batches(monkeypatch):
    fake = built(monkeypatch, "10.3", batches=Batches(2, 4, 8))
    assert [profile.sizes for (profile,) in fake.config.seen["add_optimization_profile"]] == [(2, 4, 8)]
    assert fake.tensor.shape is None
    fake = built(monkeypatch, "10.3", batches=Batches(8, 8, 8))
    assert "add_optimization_profile" not in fake.config.seen
    assert fake.tensor.shape == (8, 48, 48, 1)


@pytest.mark.parametrize(("batches", "profile"), [(Batches(1, 1, 32), (16, 16, 16)), (Batches(16, 16, 16), None)])
def test_a_calibrator_has_a_profile_of_its_own(monkeypatch, batches, profile):
    calibrator = SimpleNamespace(get_batch_size=lambda: 16, failure=None)
    fake = built(monkeypatch, "10.3", "int8+fp16", fed=calibrator, calibrator="entropy", batches=batches)
    assert fake.config.seen["int8_calibrator"] is calibrator
    assert flags(fake) == {"INT8", "FP16"}
    assert fake.flags == 0
    seen = fake.config.seen.get("set_calibration_profile")
    assert (seen and seen[0][0].sizes) == profile


def test_timings_are_read_and_written(monkeypatch, tmp_path):
    path = tmp_path / "t.cache"
    path.write_bytes(b"known")
    fake = built(monkeypatch, "10.3", timing_cache=path)
    ((cache, ignore_mismatch),) = fake.config.seen["set_timing_cache"]
    assert (cache.blob, ignore_mismatch) == (b"known", False)
    assert path.read_bytes() == b"timings"


def test_a_jetson_is_found_out_where_its_name_was_not_given(monkeypatch):
    with pytest.raises(EdgeferError, match="--hardware-compat: Orin, SM87 builds for the Jetson it runs on only"):
        built(monkeypatch, "10.3", hardware_compat=True)
