"""PyTorch on any device: what a GPU's session does, step by step, on the CPU; and devices that are not there."""

import contextlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgefer.contract import INPUT_NAME, OUTPUT_NAME
from edgefer.engines import pytorch
from edgefer.engines.classifier import relative_difference
from edgefer.engines.load import FORMS, in_form, load_baseline, parse_forms
from edgefer.engines.pytorch import TorchSession, _StagedCalls
from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract, device, names
from edgefer.models.deployable import Deployable
from edgefer.models.device import torch_device
from tests.models.zoo import BIG
from tests.one_device import OneDevice

CONTRACT = default_contract("lenet", tuple("abcdefg"))


def faces(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *CONTRACT.face_shape), dtype=np.uint8)


@pytest.fixture
def network():
    torch.manual_seed(3)
    return create("lenet", 7).eval()


class FakeEvent:
    """A fake of torch.cuda.Event: one that says in which order they were recorded."""

    clock = itertools.count()

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = next(FakeEvent.clock)

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return float(end.at - self.at)


class FakeStream:
    """A fake of torch.cuda.Stream: it has nothing to wait for."""

    def __init__(self, device=None):
        pass

    def wait_stream(self, other):
        assert isinstance(other, FakeStream)


@pytest.fixture
def cuda(monkeypatch):
    """A fake of torch.cuda, whose graphs replay the calls that were made while they were captured."""
    captured = []

    class FakeGraph:
        """A fake of torch.cuda.CUDAGraph."""

        def replay(self):
            self.again()

    @contextlib.contextmanager
    def capturing(graph, capture_error_mode):
        assert capture_error_mode == "thread_local"
        captured.append(graph)
        yield

    for name, fake in {
        "Event": FakeEvent,
        "Stream": FakeStream,
        "current_stream": FakeStream,
        "CUDAGraph": FakeGraph,
        "graph": capturing,
        "stream": lambda _: contextlib.nullcontext(),
        "device": lambda _: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return captured


def test_staged_calls_answer_as_plain_ones_and_keep_nothing_of_the_last(network, cuda):
    module = Deployable(network, CONTRACT).eval()
    staged = _StagedCalls(module, torch.device("cpu"), graph=False)
    plain = TorchSession(network, CONTRACT)
    first, timing = staged.call(faces(4))
    kept = first.copy()
    for batch in (faces(4, seed=1), faces(1, seed=2)[:, ::-1], faces(4, seed=3)):
        found, _ = staged.call(batch)
        np.testing.assert_array_equal(found, plain.run({INPUT_NAME: batch})[OUTPUT_NAME])
    np.testing.assert_array_equal(first, kept, "the caller owns what is returned")
    assert (timing.upload, timing.compute, timing.download, timing.graph) == (1, 1, 1, False)
    assert plain.timing is None, "the CPU's calls are timed by their caller"
    assert plain.gpu is None


def test_a_size_of_batches_is_captured_once_and_replayed(network, cuda):
    calls = []
    module = Deployable(network, CONTRACT).eval()

    def answer(batch):
        calls.append(len(batch))
        return module(batch)

    staged = _StagedCalls(answer, torch.device("cpu"), graph=True)
    for batch in (faces(2), faces(2, seed=1), faces(3), faces(2, seed=2)):
        staged._sizes.get(len(batch)) or staged._made(batch.shape)
        slot = staged._sizes[len(batch)]
        slot.graph.again = lambda slot=slot: slot.logits.copy_(module(slot.faces))
        found, timing = staged.call(batch)
        with torch.no_grad():
            np.testing.assert_array_equal(found, module(torch.from_numpy(batch)).numpy())
        assert timing.graph
    assert len(cuda) == 2
    assert calls == [2] * 4 + [3] * 4, "three to warm up and one that is captured, for each size"


def test_a_session_on_a_gpu_stages_and_says_when_memory_ran_out(network, cuda, monkeypatch):
    monkeypatch.setattr(pytorch, "torch_device", lambda name: torch.device("cuda", 1) if name == "cuda:1" else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(Deployable, "to", lambda self, device: self)
    session = TorchSession(network, CONTRACT, device="cuda:1")
    assert (session.gpu, session.precision) == (1, "tf32")
    assert session.version == f"{torch.__version__}, cuda:1"
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert TorchSession(network, CONTRACT, device="cuda:1").precision == "fp32"
    assert TorchSession(network, CONTRACT, device="cuda:1", form="fp16").precision == "fp16"
    session._staged = _StagedCalls(session._answer, torch.device("cpu"), graph=False)
    session.run({INPUT_NAME: faces(2)})
    assert session.timing.compute == 1

    def full(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    session._staged._answer = full
    with pytest.raises(EdgeferError, match=r"the memory of cuda:1 ran out with 2 faces per call: CUDA out of") as error:
        session.run({INPUT_NAME: faces(2)})
    assert "--batch" in error.value.hint
    session.close()
    with pytest.raises(EdgeferError, match="after it was closed"):
        session.run({INPUT_NAME: faces(2)})


@pytest.mark.parametrize("form", ["fp16", "channels-last", "fp16+channels-last"])
def test_forms_answer_alike_on_a_cpu(network, form):
    wanted = TorchSession(network, CONTRACT).run({INPUT_NAME: faces(3)})[OUTPUT_NAME]
    session = TorchSession(network, CONTRACT, form=form)
    found = session.run({INPUT_NAME: faces(3)})[OUTPUT_NAME]
    assert found.dtype == np.float32
    assert relative_difference(found, wanted) < (1e-2 if "fp16" in form else 1e-5)
    assert (relative_difference(found, wanted) > 0) == ("fp16" in form), "half precision is really used"


def test_what_compilers_refuse_is_said_before_anything_is_timed(network, monkeypatch):
    def refused(module, dynamic):
        assert dynamic is False

        def call(_):
            raise RuntimeError("Failed to find C++ compiler.\nlong trace")

        return call

    monkeypatch.setattr(torch, "compile", refused)
    with pytest.raises(EdgeferError, match=r"cannot run compile here: Failed to find C\+\+ compiler\.\n") as error:
        TorchSession(network, CONTRACT, form="compile")
    assert "Triton" in error.value.hint
    with pytest.raises(EdgeferError, match="CUDA graphs are a GPU's"):
        TorchSession(network, CONTRACT, form="graph")


@pytest.mark.slow
def test_a_compiled_network_answers_alike(network):
    wanted = TorchSession(network, CONTRACT).run({INPUT_NAME: faces(3)})[OUTPUT_NAME]
    found = TorchSession(network, CONTRACT, form="compile").run({INPUT_NAME: faces(3)})[OUTPUT_NAME]
    assert relative_difference(found, wanted) < 1e-4


def test_lists_of_forms():
    assert parse_forms("all") == tuple(FORMS)
    assert parse_forms("none") == ()
    assert parse_forms("graph+fp16, compile,fp16+graph") == ("fp16+graph", "compile"), "one name, whatever the order"
    with pytest.raises(EdgeferError, match="PyTorch has no form 'fp8'"):
        parse_forms("fp16,fp8")


def test_a_form_is_named_in_its_row():
    with load_baseline("lenet") as plain, in_form(plain, "channels-last") as found:
        assert (found.name, found.precision) == ("lenet+channels-last", "fp32")
        assert found.runtime_version == f"{torch.__version__}, channels-last", "a cache tells them apart"
        assert relative_difference(found.logits(faces(2)), plain.logits(faces(2))) < 1e-5


@pytest.mark.parametrize("name", [name for name in names() if name not in BIG or name == "ddamfn"])
def test_every_network_runs_whole_on_one_device(name):
    contract = replace(default_contract(name, tuple("abcdefg")), test_time_flip=True)
    module = Deployable(create(name, 7), contract).eval().to("meta")
    with OneDevice(), torch.inference_mode():
        out = module(torch.empty((2, *contract.face_shape), dtype=torch.uint8, device="meta"))
    assert (out.device.type, out.shape) == ("meta", (2, 7))


def with_gpus(monkeypatch, *gpus, cuda="13.0", works=True):
    """A fake of torch.cuda with these GPUs."""
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: gpus[getattr(which, "index", which)])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90", "sm_120"])

    def ones(count, device):
        if not works:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
        return torch.zeros(1)

    monkeypatch.setattr(device.torch, "ones", ones)


def test_a_pytorch_without_cuda_says_the_line_to_type(monkeypatch):
    with_gpus(monkeypatch, cuda=None)
    with pytest.raises(EdgeferError, match=r"cuda:1 needs a PyTorch with CUDA, and .* was built without it") as error:
        torch_device("cuda:1")
    assert error.value.hint.startswith("pip install --force-reinstall torch")
    with pytest.raises(EdgeferError, match="there is no device 'gpu'"):
        torch_device("gpu")


def test_no_gpu_says_why_and_what_hides_it(monkeypatch):
    with_gpus(monkeypatch)

    def init():
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = r"PyTorch finds no GPU for the device cuda: No CUDA GPUs are available \(CUDA_VISIBLE_DEVICES is ''\)"
    with pytest.raises(EdgeferError, match=said):
        torch_device("cuda")


def test_of_two_gpus_the_named_one_is_taken(monkeypatch):
    with_gpus(monkeypatch, "NVIDIA A", "NVIDIA B")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert torch_device("cuda") == torch.device("cuda", 0)
    assert torch_device("cuda:1") == torch.device("cuda", 1)
    with_gpus(monkeypatch, "NVIDIA B")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(EdgeferError) as error:
        torch_device("cuda:1")
    assert error.value.message == "there is no GPU cuda:1: PyTorch finds cuda:0 NVIDIA B (CUDA_VISIBLE_DEVICES is '1')"


def test_a_gpu_that_pytorch_was_not_built_for_is_named(monkeypatch):
    with_gpus(monkeypatch, "Tesla K80", works=False)
    with pytest.raises(EdgeferError, match=r"cannot compute on cuda:0 \(Tesla K80\): CUDA error: no kernel") as error:
        torch_device("cuda:0")
    assert "sm_90, sm_120" in error.value.hint
