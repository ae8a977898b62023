"""The builder line by line, over fakes of TensorRT of every version."""

import os
import signal

import numpy as np
import pytest

from edgefer.engines.tensorrt import cuda as cuda_module
from edgefer.engines.tensorrt.build import build_plan
from edgefer.engines.tensorrt.calibrator import make_calibrator
from edgefer.engines.tensorrt.options import Batches, BuilderOptions
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.conftest import CONTRACT, tiny
from tests.engines.tensorrt.test_run import PACKAGES, VERSIONS, check, faces

FIXED = Batches(4, 4, 4)


def build(here, precision="fp32", *, calibrator=None, rtx=False, **options):
    options.setdefault("workspace", 1 << 24)
    return build_plan(
        tiny(), CONTRACT, precision, BuilderOptions(**options), rtx=rtx, calibrator=calibrator and calibrator(here)
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_flags_where_types_do_not_decide(machine, version, precision):
    here = machine(version)
    made = build(here, precision)
    wanted = {part.upper() for part in precision.split("+")} - {"FP32"} if version.startswith("8") else set()
    seen = here.tensorrt.seen
    assert seen._flags == wanted  # and never TF32
    assert seen._limits == {"WORKSPACE": 1 << 24}
    assert seen.profiling_verbosity.name == "DETAILED"
    assert (made.target.name, made.device, made.layers) == (version, "Orin, SM87", "")
    with TensorRtSession(made.plan) as session:
        assert (session.least, session.most) == (1, 32)
        check(session, 32)


@pytest.mark.parametrize(
    ("version", "options", "flags", "values"),
    [
        ("10.3.0", {"refit": True, "sparsity": True}, {"REFIT", "SPARSE_WEIGHTS"}, {}),
        ("10.3.0", {"version_compatible": True}, {"VERSION_COMPATIBLE"}, {}),
        ("8.6.1", {"opt_level": 5}, set(), {"builder_optimization_level": 5}),
        ("8.5.2", {}, set(), {}),
    ],
)
def test_options(machine, version, options, flags, values):
    here = machine(version)
    with TensorRtSession(build(here, **options).plan) as session:
        check(session, 2)
    assert here.tensorrt.seen._flags == flags
    assert {name: getattr(here.tensorrt.seen, name) for name in values} == values


def test_hardware_compatibility_is_for_desktops(machine):
    with pytest.raises(EdgeferError, match="Orin, SM87 builds for the Jetson it runs on only"):
        build(machine(), hardware_compat=True)
    here = machine(name="RTX 3060", capability=(8, 6), integrated=False)
    build(here, hardware_compat=True)
    assert here.tensorrt.seen.hardware_compatibility_level.name == "AMPERE_PLUS"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_workspace_is_half_of_what_is_free(machine, package, capfd, monkeypatch):
    here = machine(package=package, name="RTX 3060", capability=(8, 6), integrated=False, total=1 << 30)
    build(here, workspace=None)
    assert here.tensorrt.seen._limits == {"WORKSPACE": 1 << 29}
    assert "workspace: 512 MiB, half of what is free" in capfd.readouterr().err
    here = machine(package=package, total=1 << 30)  # a Jetson, where the file cache counts as used
    monkeypatch.setattr(cuda_module.Path, "read_text", lambda *_, **__: "MemTotal: 9 kB\nMemAvailable: 4194304 kB\n")
    build(here, workspace=None)
    assert here.tensorrt.seen._limits == {"WORKSPACE": 1 << 31}
    monkeypatch.setattr(cuda_module.Path, "read_text", lambda *_, **__: "MemTotal: 9 kB\n")
    build(here, workspace=None)
    assert here.tensorrt.seen._limits == {"WORKSPACE": 1 << 29}


def test_dla(machine):
    here = machine()
    with pytest.raises(EdgeferError, match="--dla 0: this machine has 0 DLA cores"):
        build(here, "fp16", dla=0, gpu_fallback=True, batches=FIXED)
    here.tensorrt.module.Builder.num_DLA_cores = 2
    build(here, "fp16", dla=1, gpu_fallback=True, batches=FIXED)
    assert here.tensorrt.seen.default_device_type.name == "DLA"
    assert here.tensorrt.seen.DLA_core == 1
    assert here.tensorrt.seen._flags == {"GPU_FALLBACK"}


def test_a_timing_cache(machine, tmp_path, capfd):
    path = tmp_path / "jetson.cache"
    build(machine(), timing_cache=path)
    assert path.read_bytes() == b"timings of Orin"
    build(machine(), timing_cache=path)
    assert "started anew" not in capfd.readouterr().err
    build(machine(name="Thor", capability=(11, 0)), timing_cache=path)
    assert "is of another TensorRT or another GPU, and is started anew" in capfd.readouterr().err
    assert path.read_bytes() == b"timings of Thor"


@pytest.mark.parametrize("version", VERSIONS)
def test_one_batch_size(machine, version):
    here = machine(version)
    with TensorRtSession(build(here, batches=FIXED).plan) as session:
        assert (session.least, session.most) == (4, 4)
        check(session, 4)
    assert here.tensorrt.seen._profiles == []


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
@pytest.mark.parametrize("fixed", [True, False])
def test_a_calibrator_streams_whole_batches(machine, version, package, fixed):
    here, batches, done = machine(version, package), [faces(4, seed) for seed in range(3)], []

    def calibrator(here):
        advance = lambda steps, note="": done.append(steps)  # noqa: E731
        return make_calibrator(here.tensorrt.module, "entropy", iter(batches), 4, None, advance)

    made = []
    build(here, "int8+fp16", calibrator=lambda here: made.append(calibrator(here)) or made[0],
          batches=FIXED if fixed else Batches(1, 2, 8))  # fmt: skip
    assert [fed.tobytes() for fed in here.tensorrt.fed] == [batch.tobytes() for batch in batches]
    assert done == [4, 4, 4]
    assert here.gpu.allocated == 2  # one buffer, on both sides
    assert here.tensorrt.seen._flags == {"INT8", "FP16"}
    assert (here.tensorrt.seen._calibration is None) is fixed
    assert made[0].table.startswith(b"TRT-fake")
    made[0].close()
    made[0].close()
    assert here.gpu.left() == {}


def test_a_calibration_table_instead_of_faces(machine):
    here = machine()
    build(here, "int8", calibrator=lambda h: make_calibrator(h.tensorrt.module, "minmax", (), 1, b"a table"))
    assert here.tensorrt.fed == []
    assert here.gpu.allocated == 0


def test_a_gpu_without_fast_int8(machine):
    here = machine("8.6.1")
    here.tensorrt.module.Builder.platform_has_fast_int8 = False
    with pytest.raises(EdgeferError, match="this GPU has no fast INT8"):
        build(here, "int8")


@pytest.mark.parametrize(("version", "where"), [("8.6.1", "node 3: "), ("10.3.0", "Strange 'blocks/3/Strange': ")])
def test_an_operator_that_the_parser_refuses(machine, version, where):
    here = machine(version)
    here.tensorrt.parser_error = "no importer registered"
    with pytest.raises(EdgeferError, match=f"refuses the model: {where}no importer registered"):
        build(here)


def test_libraries_that_make_no_builder(machine):
    here = machine()
    here.tensorrt.say = "no library"
    with pytest.raises(EdgeferError, match=r"TensorRT 10\.3\.0 could not start"):
        build(here)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "Error Code 2: OutOfMemory (Requested size was 9207254 bytes.)",
            "raise --workspace, which is 16 MiB, or lower",
        ),
        ("Could not find any implementation for node", "--verbose shows all of its log"),
    ],
)
def test_a_builder_that_gives_up(machine, said, hint):
    here = machine()
    here.tensorrt.say = said
    with pytest.raises(EdgeferError, match=r"TensorRT 10\.3\.0 could not build the engine: ") as error:
        build(here)
    assert said in error.value.message
    assert hint in error.value.hint


