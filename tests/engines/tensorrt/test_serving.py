"""From a model to an engine that is built, checked, loaded and benched, over fakes; and all that a loader refuses."""

import json
import re
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto

import edgefer
from edgefer.data import save_npz
from edgefer.deploy.inspect import inspect_file, inspection_json, rows
from edgefer.engines.load import load_engine
from edgefer.engines.session import open_session
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.manifest import manifest_path, read_manifest
from edgefer.optimize import tensorrt
from tests.engines.conftest import CONTRACT, tiny
from tests.engines.tensorrt.fakes.strict import COMPUTE_MS, SCRATCH
from tests.engines.tensorrt.running import PACKAGES, VERSIONS, expected, faces
from tests.engines.tensorrt.uses import FOLDER


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny())
    return path


def build(model, name="x.engine", **options):
    path = model.parent / name
    target = edgefer.BuildTarget("tensorrt", builder={"max_batch": 8, **options})
    return edgefer.build_engine(model, path, precision="fp32", target=target)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("version", VERSIONS)
def test_build_load_and_ask(machine, model, version, package):
    machine(version, package)
    result = build(model)
    assert (result.manifest.runtime, result.manifest.runtime_version) == ("tensorrt", version)
    assert result.manifest.device == "Orin, SM87"
    with load_engine(result.path) as classifier:
        for count in (1, 8, 8):
            np.testing.assert_allclose(classifier.logits(faces(count)), expected(faces(count)), rtol=1e-5)
        assert classifier.runtime_version == version


def test_an_engine_without_a_file(machine):
    plan = machine().plan()
    session = open_session("tensorrt", plan)
    np.testing.assert_allclose(session.run({"faces": faces(3)})["logits"], expected(faces(3)), rtol=1e-5)
    session.close()


@pytest.mark.slow
def test_int8_from_faces_and_bench(machine, exported, faces, tmp_path):
    """A real network in Q/DQ, benched against its ONNX file."""
    machine()
    path = tmp_path / "x.engine"
    edgefer.build_engine(
        *(exported("mini_xception"), path),
        precision="int8",
        quantisation=edgefer.Quantisation(faces, faces=24),
        target="tensorrt",
    )
    settings = edgefer.BenchSettings(seconds=0.1)
    report = edgefer.benchmark(path, faces.split("val"), exported("mini_xception"), settings, telemetry=False)
    assert report.engines[0].runtime == "tensorrt"
    assert report.engines[0].accuracy.n > 0


@pytest.mark.parametrize("sizes", [{"max_batch": 4}, {"shapes": "faces:4x4x4x1"}, {"min_batch": 3, "max_batch": 4}])
def test_more_faces_than_the_engine_takes_at_a_time(machine, model, sizes):
    machine()
    path = model.parent / "x.engine"
    edgefer.build_engine(model, path, precision="fp32", target=edgefer.BuildTarget("tensorrt", builder=sizes))
    with load_engine(path) as classifier:
        for count in (1, 2, 4, 10, 11):
            batch = faces(count, count)
            np.testing.assert_allclose(classifier.logits_of_all(batch), expected(batch), rtol=1e-5)
            assert classifier.probabilities_of_all(batch).shape == (count, 3)
        with pytest.raises(EdgeferError, match="not uint8 0×4×4×1"):
            classifier.logits_of_all(faces(0))


def test_an_engine_for_a_dla_core_runs_on_that_core(machine, model):
    """Whoever loads it says the core: TensorRT would take core 0."""
    here = machine()
    here.tensorrt.module.Builder.num_DLA_cores = here.tensorrt.module.Runtime.num_DLA_cores = 2
    path = model.parent / "x.engine"
    options = {"dla": 1, "gpu_fallback": True, "max_batch": 1}
    result = edgefer.build_engine(
        model, path, precision="fp16", target=edgefer.BuildTarget("tensorrt", builder=options)
    )
    assert result.manifest.dla_core == 1
    with load_engine(path) as classifier:
        np.testing.assert_allclose(classifier.logits(faces(1)), expected(faces(1)), rtol=1e-5)
    assert set(here.tensorrt.cores) == {1}  # for the audit, for the golden answers, and now
    assert ("GPU", "Orin, SM87, and DLA core 1") in rows(inspect_file(path))
    here.tensorrt.module.Runtime.num_DLA_cores = 0
    with pytest.raises(EdgeferError, match=r"is for DLA core 1, and TensorRT 10\.3\.0 finds 0 of them"):
        load_engine(path)
    machine("10.16.1")
    with pytest.raises(EdgeferError) as error:
        load_engine(path)
    assert "--fp16 --dla 1 --gpu-fallback --target tensorrt" in error.value.hint


