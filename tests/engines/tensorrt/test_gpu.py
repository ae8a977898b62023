"""On a real GPU with TensorRT: `make test-gpu`. Everywhere else these are skipped, and nothing is said to have run."""

import importlib.util
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.classifier import relative_difference
from edgefer.engines.load import load_engine
from edgefer.engines.tensorrt.compat import import_tensorrt
from edgefer.engines.tensorrt.cuda import find_gpu, open_cuda, survey
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.graph.onnx_file import load_model, metadata_of
from edgefer.optimize.reference import Reference, reference_faces
from edgefer.optimize.tensorrt_file import ORIGIN_KEY

MODEL = os.environ.get("EDGEFER_GPU_MODEL", "")
"""A folder of `benchmarks/gpu.py --prepare`, for a device without torch and onnxruntime, or an exported network."""


def lacking():
    """Why these tests cannot run here; empty where they can."""
    found = survey()
    if found.problem is not None:
        return f"there is no GPU: {found.problem.message}"
    if importlib.util.find_spec("tensorrt") is None:
        return "tensorrt is not installed"
    if not Path(MODEL or "-").is_dir() and importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed, which calibrates: MODELS=FOLDER of benchmarks/gpu.py --prepare FOLDER"
    if not MODEL and importlib.util.find_spec("torch") is None:
        return "torch is not installed, which exports the network: name an exported one, MODELS=model.onnx"
    return ""


pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "it can run")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """``prepared(precision)`` is the file for TensorRT, written here or by --prepare."""
    import edgefer

    if MODEL and Path(MODEL).is_dir():
        first = sorted(path.name.partition(".")[0] for path in Path(MODEL).glob("*.fp32.onnx"))[0]
        return lambda precision: Path(MODEL) / f"{first}.{precision}.onnx"
    folder, version = tmp_path_factory.mktemp("gpu"), import_tensorrt(False)[1].name
    images, labels = synthetic_faces(2000, seed=3)
    save_npz(folder / "faces.npz", images, labels, FER2013, ["train"] * 2000)
    calib = edgefer.Quantisation(open_dataset(str(folder / "faces.npz")), faces=50)
    source = Path(MODEL)
    if not MODEL:
        import torch

        torch.manual_seed(0)
        source = edgefer.export("mini_xception", folder / "model.onnx", random_weights=True).path

    def make(precision):
        path = folder / f"model.{precision}.onnx"
        if not path.exists():
            edgefer.build_engine(
                *(source, path),
                precision=precision,
                quantisation=calib if precision.startswith("int8") else None,
                target=edgefer.BuildTarget("tensorrt", version=version),
                onnx_only=True,
            )
        return path

    return make


@pytest.fixture(scope="module")
def engine(prepared, tmp_path_factory):
    """``engine(precision)`` is the path of an engine, built once."""
    import edgefer

    made, folder = {}, tmp_path_factory.mktemp("engines")

    def make(precision):
        if precision not in made:
            made[precision] = folder / f"{precision}.engine"
            target = edgefer.BuildTarget("tensorrt", builder={"max_batch": 8})
            edgefer.build_engine(prepared(precision), made[precision], precision=precision, target=target)
        return made[precision]

    return make


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_it_answers_as_its_file_does_in_float32(prepared, engine, precision):
    """What is allowed is what rounding explains of this very file, measured where it was written."""
    file = prepared(precision)
    content = json.loads(metadata_of(load_model(file)[0])[ORIGIN_KEY])
    wanted = Reference.from_dict(content["reference"])
    with load_engine(engine(precision)) as classifier:
        faces = reference_faces(classifier.contract)
        found = classifier.logits_of_all(faces)
        assert wanted.fault_in(found) is None
        for count in (1, 8, 3, 8, 8, 1, 1):
            apart = relative_difference(classifier.logits(faces[:count]), found[:count])
            assert apart <= wanted.tolerance(precision)
        timing = classifier.session.timing
        assert min(timing.upload, timing.compute, timing.download) > 0