def test_ctrl_c_while_it_builds(machine):
    """The builder is asked to stop, and only then is the interruption raised; the handler is as before."""
    here, before = machine(), signal.getsignal(signal.SIGINT)
    here.tensorrt.during_build = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(here)
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        build(here)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ahead_of_time_needs_no_gpu(machine):
    here = machine("1.7.1", rtx=True)
    made = build(here, rtx=True, workspace=None)
    assert not here.gpu.probed
    assert (made.device, made.layers) == ("SM86", "Layers:\n")
    assert here.tensorrt.seen.num_compute_capabilities == 1
    with TensorRtSession(made.plan, rtx=True) as session:
        check(session, 8)
    here.tensorrt.module.IBuilderConfig.set_compute_capability = lambda self, capability, index: False
    with pytest.raises(EdgeferError, match="TensorRT-RTX does not build for SM86"):
        build(here, rtx=True)


def test_verbose(machine, capfd):
    build(machine("1.7.1", rtx=True), rtx=True, verbose=True)
    assert "Layers:" in capfd.readouterr().err


def test_memory_of_the_calibrator_that_runs_out(machine):
    here = machine(total=40)
    made = make_calibrator(here.tensorrt.module, "entropy", iter([faces(4)]), 4)
    with pytest.raises(EdgeferError, match="cuMemAlloc"):
        made.get_batch(["faces"])
    made.close()
    assert np.array_equal(here.gpu.stack, [])