@pytest.mark.parametrize(
    ("sizes", "shape", "said"),
    [({"max_batch": 4}, (None, 4, 4, 1), "N×4×4×1, N 1…4"), ({"shapes": "faces:4x4x4x1"}, (4, 4, 4, 1), "4×4×4×1")],
)
def test_inspect_tells_the_batch_sizes(machine, model, sizes, shape, said):
    machine()
    path = model.parent / "x.engine"
    edgefer.build_engine(model, path, precision="fp32", target=edgefer.BuildTarget("tensorrt", builder=sizes))
    found = inspect_file(path)
    assert found.inputs[0].shape == shape
    assert ("input", f"'faces' uint8 {said}") in rows(found)
    assert found.inputs[0].limits == (4 if shape[0] else 1, 4)
    assert inspection_json(found)["inputs"][0]["batches"] == [4 if shape[0] else 1, 4]


def test_a_bench_tells_what_calls_took_on_the_gpu(machine, model, tmp_path):
    machine()
    images = np.concatenate([faces(20), faces(20, 1)])
    save_npz(tmp_path / "faces.npz", images, np.arange(40) % 3, CONTRACT.labels, ["test"] * 40)
    settings = edgefer.BenchSettings(batch=2, iterations=20)
    report = edgefer.benchmark(build(model).path, str(tmp_path / "faces.npz"), model, settings, telemetry=False)
    assert report.baseline.gpu_ms is None
    found = report.engines[0].gpu_ms
    assert (found.calls, found.replayed) == (20, 20)
    assert found.upload == pytest.approx(2 * 16 * 1e-6)
    assert found.compute == pytest.approx(COMPUTE_MS)
    assert found.download == pytest.approx(2 * 3 * 4 * 1e-6)


@pytest.mark.parametrize(("sample", "count"), [({"faces": 16}, 16), ({"per_class": 1}, 7)])
def test_a_calibrator_with_faces(machine, exported, faces, tmp_path, sample, count):
    here = machine()
    path = tmp_path / "x.engine"
    result = edgefer.build_engine(
        *(exported("mini_xception"), path),
        precision="int8",
        quantisation=edgefer.Quantisation(faces, **sample),
        target=edgefer.BuildTarget("tensorrt", builder={"calibrator": "entropy"}),
    )
    assert sum(fed.size for fed in here.tensorrt.fed) == count * 48 * 48
    assert result.manifest.calibration.n == count
    assert (set(result.manifest.calibration.per_class.values()) == {1}) == ("per_class" in sample)


def test_an_engine_without_a_manifest(machine, model):
    machine()
    path = build(model).path
    manifest_path(path).unlink()
    with pytest.raises(EdgeferError, match="has no manifest") as error:
        load_engine(path)
    assert "never travels alone" in error.value.hint


def test_an_engine_that_was_cut_short(machine, model):
    machine()
    path = build(model).path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EdgeferError, match="not the engine its manifest describes"):
        load_engine(path)


def test_an_engine_of_another_version_of_tensorrt(machine, model):
    machine("10.3.0")
    path = build(model).path
    machine("10.16.1")
    with pytest.raises(
        EdgeferError, match=r"was built with tensorrt 10\.3\.0, and 10\.16\.1 is installed here"
    ) as error:
        load_engine(path)
    again = "build it again here: `edgefer build-engine model.onnx --fp32 --target tensorrt -o x.engine`"
    assert again == error.value.hint


def test_an_engine_of_another_gpu(machine, model):
    machine()
    path = build(model).path
    machine(name="Thor", capability=(11, 0))
    with pytest.raises(EdgeferError, match="was built for Orin, SM87, and this GPU is Thor, SM110"):
        load_engine(path)


def test_golden_vectors_that_differ(machine, model):
    here = machine()
    path = build(model).path
    content = json.loads(manifest_path(path).read_text())
    content["golden"]["logits"][0][0] += 1e4
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(EdgeferError, match="does not answer here as when it was built"):
        load_engine(path)
    assert here.gpu.left() == {}  # what was opened for the question is closed


def test_a_contract_of_another_network(machine, model):
    here = machine()
    path = build(model).path
    content = json.loads(manifest_path(path).read_text())
    content["contract"]["height"] = 5
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(EdgeferError, match="its contract asks for"):
        load_engine(path)
    assert here.gpu.left() == {}


def test_memory_that_runs_out_while_loading(machine, model):
    here = machine()
    path = build(model).path
    here.gpu.total = SCRATCH // 2
    with pytest.raises(EdgeferError, match=r"could not make an execution context: .*OutOfMemory") as error:
        load_engine(path)
    assert "smaller --max-batch" in error.value.hint
    assert here.gpu.left() == {}


