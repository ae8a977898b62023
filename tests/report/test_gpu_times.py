"""What calls took on a GPU: of the timed calls alone, and of nothing that does not time them."""

import itertools
import json
from types import SimpleNamespace

import pytest

from edgefer.engines.session import CallTiming
from edgefer.measure.latency import GpuTimes, Watched, gpu_times, interleave
from edgefer.report.markdown import markdown
from edgefer.report.page import page
from edgefer.report.terminal import detail_lines


class Counting:
    """Its n-th call took n ms there, n/10 back and, every second time, was a graph's."""

    def __init__(self):
        self.session = SimpleNamespace(timing=None)
        self.numbers = itertools.count(1)

    def __call__(self):
        number = next(self.numbers)
        self.session.timing = CallTiming(float(number), 0.25, number / 10, graph=number % 2 == 0)


def test_only_timed_calls_count():
    call = Counting()
    run = Watched(call, call.session)
    for _ in range(7):  # a warm-up
        run()
    for _ in range(10 * (1 + 2)):  # rounds of one call that is not timed and two that are
        run()
    timed = [8 + turn * 3 + place for turn in range(10) for place in (1, 2)]
    middle = (timed[9] + timed[10]) / 2
    assert run.times(10, 2) == GpuTimes(middle, 0.25, pytest.approx(middle / 10), 20, 10)
    assert run.times(9, 2) is None, "18 calls carry no median"


def test_the_rounds_that_are_timed_are_those_that_are_told():
    call = Counting()
    runners = {"engine": Watched(call, call.session), "other": lambda: None}
    timing = interleave(runners, seconds=1e-6, warm_up_seconds=0.01)
    found = gpu_times(runners, timing)
    assert list(found) == ["engine"]
    last = next(call.numbers) - 1
    assert found["engine"].calls == 50
    assert last - 59 < found["engine"].upload < last, "of the last ten rounds of six"


def test_a_report_tells_them_where_there_are_some(invented):
    report = invented()
    assert all(row["gpu_ms"] is None for row in report.to_json()["details"]["rows"])
    texts = [page(report), markdown(report), "\n".join(detail_lines(report))]
    assert not any("the GPU" in text for text in texts)
    report = invented(gpu_ms={"onnxruntime INT8": GpuTimes(0.0123, 0.25, 0.0345, 400, 400)})
    told = json.loads(json.dumps(report.to_json()))["details"]["rows"]
    assert told[0]["gpu_ms"] is None
    assert told[1]["gpu_ms"] == {"upload": 0.0123, "compute": 0.25, "download": 0.0345, "calls": 400, "replayed": 400}
    line = "on the GPU: 0.0123 ms to it, 0.250 ms computing, 0.0345 ms back (medians of 400 calls, 400 replayed"
    assert line in "\n".join(detail_lines(report))
    assert f"- onnxruntime INT8: {line}" in markdown(report)
    assert ">0.0345<" in page(report)


def test_those_of_a_disturbed_run_are_marked(invented):
    times = GpuTimes(0.0123, 0.25, 0.0345, 400, 400)
    report = invented(disturbed=("throttled",), gpu_ms={"onnxruntime INT8": times})
    line = "on the GPU: ~0.0123 ms to it, ~0.250 ms computing, ~0.0345 ms back"
    assert line in markdown(report)
    assert line in "\n".join(detail_lines(report))
    assert 'class="disturbed" title="throttled">0.0123<' in page(report)
