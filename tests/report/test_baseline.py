"""Where a baseline in PyTorch runs and in which forms, and what that means for the report and the gate."""

import json

import pytest
import torch

from edgefer.engines.load import TorchBaseline
from edgefer.errors import EdgeferError
from edgefer.measure.telemetry import Recording
from edgefer.models import device
from edgefer.report import timing
from edgefer.report.gate import Limits, run_gate
from edgefer.report.report import Report
from edgefer.report.terminal import machine_text
from tests.report import conftest

NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A network of one's own for the fakes' faces, as a user names it."""
    (tmp_path / "own_net.py").write_text(NETWORK, encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_net:net"


def benchmark(engine, faces, compared, **settings):
    return conftest.benchmark(engine, faces, compared, **{"iterations": 50, **settings})


@pytest.fixture
def on_gpu(fake_classifier):
    """A fake engine that says it runs on the first GPU."""
    engine = fake_classifier("tensorrt")
    engine.session.gpu, engine.session.timing = 0, None
    return engine


def test_forms_are_rows_after_the_engines_and_no_gate_holds_them_to_limits(fake_classifier, faces, network):
    report = benchmark(fake_classifier(), faces, network, pytorch=("channels-last", "fp16", "graph"))
    names = [row.name for row in report.rows]
    assert names == ["own_net:net", "fake", "own_net:net+channels-last", "own_net:net+fp16"]
    assert [row.how for row in report.rows[2:]] == ["PyTorch FP32", "PyTorch FP16"]
    assert report.rows[3].paired.agreement > 0.9
    assert report.settings.device == "cpu"
    assert any("the row 'graph' was left out: CUDA graphs are a GPU's" in warning for warning in report.warnings)
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again.settings == report.settings
    held = run_gate(again, Limits(min_top1=0.0))
    assert {check.engine for check in held} == {"fake"}
    held = run_gate(again, Limits(min_top1=0.0), engines=("own_net:net+fp16",))
    assert {check.engine for check in held} == {"own_net:net+fp16"}, "unless it is named"


def test_an_engines_gpu_is_the_baselines_too_if_pytorch_can_use_it(on_gpu, faces, network, capsys, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    report = benchmark(on_gpu, faces, network)
    assert (report.settings.device, [row.device for row in report.rows]) == ("cpu", [None, "cuda:0"])
    assert report.rows[1].how == "TensorRT FP32 on cuda:0"
    (said,) = (warning for warning in report.warnings if "ran on the CPU, and an engine on a GPU" in warning)
    assert "was built without it" in said
    assert "note: the baseline runs on the CPU" in capsys.readouterr().err
    assert machine_text(report).startswith(report.environment["gpu"] or "unknown GPU")

    asked = []

    def here(name):
        asked.append(name)
        return torch.device("cuda:0" if len(asked) == 1 else "cpu")  # as if it were there, then run on the CPU

    monkeypatch.setattr(device, "torch_device", here)
    monkeypatch.setattr("edgefer.engines.pytorch.torch_device", here)
    report = benchmark(on_gpu, faces, network)
    assert asked[:2] == ["cuda:0", "cuda:0"], "where it runs, and then in the session"
    assert [row.name for row in report.rows] == ["own_net:net", "fake", "own_net:net+fp16"]
    assert any("the row 'graph' was left out" in warning for warning in report.warnings), "it was tried unasked"


def test_a_speedup_between_devices_is_said_to_be_one(on_gpu, fake_classifier, faces, network):
    report = benchmark([on_gpu, fake_classifier()], faces, network, device="cpu")
    also = benchmark(on_gpu, faces, TorchBaseline(network, device="cpu"))
    assert also.settings.device == "cpu", "a baseline may say it itself"
    said = [warning for warning in report.warnings if "compares devices too" in warning]
    assert said == ["the baseline ran on the CPU and fake on cuda:0: their speed-up compares devices too"]
    assert not any("compares devices" in warning for warning in benchmark(fake_classifier(), faces, network).warnings)


def test_a_device_that_is_asked_for_is_no_wish(fake_classifier, faces, network, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(EdgeferError, match="the device cuda needs a PyTorch with CUDA"):
        benchmark(fake_classifier(), faces, network, device="cuda")
    for settings in ({"device": "cpu"}, {"pytorch": ("fp16",)}):
        (name,) = settings
        with pytest.raises(EdgeferError, match=f"--{name} has no effect with a baseline that is no network"):
            benchmark(fake_classifier(), faces, fake_classifier("pytorch"), **settings)
    with pytest.raises(EdgeferError, match="PyTorch has no form 'int4'"):
        benchmark(fake_classifier(), faces, network, pytorch=("int4",))


def test_a_gpu_below_its_clock_is_a_warning_where_it_was_used(on_gpu, fake_classifier, faces, monkeypatch):
    watched = []

    class Slow:
        """A fake of the watch: a GPU at a third of its clock."""

        def __init__(self, gpu):
            watched.append(gpu)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def recording(self):
            readings = ({"t": i, "throttling": [], "gpu_mhz": 306.0, "gpu_max_mhz": 1020.0} for i in range(9))
            return Recording(tuple(readings), 0.2)

    monkeypatch.setattr(timing, "Recorder", Slow)
    monkeypatch.setattr(Recording, "between", lambda self, start, end: self)
    report = benchmark(on_gpu, faces, fake_classifier("pytorch"), telemetry=True)
    assert any(warning.startswith("the GPU ran at 306 MHz (median)") for warning in report.warnings)
    report = benchmark(fake_classifier(), faces, fake_classifier("pytorch"), telemetry=True)
    assert not any("the GPU" in warning for warning in report.warnings)
    assert watched == [0, None]
