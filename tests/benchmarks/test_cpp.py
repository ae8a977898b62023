"""The benchmark of the C++ app: how runs are read, what its table says, and the script at its smallest."""

import json
import subprocess
import sys

import pytest

from edgefer.errors import EdgeferError

from .test_scripts import run

pytest.importorskip("cv2")


def saying(text, code=0):
    """A program that says ``text`` on stderr, holds 60 MB for a moment, and ends."""
    work = f"import sys, time; held = b'x' * 60_000_000; time.sleep(0.2); sys.stderr.write({text!r}); sys.exit({code})"
    return [sys.executable, "-c", work]


def test_a_runs_last_line_is_read_and_its_memory_is_its_own():
    import cpp

    held = b"x" * 200_000_000  # of this process; it must not count
    line = (
        "streaming\n1,200 frames shown in 7.9 s, 151.9 fps · frame to label 9.4 ms (p50), 12.0 ms (p95) · 1 face · "
        "1,234 of 2,434 frames dropped (1,234 before detect)\n"
    )
    done = cpp.run(saying(line))
    assert len(held) == 200_000_000
    assert (done.frames, done.ages_ms, done.dropped) == (1200, (9.4, 12.0), 1234)
    assert done.fps == 151.9
    assert 60 < done.rss_mb < 150
    assert 0 < done.cores < 2
    assert done.paced()["frame_to_label_p95_ms"] == 12.0
    short = cpp.run(saying("40 frames shown in 0.3 s, 130.4 fps · 1 face\n"))
    assert (short.fps, short.ages_ms, short.dropped) == (130.4, None, 0)


@pytest.mark.parametrize("command", [saying("error: no\n", 2), saying("nothing\n")])
def test_a_run_that_fails_is_an_error(command):
    import cpp

    with pytest.raises(EdgeferError, match="failed"):
        cpp.run(command)


def test_start_up_ends_with_the_first_event(tmp_path):
    import cpp

    work = "import time; time.sleep(0.2); print('event', flush=True); time.sleep(0.4)"
    taken = cpp.start_up_seconds([sys.executable, "-c", work], tmp_path, 1)
    assert taken["median"] > 0.2
    assert taken["each"] == [taken["median"]]
    with pytest.raises(EdgeferError, match="finds no face"):
        cpp.start_up_seconds([sys.executable, "-c", ""], tmp_path, 1)


def test_labels_are_compared_face_by_face(tmp_path):
    import cpp

    def write(name, faces):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"frame": f, "track": t, "label": x}) + "\n" for f, t, x in faces))
        return path

    one = write("one", [(0, 1, "happy"), (1, 1, "sad"), (1, 2, None), (2, 1, "sad")])
    other = write("other", [(0, 1, "happy"), (1, 1, "happy"), (1, 2, None), (3, 1, "sad")])
    assert cpp.labels_alike(one, other) == {"faces": 5, "in_both": 3, "share": pytest.approx(2 / 3)}
    assert cpp.labels_alike(one, write("none", []))["share"] is None


def test_a_program_that_is_not_there_is_an_error(tmp_path):
    import cpp

    with pytest.raises(EdgeferError, match="no edgefer_camera at"):
        cpp.found_program(tmp_path / "edgefer_camera")


def test_a_program_with_sanitizers_is_not_measured(tmp_path, monkeypatch):
    import cpp

    monkeypatch.setattr(cpp, "REPOSITORY", tmp_path)
    for preset in ("cpu", "asan"):  # built in this order, as make test-all does
        program = tmp_path / "cpp_demo" / "build" / preset / "app" / "edgefer_camera"
        program.parent.mkdir(parents=True)
        program.touch()
    assert cpp.found_program(None).parts[-3] == "cpu"


@pytest.fixture
def result():
    def row(fps, age, cores, rss):
        paced = {"frames": 600, "frame_to_label_p95_ms": age, "dropped": 1, "cores": cores}
        return {"fps": fps, "fps_rounds": [fps], "rss_mb": rss, "paced": paced}

    parts = {key: {"mean": 0.1} for key in ("read", "turn", "track", "cut", "smooth", "draw", "write", "wait")}
    return {
        "benchmark": "cpp",
        "quick": False,
        "quiet": True,
        "environment": {"cpu": "CPU", "cores": 2, "opencv": "4.14"},
        "program": {"packages": {"opencv": "4.6"}},
        "network": "net",
        "faces": "synthetic",
        "videos": {
            "4": {
                "labels_alike": {"faces": 4801, "in_both": 4800, "share": 0.999},
                "over_python": 1.6,
                "rows": {"C++": row(320, 5.0, 0.2, 110), "Python": row(200, 10.0, 0.5, 330)},
            }
        },
        "start_up_s": {"C++": {"median": 0.25}, "Python": {"median": 1.0}},
        "engine_ms": {"C++": {"p50": 0.1}, "Python": {"p50": 0.12}},
        "frame": {"4": {"overhead_ms": {"mean": 0.6, "p95": 0.7}, "parts_ms": {**parts, "draw": {"mean": 0.2}}}},
        "bytes": {"edgefer_camera": 883_000},
    }


def test_the_table_has_both_and_says_how_many_times_better(result):
    from cpp import page

    table = page(result)
    assert "| 4 faces, frames/s | 320 | 200 | 1.60× |" in table
    assert "| 4 faces at 30 fps: frame to label p95, ms | 5.0 | 10.0 | 2.00× |" in table
    assert "| 4 faces, largest resident set, MB | 110 | 330 | 3.00× |" in table
    assert "| start to first label, s | 0.25 | 1.00 | 4.00× |" in table
    assert "4,800 of 4,801 labelled faces stand in the events of both, 99.90 % with the same label." in table
    assert (
        "0.700 ms per frame outside reading, detection and inference, at 30 fps with the overlay (under 1 ms, " in table
    )
    assert "as demanded): 0.600 of work (p95 0.700: overlay 0.200, " in table
    assert ") and 0.100 of waits between the threads. Reading and decoding the video takes 0.100." in table
    assert "busy" not in table


def test_the_table_hides_neither_a_missed_demand_nor_a_busy_machine(result):
    from cpp import page

    result["quiet"] = False
    result["frame"]["4"]["parts_ms"]["wait"]["mean"] = 0.5
    result["videos"]["4"]["rows"]["Python"]["paced"]["frame_to_label_p95_ms"] = None
    table = page(result)
    assert "Measured on a busy machine" in table
    assert "the 1 ms demanded is missed" in table
    assert "| 4 faces at 30 fps: frame to label p95, ms | 5.0 | – | – |" in table


@pytest.mark.slow
def test_the_script_runs_at_its_smallest(tmp_path, shared):
    import cpp

    pytest.importorskip("torch")
    try:
        program = cpp.found_program(None)
    except EdgeferError as fault:
        pytest.skip(fault.message)
    if subprocess.run([program, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("edgefer_camera does not start here")
    output = tmp_path / "cpp.json"
    done = run("cpp.py", "--quick", "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert set(result["videos"]) == {"1", "4"}
    for video in result["videos"].values():
        assert video["labels_alike"]["in_both"] > 0
        assert video["labels_alike"]["share"] > 0.95
        assert video["rows"]["C++"]["rss_mb"] < video["rows"]["Python"]["rss_mb"]
    for frame in result["frame"].values():
        assert 0 < frame["shown"] <= frame["read"] == 40