def test_no_cuda_package_is_said_before_anything_is_built(machine, model, tmp_path):
    machine(package="")
    with pytest.raises(EdgeferError, match="needs cuda-bindings or pycuda"):
        build(model)
    assert not (tmp_path / "x.engine").exists()


def test_an_engine_that_answers_something_else_than_its_file(machine, model, monkeypatch):
    machine()
    real = TensorRtSession.run
    monkeypatch.setattr(TensorRtSession, "run", lambda *a: {name: -value for name, value in real(*a).items()})
    with pytest.raises(EdgeferError, match="does not answer as its ONNX file does") as error:
        build(model)
    assert "the plan is kept as " in error.value.hint
    assert (model.parent / "x.engine.unchecked").is_file()
    assert not (model.parent / "x.engine").exists()


def test_an_audit_that_cannot_be_read_is_a_note(machine, model, monkeypatch, capsys):
    here = machine()
    monkeypatch.setattr(here.tensorrt.module.EngineInspector, "get_engine_information", lambda *_: '{"Layers": [{}]}')
    result = build(model)
    assert result.audit is None
    assert "the precision of its layers was not audited: what the engine inspector tells" in capsys.readouterr().err
    assert read_manifest(result.path).note == "precision of the layers not audited"
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.onnx", "x.engine", "x.engine.json"]
    with load_engine(result.path) as classifier:
        np.testing.assert_allclose(classifier.logits(faces(3)), expected(faces(3)), rtol=1e-5)


