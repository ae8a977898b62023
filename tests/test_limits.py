"""Numbers that would exhaust a machine are refused, with their bounds and the reason: in Python, and when typed."""

import numpy as np
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.engines.session import open_session
from edgefer.errors import EdgeferError
from edgefer.limits import bounds, check_whole
from edgefer.optimize.build import retune
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.report.timing import BenchSettings
from edgefer.training.config import TrainConfig


def test_what_is_within_the_bounds_passes():
    for kind in ("threads", "processes", "batch", "epochs", "seed", "count"):
        for value in (bounds(kind).smallest, bounds(kind).largest, np.int32(3), None):
            check_whole(kind, value, kind)


@pytest.mark.parametrize("value", [True, 1.0, "1", -(10**5000), 10**5000, np.float64(2)], ids=range(6))
def test_what_is_no_number_of_the_kind_is_refused(value):
    with pytest.raises(EdgeferError, match="--batch is .* not a whole number from 1 to 16,384") as caught:
        check_whole("--batch", value, "batch")
    assert len(caught.value.message) < 200


PYTHON = {
    "threads": [
        lambda: BenchSettings(threads=100_000),
        lambda: TrainConfig(threads=100_000),
        lambda: Quantisation().check(BuildTarget(threads=100_000), "fp32"),
        lambda: open_session("onnxruntime", b"", 100_000),
        lambda: retune("none.onnx", threads=100_000),
    ],
    "batch": [
        lambda: BenchSettings(batch=10**20),
        lambda: TrainConfig(batch_size=10**20),
        lambda: Quantisation().check(BuildTarget(batch=10**20), "fp32"),
        lambda: retune("none.onnx", batch=10**20),
    ],
    "epochs": [lambda: TrainConfig(epochs=10**20)],
    "seed": [lambda: TrainConfig(seed=2**63), lambda: BenchSettings(seed=2**64), lambda: BenchSettings(seed=-1)],
}


@pytest.mark.parametrize(("kind", "call"), [(kind, call) for kind, calls in PYTHON.items() for call in calls])
def test_python_refuses_what_is_out_of_bounds(kind, call):
    with pytest.raises(EdgeferError, match="not a whole number from [01] to [0-9,]+") as caught:
        call()
    assert bounds(kind).reason in caught.value.message or "is -1" in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        "bench e.onnx --data d --baseline lenet --threads 100000",
        "bench e.onnx --data d --baseline lenet --batch 100000000000000000000",
        "bench e.onnx --data d --baseline lenet --processes 100000",
        "sweep e.onnx --data d --batches 1,100000000000000000000",
        "sweep e.onnx --data d --concurrency 100000",
        "train --model lenet --data d -o x.safetensors --epochs 100000000000000000000",
        f"train --model lenet --data d -o x.safetensors --seed {'9' * 5000}",
        "predict x.png --threads 100000",
        "web --threads 100000",
    ],
)
def test_the_command_line_refuses_it_before_anything_is_read(line):
    with pytest.raises(EdgeferError, match="not a whole number from [01] to [0-9,]+: [a-z]"):
        CliRunner().invoke(cli, line.split(), catch_exceptions=False)


def test_digits_are_ascii():
    done = CliRunner().invoke(cli, ["predict", "x.png", "--threads", "３"])
    assert done.exit_code == 2
    assert "'３' is no whole number" in done.output