def test_a_replayed_graph_answers_as_the_first_call(engine):
    with load_engine(engine("fp16")) as classifier:
        session = classifier.session
        if session.without_graphs is not None:
            pytest.skip(session.without_graphs)
        faces = golden_faces(classifier.contract, 4)
        first = classifier.logits(faces)
        for _ in range(3):
            np.testing.assert_array_equal(classifier.logits(faces), first)
        assert session.timing.graph
        assert session.without_graphs is None
        other = classifier.logits(faces[::-1])
        assert relative_difference(other, first[::-1]) < 1e-2


def test_what_was_taken_is_given_back(engine):
    cuda, content = open_cuda(), engine("fp32").read_bytes()

    def free():
        with cuda.current():
            return cuda.free_bytes()

    with TensorRtSession(content) as session:
        faces = np.zeros((8, *session.inputs[0].shape[1:]), np.uint8)
        session.run({"faces": faces})

    def lost():
        before = free()
        for _ in range(20):
            with TensorRtSession(content) as session:
                for _ in range(3):
                    session.run({"faces": faces})
        return before - free()

    # an integrated GPU shares its memory with all that runs, which takes some now and then; a leak is there every time
    tries = 5 if find_gpu().integrated else 1
    assert any(lost() < 16 << 20 for _ in range(tries))


def test_several_threads_and_two_engines(engine):
    failures = []
    with load_engine(engine("fp16")) as first, load_engine(engine("fp32")) as second:
        faces = golden_faces(first.contract, 4)
        wanted = {id(c): c.logits(faces) for c in (first, second)}

        def work(classifier):
            try:
                for count in (1, 4, 2, 4) * 20:
                    got = classifier.logits(faces[:count])
                    assert relative_difference(got, wanted[id(classifier)][:count]) < 1e-2
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=((first, second)[i % 2],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_in_torchs_memory_and_on_its_stream(engine):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    with load_engine(engine("fp16")) as classifier:
        faces = golden_faces(classifier.contract, 4)
        wanted = classifier.logits(faces)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            inputs = torch.from_numpy(faces).cuda()
            logits = torch.empty((4, wanted.shape[1]), device="cuda")
            pointers = {"faces": inputs.data_ptr(), "logits": logits.data_ptr()}
            classifier.session.run_device(pointers, 4, stream.cuda_stream)
            graph = torch.cuda.CUDAGraph()
        stream.synchronize()
        assert relative_difference(logits.cpu().numpy(), wanted) < 1e-2
        with torch.cuda.graph(graph, stream=stream):
            classifier.session.run_device(pointers, 4, stream.cuda_stream)
        logits.zero_()
        inputs.copy_(torch.from_numpy(np.ascontiguousarray(faces[::-1])))
        torch.cuda.synchronize()
        graph.replay()
        torch.cuda.synchronize()
        assert relative_difference(logits.cpu().numpy(), wanted[::-1]) < 1e-2
        with pytest.raises(EdgeferError, match="cuMemGetAddressRange"):
            host = np.zeros(1 << 20, np.uint8)
            classifier.session.run_device({**pointers, "faces": (host.ctypes.data + 255) & ~255}, 4, 0)


def test_in_pycudas_memory_and_on_its_stream(engine):
    driver = pytest.importorskip("pycuda.driver", reason="pycuda is not installed")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    with load_engine(engine("fp16")) as classifier:
        faces = golden_faces(classifier.contract, 4)
        wanted = classifier.logits(faces)
        context.push()
        try:
            stream, got = driver.Stream(), np.empty_like(wanted)
            inputs, logits = driver.to_device(faces), driver.mem_alloc(wanted.nbytes)
            pointers = {"faces": int(inputs), "logits": int(logits)}
            classifier.session.run_device(pointers, 4, stream.handle)
            stream.synchronize()
            driver.memcpy_dtoh(got, logits)
            inputs.free()
            logits.free()
            del stream
        finally:
            driver.Context.pop()
        assert relative_difference(got, wanted) < 1e-2


def test_an_engine_that_is_cut_short(engine):
    with pytest.raises(EdgeferError, match="cannot load the engine"):
        TensorRtSession(engine("fp32").read_bytes()[:-64])


def test_a_closed_engine(engine):
    classifier = load_engine(engine("fp32"))
    session = classifier.session
    classifier.close()
    with pytest.raises(EdgeferError, match="after it was closed"):
        session.run({"faces": golden_faces(classifier.contract, 1)})