def test_a_plan_survives_what_comes_after_it(machine, model, monkeypatch):
    """Whatever fails once it is built, a bug of ours too."""
    machine()
    monkeypatch.setattr(tensorrt, "audit_engine", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        build(model)
    kept = (model.parent / "x.engine.unchecked").read_bytes()
    with TensorRtSession(kept) as session:
        np.testing.assert_allclose(session.run({"faces": faces(2)})["logits"], expected(faces(2)), rtol=1e-5)


@pytest.mark.parametrize(("weak", "flags", "typed"), [(True, {"FP16"}, False), (False, set(), True)])
def test_weak_typing_lets_flags_decide(machine, model, weak, flags, typed):
    here = machine()
    target = edgefer.BuildTarget(
        "tensorrt", builder={"max_batch": 2, "weak_typing": True} if weak else {"max_batch": 2}
    )
    edgefer.build_engine(model, model.parent / "x.engine", precision="fp16", target=target)
    assert here.tensorrt.seen._flags == flags
    assert here.tensorrt.seen._network._typed == typed


def test_a_file_that_is_typed_is_widened_for_weak_typing(machine, exported, faces, tmp_path):
    """What the hint says works with the file that failed: the one that the host wrote."""
    here = machine()
    file, settings = tmp_path / "jetson.onnx", edgefer.Quantisation(faces, faces=21)
    host = edgefer.BuildTarget("tensorrt", version="jetpack6")
    given = {"precision": "int8+fp16", "quantisation": settings}
    edgefer.build_engine(exported("lenet"), file, target=host, onnx_only=True, **given)
    here.tensorrt.say = "Error Code 9: Could not infer output types for operation: dequantize"
    device = edgefer.BuildTarget("tensorrt", builder={"max_batch": 2})
    with pytest.raises(EdgeferError, match="could not build the engine") as error:
        edgefer.build_engine(file, tmp_path / "x.engine", precision="int8+fp16", target=device)
    assert "--weak-typing" in error.value.hint
    here.tensorrt.say = None
    device = edgefer.BuildTarget("tensorrt", builder={"max_batch": 2, "weak_typing": True})
    made = edgefer.build_engine(file, tmp_path / "x.engine", precision="int8+fp16", target=device)
    assert here.tensorrt.seen._flags == {"FP16", "INT8"}
    stored = {tensor.data_type for tensor in here.tensorrt.seen._network._model.graph.initializer}
    assert TensorProto.FLOAT16 not in stored
    assert made.manifest.calibration.n == 21


def test_dla_is_asked_of_the_builder_and_not_of_the_version(machine, model):
    here = machine("10.16.1")
    options = {"dla": 0, "gpu_fallback": True, "max_batch": 1}
    target = edgefer.BuildTarget("tensorrt", builder=options)
    with pytest.raises(EdgeferError, match="--dla 0: this machine has 0 DLA cores"):
        edgefer.build_engine(model, model.parent / "x.engine", precision="fp16", target=target)
    here.tensorrt.module.Builder.num_DLA_cores = here.tensorrt.module.Runtime.num_DLA_cores = 1
    made = edgefer.build_engine(model, model.parent / "x.engine", precision="fp16", target=target)
    assert made.manifest.dla_core == 0


def test_two_engines_and_several_threads(machine, model):
    machine()
    paths = [build(model, "a.engine").path, build(model, "b.engine", max_batch=4).path]
    failures = []
    with load_engine(paths[0]) as first, load_engine(paths[1]) as second:

        def work(classifier, seed):
            try:
                for count in (1, 3, 4, 3):
                    batch = faces(count, seed)
                    np.testing.assert_allclose(classifier.logits(batch), expected(batch), rtol=1e-5)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=((first, second)[i % 2], i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    with pytest.raises(EdgeferError, match="used after it was closed"):
        first.logits(faces(1))


def test_the_program_on_the_page(machine, model, monkeypatch):
    """The first two blocks of docs/tensorrt-runtime.md are run; the third needs torch's CUDA."""
    machine()
    build(model, "face.engine")
    monkeypatch.chdir(model.parent)
    page = (FOLDER.parents[2] / "docs" / "tensorrt-runtime.md").read_text(encoding="utf-8")
    first, second, _ = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    inside = "".join(f"    {line}\n" for line in second.splitlines())
    names = {"faces": faces(3)}
    exec(first + inside, names)
    np.testing.assert_allclose(names["logits"], expected(faces(3)), rtol=1e-5)
    assert names["session"].timing.compute > 0


@pytest.fixture
def gpu(monkeypatch):
    """The script of `make test-gpu` over fakes, whose processes are calls."""
    monkeypatch.syspath_prepend(str(FOLDER.parents[2] / "benchmarks"))
    import gpu as script

    def called(command, log):
        done = CliRunner().invoke(script.main, command[2:])
        log.write(done.output)
        return done.exit_code

    small = replace(script.QUICK, precisions=("fp32", "int8+fp16"), seconds=0.02, batches=(1, 2))
    monkeypatch.setattr(script, "QUICK", small)
    monkeypatch.setattr(script, "in_a_process", called)
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    yield script
    for name in ("gpu", "common", "sources"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_the_script_of_make_test_gpu(machine, exported, gpu, tmp_path):
    """Builds, compares and times over the fakes; what it would print of them is not looked at."""
    here = machine()
    host = ["--prepare", str(tmp_path / "host"), "--for", "10.3", "--quick", str(exported("lenet"))]
    done = CliRunner().invoke(gpu.main, host)
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (tmp_path / "host").iterdir())
    assert files == ["faces.npz", "lenet.fp32.onnx", "lenet.int8+fp16.onnx", "lenet.npz"]
    device = [str(tmp_path / "host"), "--quick", "--output", str(tmp_path / "x.json")]
    done = CliRunner().invoke(gpu.main, device)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "x.json").read_text())
    assert result["machine"]["device"] == "Orin, SM87"
    rows = result["networks"]["lenet"]
    assert [row["precision"] for row in rows] == ["fp32", "int8+fp16", "int8+fp16 weak"]
    for row in rows:
        assert row["failed"] is None
        assert row["agreement"] > 0
        assert row["difference_from_float"] < 0.1
        assert set(row["timing"]) == {"1", "2"}
        assert row["timing"]["2"]["tuned_for_batch"] == 2
        assert row["timing"]["2"]["gpu_ms"]["compute"] == pytest.approx(COMPUTE_MS)
        assert row["timing"]["2"]["graph"] == "replayed"
        assert row["trtexec"] == "not run: there is no trtexec here"
    with tarfile.open(tmp_path / "x.tar.gz") as packed:
        inside = packed.getnames()
    assert "x/x.json" in inside
    assert "x/lenet.fp32.log" in inside
    assert not [name for name in inside if name.endswith((".npz", ".engine", ".onnx"))]
    here.tensorrt.say = "Could not find any implementation for node"
    done = CliRunner().invoke(gpu.main, [*device[:-1], str(tmp_path / "y.json")])
    assert done.exit_code == 1
    failed = json.loads((tmp_path / "y.json").read_text())["networks"]["lenet"]
    assert len(failed) == 3
    assert all("Could not find" in row["failed"] for row in failed)


def test_a_process_that_dies_is_a_row_and_no_end(machine, gpu, monkeypatch, tmp_path):
    machine()
    for name in ("a.fp32.onnx", "b.fp32.onnx"):
        (tmp_path / name).write_bytes(b"")
    died = [sys.executable, "-c", "import os; print('about to', flush=True); os.abort()"]

    def dies(command, log):
        return subprocess.run(died, stdout=log, stderr=log, check=False).returncode

    monkeypatch.setattr(gpu, "in_a_process", dies)
    found = gpu.whole_run(gpu.QUICK, tmp_path, {"name": "x"}, tmp_path / "r.json", quick=True)
    assert [row["failed"] for rows in found["networks"].values() for row in rows] == [
        "its process ended with -6: about to"
    ] * 2
