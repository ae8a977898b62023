"""The builder line by line, over fakes of TensorRT of every version."""

import os
import signal

import onnx
import pytest

from edgefer.engines.tensorrt import cuda
from edgefer.engines.tensorrt.build import build_plan, make_calibrator, read_timings
from edgefer.engines.tensorrt.options import Batches, BuilderOptions
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.conftest import CONTRACT, tiny
from tests.engines.tensorrt.running import PACKAGES, VERSIONS, check, faces

FIXED = Batches(4, 4, 4)
ON_DLA = {"dla": 1, "gpu_fallback": True, "batches": FIXED}


def build(here, precision="fp32", *, fed=None, rtx=False, **options):
    options.setdefault("workspace", 1 << 24)
    return build_plan(tiny(), CONTRACT, precision, BuilderOptions(**options), rtx=rtx, calibrator=fed)


def orin_with_dla(machine, version="10.3.0"):
    here = machine(version)
    here.tensorrt.module.Builder.num_DLA_cores = here.tensorrt.module.Runtime.num_DLA_cores = 2
    return here


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
    assert seen._network._typed is not version.startswith("8")
    assert (getattr(seen, "progress_monitor", None) is None) is version.startswith("8")
    assert (made.target.name, made.device, made.layers) == (version, "Orin, SM87", "")
    with TensorRtSession(made.plan) as session:
        assert (session.min_batch, session.max_batch) == (1, 32)
        check(session, 32)


