"""Who else computes is seen and named, and the rule says which figures that marks."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from edgefer.measure import disturbance
from edgefer.measure.disturbance import LoadMeter, OtherLoad, disturbances, hit_by, too_busy
from edgefer.measure.latency import Interleaved

QUIET = Interleaved({"base": np.full((60, 5), 2.0), "fast": np.full((60, 5), 1.0)}, ())


@pytest.mark.parametrize(
    ("cores", "of", "threads", "marked"),
    [
        (0.05, 2, 1, (False, False, False)),
        (0.2, 2, 1, (False, True, False)),  # the other core takes it, but for moments
        (1.0, 2, 1, (False, True, False)),
        (1.1, 2, 1, (True, True, False)),
        (1.4, 2, 1, (True, True, True)),
        (0.04, 2, 2, (False, False, False)),
        (0.2, 2, 2, (True, True, False)),
        (0.3, 2, 2, (True, True, True)),
        (0.2, 16, 1, (False, False, False)),
        (3.2, 16, 8, (False, True, False)),
        (0.2, 2, 8, (True, True, False)),  # more threads than cores are no more than all of them
    ],
)
def test_a_load_marks_the_tail_first_then_the_median_then_the_speedup(cores, of, threads, marked):
    found = disturbances(QUIET, OtherLoad(cores, of, {"chromium": cores}), threads)["fast"]
    assert tuple(map(bool, (found.median, found.tail, found.speedup))) == marked
    if found.tail:
        assert found.tail == (f"other processes used {cores:.2f} of {of} cores (chromium {cores:.2f})",)
        assert found.percentile("99") == found.tail
    assert found.percentile("50") == found.median


def test_a_hardware_thread_beside_a_busy_one_is_not_idle():
    assert not hit_by(OtherLoad(0.3, 4), 2).median
    assert hit_by(OtherLoad(0.3, 4, paired=True), 2).median
    assert not hit_by(OtherLoad(0.3, 4, paired=True), 1).median


def test_nothing_is_marked_where_nothing_is_known():
    assert hit_by(None, 1).reasons == ()
    assert disturbances(QUIET, None, 1)["fast"].reasons == ()


def test_a_slowed_clock_marks_times_and_a_drift_that_both_share_marks_no_ratio():
    slowed = disturbances(QUIET, None, 1, ("the clock fell",))
    assert slowed["fast"].median == slowed["base"].tail == ("the clock fell",)
    assert slowed["fast"].speedup == ()
    slowing = np.repeat(np.linspace(1, 1.5, 60)[:, None], 5, axis=1)
    both = disturbances(Interleaved({"base": 2 * slowing, "fast": slowing}, ()), None, 1)
    assert both["fast"].median == ("medians changed while they were timed: base +31%, fast +31%",)
    assert both["fast"].speedup == ()
    one = disturbances(Interleaved({"base": 2 * np.ones((60, 5)), "fast": slowing}, ()), None, 1)
    assert one["base"].reasons == ()
    assert one["fast"].speedup == ("speed-ups changed while they were timed: fast -24%",)


def test_other_processes_are_seen_and_named():
    spin = "import time\nuntil = time.monotonic() + 1.5\nwhile time.monotonic() < until: pass"
    # an orphan is nobody's child; it is started by a shell that ends at once
    subprocess.run(["/bin/sh", "-c", f'"{sys.executable}" -c "{spin}" &'], check=True)
    meter = LoadMeter()
    time.sleep(1.0)
    found = meter.read()
    if found is None:
        pytest.skip("this system has no /proc/stat")
    assert found.cores > 0.3
    assert any(name.startswith("python") and cores > 0.3 for name, cores in found.processes.items())
    assert too_busy(found)
    assert not too_busy(OtherLoad(0.05, 2))
    assert not too_busy(None)


def test_a_recorded_tree_names_the_busiest_and_the_hypervisor(tmp_path, monkeypatch):
    monkeypatch.setattr(disturbance.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    seconds = iter((10.0, 20.0))
    monkeypatch.setattr(disturbance.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(disturbance.os, "times", lambda: os.times_result((0.0, 0.0, 0.0, 0.0, 0.0)))

    def write(busy, stolen, **processes):
        (tmp_path / "proc").mkdir(exist_ok=True)
        lines = [f"cpu{i} {busy // 2} 0 0 0 0 0 0 {stolen // 2} 0 0" for i in range(2)]
        (tmp_path / "proc/stat").write_text("\n".join(lines))
        for pid, (name, parent, ticks) in processes.items():
            folder = tmp_path / "proc" / pid[1:]
            folder.mkdir(exist_ok=True)
            fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 6, "77"]
            (folder / "stat").write_text(f"{pid[1:]} ({name}) {' '.join(fields)}")

    own = f"p{os.getpid()}"
    write(0, 0, p7=("web) browser", 1, 100), p8=("our child", os.getpid(), 0), **{own: ("we", 1, 0)})
    meter = LoadMeter(tmp_path)
    write(500, 100, p7=("web) browser", 1, 400), p8=("our child", os.getpid(), 100), **{own: ("we", 1, 0)})
    found = meter.read()
    assert found.cores == pytest.approx(0.5), "6 s in 10 s, without the second of the child"
    assert found.processes == {"web) browser": 0.3, "hypervisor": 0.1}