@pytest.mark.parametrize(
    ("version", "options", "flags", "values"),
    [
        ("10.3.0", {"refit": True}, {"REFIT"}, {}),
        ("10.3.0", {"precision": "fp16", "sparsity": True}, {"SPARSE_WEIGHTS"}, {}),
        ("10.3.0", {"version_compatible": True}, {"VERSION_COMPATIBLE"}, {}),
        ("8.6.1", {"opt_level": 5}, set(), {"builder_optimization_level": 5}),
        ("8.6.1", {"opt_level": 0}, set(), {"builder_optimization_level": 0}),
        ("8.6.1", {}, set(), {"builder_optimization_level": 3}),
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
    monkeypatch.setattr(cuda, "available_memory", lambda: 1 << 32)
    build(here, workspace=None)
    assert here.tensorrt.seen._limits == {"WORKSPACE": 1 << 31}
    monkeypatch.setattr(cuda, "available_memory", lambda: 1 << 20)
    build(here, workspace=None)
    assert here.tensorrt.seen._limits == {"WORKSPACE": 1 << 29}


@pytest.mark.parametrize(("version", "flags"), [("8.6.1", {"FP16"}), ("10.3.0", {"FP16"}), ("11.4.1", set())])
def test_dla(machine, version, flags):
    """Before 11 the builder's flags decide about FP16 on DLA, so the network is weakly typed there."""
    here = orin_with_dla(machine, version)
    build(here, "fp16", **ON_DLA)
    seen = here.tensorrt.seen
    assert (seen.default_device_type.name, seen.DLA_core) == ("DLA", 1)
    assert seen._flags == {"GPU_FALLBACK", *flags}
    assert seen._network._typed is not bool(flags)
    assert seen._network.get_input(0).shape == (4, 4, 4, 1)


def test_a_dla_core_that_is_not_there(machine):
    with pytest.raises(EdgeferError, match="--dla 1: this machine has 0 DLA cores"):
        build(machine(), "fp16", **ON_DLA)
    with pytest.raises(EdgeferError, match="--dla 2: this machine has 2 DLA cores"):
        build(orin_with_dla(machine), "fp16", **{**ON_DLA, "dla": 2})


@pytest.mark.parametrize("version", VERSIONS)
def test_one_batch_size(machine, version):
    here = machine(version)
    with TensorRtSession(build(here, batches=FIXED).plan) as session:
        assert (session.min_batch, session.max_batch) == (4, 4)
        check(session, 4)
    assert here.tensorrt.seen._profiles == []


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
@pytest.mark.parametrize("fixed", [True, False])
def test_a_calibrator_streams_whole_batches(machine, version, package, fixed):
    here, batches, done = machine(version, package), [faces(4, seed) for seed in range(3)], []

    def advance(steps, note=""):
        done.append(steps)

    made = make_calibrator(here.tensorrt.module, "entropy", iter(batches), 4, None, advance)
    build(here, "int8+fp16", fed=made, calibrator="entropy", batches=FIXED if fixed else Batches(1, 2, 8))
    assert [fed.tobytes() for fed in here.tensorrt.fed] == [batch.tobytes() for batch in batches]
    assert done == [4, 4, 4]
    assert here.gpu.allocated == 2  # one buffer, on both sides
    assert here.tensorrt.seen._flags == {"INT8", "FP16"}
    assert not here.tensorrt.seen._network._typed
    profile = here.tensorrt.seen._calibration  # of its own, for one batch size, where the engine's has several
    assert profile is None if fixed else set(profile._shapes["faces"]) == {(4, 4, 4, 1)}
    assert made.table.startswith(b"TRT-fake")
    made.close()
    made.close()
    assert here.gpu.left() == {}


def test_what_stopped_the_calibrator_stops_the_build(machine):
    """TensorRT goes on with the faces so far, and makes a plan of them."""
    here = machine()

    def broken():
        yield faces(4)
        raise EdgeferError("faces.npz ends too early", hint="copy it again")

    made = make_calibrator(here.tensorrt.module, "entropy", broken(), 4)
    with pytest.raises(EdgeferError, match="ends too early"):
        build(here, "int8", fed=made, calibrator="entropy")
    made.close()
    assert len(here.tensorrt.fed) == 1


def test_a_calibration_table_instead_of_faces(machine):
    here = machine()
    made = make_calibrator(here.tensorrt.module, "minmax", (), 1, b"a table")
    build(here, "int8", fed=made, calibrator="minmax")
    assert here.tensorrt.seen.int8_calibrator is made
    assert here.tensorrt.fed == []
    assert here.gpu.allocated == 0


def test_a_gpu_without_fast_int8(machine):
    here = machine("8.6.1")
    here.tensorrt.module.Builder.platform_has_fast_int8 = False
    with pytest.raises(EdgeferError, match="this GPU has no fast INT8") as error:
        build(here, "int8")
    assert "--fp16" in error.value.hint


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


def test_a_builder_that_says_nothing(machine):
    here = machine("8.6.1")
    here.tensorrt.module.Builder.build_serialized_network = lambda *_: None
    with pytest.raises(EdgeferError, match=r"TensorRT 8\.6\.1 could not build the engine: its log has no error"):
        build(here)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_ctrl_c_while_it_builds(machine, version):
    """A builder with a monitor is asked to stop; after it the interruption is raised; the handler is as before."""
    here, before = machine(version), signal.getsignal(signal.SIGINT)
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


@pytest.mark.parametrize(("version", "rtx"), [*((version, False) for version in VERSIONS), ("1.7.1", True)])
def test_a_network_of_one_shape_without_a_contract(machine, version, rtx):
    """Built in FP32, in the primary context, which is then left: the fake sees to that."""
    here, model = machine(version, rtx=rtx), onnx.load_from_string(tiny())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    made = build_plan(model.SerializeToString(), None, "fp32", BuilderOptions(), rtx=rtx)
    assert (made.target.name, made.device) == (version, "SM86" if rtx else "Orin, SM87")
    assert (here.tensorrt.seen._flags, here.tensorrt.seen._profiles) == (set(), [])
    assert here.gpu.stack == []
    with TensorRtSession(made.plan, rtx=rtx) as session:
        check(session, 2)


def test_verbose(machine, capfd):
    build(machine("1.7.1", rtx=True), rtx=True, verbose=True)
    assert "Layers:" in capfd.readouterr().err


def test_memory_of_the_calibrator_that_runs_out(machine):
    """It is kept until the builder is done, and what was taken before is given back."""
    for call in ("cuMemAlloc", "cuMemAllocHost", "cuStreamCreate"):
        here = machine()
        build(here)  # the driver is up
        here.gpu.fail[call] = "CUDA_ERROR_OUT_OF_MEMORY"
        made = make_calibrator(here.tensorrt.module, "entropy", iter([faces(4)]), 4)
        assert made.get_batch(["faces"]) is None
        assert f"CUDA failed: {call}" in made.failure.message
        made.close()
        assert here.gpu.left() == {}
        assert here.gpu.stack == []


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
    assert read_timings(None) is None
    assert read_timings(path) == b""
    path.write_bytes(b"mine")
    assert read_timings(path) == b"mine"
    for place in (tmp_path, path / "below"):
        with pytest.raises(EdgeferError, match="cannot write"):
            read_timings(place)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(EdgeferError, match=r"t\.cache cannot be read: .*Permission denied"):
        read_timings(path)
