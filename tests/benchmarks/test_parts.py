"""What the scripts are made of."""

import json

import numpy as np
import pytest

from edgefer.errors import EdgeferError

FIRST = "before\n<!-- cpu:begin -->\nold\n<!-- cpu:end -->\nafter\n"


def result(quiet=True):
    def row(ms, batch, over, interval):
        return {
            "p50_ms": ms,
            "images_per_s": 1000 * batch / ms,
            "over_pytorch": {"value": 8 * over, "ci95": [8 * x for x in interval]},
            "over_onnxruntime": {"value": over, "ci95": interval},
        }

    def timing(batch, threads, auto):
        rows = {
            "PyTorch eager": row(8.0 * batch, batch, 0.125, [0.12, 0.13]),
            "onnxruntime FP32": row(1.0 * batch, batch, 1.0, [1.0, 1.0]),
            "openvino INT8 (x)": row(0.5 * batch, batch, 2.0, [1.9, 2.1]),
        }
        return {"batch": batch, "threads": threads, "auto": auto, "rows": rows}

    accuracy = {"top1": 0.65, "drop_pp": 0.25, "ci95_pp": [-0.1, 0.6], "agreement": 0.9812}
    itself = {"top1": 0.65, "drop_pp": 0.0, "ci95_pp": [-0.1, 0.1], "agreement": 1.0}
    return {
        "benchmark": "cpu",
        "quick": False,
        "quiet": quiet,
        "data": "FER2013",
        "environment": {"cpu": "A CPU", "cores": 2, "os": "An OS", "packages": {"torch": "2.0"}},
        "networks": {
            "net": {
                "weights": "shipped",
                "rows": [
                    {"label": "PyTorch eager", "bytes": 4_000_000, "accuracy": itself},
                    {"label": "onnxruntime FP32", "bytes": 4_000_000, "accuracy": itself},
                    {"label": "openvino INT8 (x)", "bytes": 1_000_000, "accuracy": accuracy},
                ],
                "runs": [timing(1, 1, "openvino INT8 (x)"), timing(32, 2, "onnxruntime FP32")],
            }
        },
    }


def test_cpu_table_shows_what_was_measured():
    import cpu

    lines = cpu.page(result()).splitlines()
    assert "| PyTorch eager | 8.00 | 125 | 1 | 0.12 [0.12, 0.13] | 4.00 | top-1 65.00 % | – |" in lines
    assert (
        "| openvino INT8 (x) | 0.500 | 2,000 | 16.00 [15.20, 16.80] | 2.00 [1.90, 2.10] | 1.00 "
        "| 0.25 [-0.10, 0.60] | 98.12 % |" in lines
    )
    # auto has each run's own choice, and the size and accuracy of the first run's
    assert (
        "| **auto** | 0.500 | 1,000 | 16.00 [15.20, 16.80] | 2.00 [1.90, 2.10] | 1.00 "
        "| 0.25 [-0.10, 0.60] | 98.12 % |" in lines
    )
    assert "`auto` takes openvino INT8 (x) for batch 1 with 1 t; onnxruntime FP32 for batch 32 with 2 t." in lines


def test_a_busy_machine_is_said_in_the_table():
    import cpu

    assert "not to be believed" in cpu.page(result(quiet=False))
    assert "not to be believed" not in cpu.page(result())


def test_the_block_is_replaced_and_nothing_else():
    from tables import replaced

    assert replaced(FIRST, "cpu", "new", "README.md") == FIRST.replace("old", "new")
    assert replaced("plain\n", "cpu", "new", "README.md") is None
    assert replaced(FIRST, "calibration", "new", "README.md") is None
    for broken in ("<!-- cpu:begin -->", "<!-- cpu:end --> <!-- cpu:begin -->", FIRST + FIRST):
        with pytest.raises(EdgeferError, match=r"README\.md needs <!-- cpu:begin --> once"):
            replaced(broken, "cpu", "new", "README.md")


def test_check_tells_a_readme_that_differs(tmp_path):
    from .test_scripts import run

    results, readme = tmp_path / "cpu.json", tmp_path / "README.md"
    results.write_text(json.dumps(result()))
    readme.write_text(FIRST)
    arguments = ("tables.py", "cpu", "--results", results, "--page", readme)
    assert run(*arguments, "--check").returncode == 1
    assert readme.read_text() == FIRST
    assert run(*arguments).returncode == 0
    assert "#### net" in readme.read_text()
    assert readme.read_text().startswith("before\n")
    assert run(*arguments, "--check").returncode == 0
    readme.write_text("no block\n")
    missing = run(*arguments, "--check")
    assert missing.returncode == 2
    assert "has no block for cpu" in " ".join(missing.stderr.split())


def test_the_page_of_training_says_what_was_measured():
    from tables import REPOSITORY

    measured = json.loads((REPOSITORY / "benchmarks" / "results" / "training.json").read_text())
    text = " ".join((REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8").split())
    speeds = {name: f"{row['faces_per_s']:,.0f}" for name, row in measured["rows"].items()}
    assert measured["quiet"]
    assert measured["threads"] == 2
    assert measured["data_share"] < 0.1
    assert f"{100 * measured['data_share']:.1f} % of a training step in FP32" in text
    assert f"{speeds['edgefer fp32']} faces per second, or {speeds['edgefer bf16']} in bfloat16" in text
    assert f"a DataLoader, Adam) processes {speeds['tutorial']}." in text


def test_a_measured_zoo_is_on_its_page_at_once(tmp_path, monkeypatch):
    import tables

    monkeypatch.setattr(tables, "block_of", lambda which, result: f"{result['x']}")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- zoo:begin -->\nold\n<!-- zoo:end -->\n")
    with pytest.raises(EdgeferError, match="quick run"):
        tables.put_on_page("zoo", {"x": 3, "quick": True}, page)
    tables.put_on_page("zoo", {"x": 3, "quick": False}, page)
    assert page.read_text() == "a\n<!-- zoo:begin -->\n3\n<!-- zoo:end -->\n"


def test_a_turn_begins_with_a_rest_that_no_timed_call_sees(monkeypatch):
    import common

    monkeypatch.setattr(common, "REST", 0.03)
    monkeypatch.setattr(common, "SETTLE", 0.0)
    slept = []
    monkeypatch.setattr(common.time, "sleep", slept.append)

    class Engine:
        def logits(self, faces):
            return faces

    engines, effort = {"a": Engine(), "b": Engine()}, common.Effort(1e-9, 6, 4)
    faces = [np.zeros((1, 2, 2, 1), np.uint8)]
    taken = common.take_turns(engines, faces, 2, effort)
    assert taken.rounds_ms["a"].shape == (6, 4)
    assert 2 <= len(slept) <= 2 + 12  # at each change of turn; a round may begin with whom the last one ended
    assert set(slept) == {0.03}
    slept.clear()
    common.take_turns(engines, faces, 1, effort)
    assert slept == []


def test_memory_that_is_not_there_is_not_tried(monkeypatch):
    import calibration

    monkeypatch.setattr(calibration, "available_memory", lambda: 1_000_000_000)
    assert calibration.memory_lacking(5000, 250_000, 50_000) == "keeps every activation: 2.0 GB, and 1.0 GB are free"
    assert calibration.memory_lacking(2000, 250_000, 50_000) == ""


@pytest.mark.parametrize(("many", "passed"), [(109e6, [True, True]), (112e6, [False, True]), (420e6, [False, False])])
def test_demands_on_memory(many, passed):
    import calibration

    rows = [
        {"calibrator": "edgefer", "faces": faces, "peak_bytes": peak, "level_bytes": 50e6}
        for faces, peak in ((500, 100e6), (5000, many))
    ]
    assert [demand["passed"] for demand in calibration._demands(rows)] == passed
    assert calibration._demands(rows[:1]) == []


def test_zoo_table_has_accuracies_only_of_trained_weights_and_says_who_falls_short():
    import zoo

    accuracy = {"top1": 0.62, "top1_ci95": [0.6, 0.64], "macro_f1": 0.57, "macro_f1_ci95": [0.55, 0.591]}
    accuracy |= {"drop_pp": 0.1, "ci95_pp": [-0.2, 0.4]}
    latency = {
        "PyTorch eager": {"p50_ms": 9.0},
        "onnxruntime FP32": {"p50_ms": 2.0},
        "onnxruntime INT8 (a)": {"p50_ms": 1.5},
        "openvino INT8 (b)": {"p50_ms": 1.25},
    }
    shipped = {
        **{"name": "net", "parameters": 1234, "macs": 5_500_000, "published": "64 % FER+", "parity": 3e-6},
        **{"latency": latency, "auto": "openvino INT8 (b)", "weights": "shipped, sha256 0"},
        "accuracy": {
            "PyTorch eager": {**accuracy, "agreement": 1.0},
            "openvino INT8 (b)": {**accuracy, "agreement": 0.981},
        },
    }
    random = {**shipped, "name": "other", "published": "80 % FER2013", "accuracy": {}, "weights": "random"}
    result = {"quiet": False, "data": "FER2013", "fit_faces": 23856, "environment": {"cpu": "A CPU"}}
    table = zoo.page({**result, "networks": [shipped, random]})
    assert "busy machine" in table
    assert "hort of" not in table
    assert "\\*" not in table
    times = "2.00 | 1.25 | 1.25 | openvino INT8 (b)"
    drop = "+0.10 [-0.20, +0.40] | 98.1 %"
    known = "62.0 % [60.0, 64.0] | 57.0 % [55.0, 59.1]"
    first = f"| net | 1,234 | 5.5 M | 64 % FER+ | {known} | 3e-06 | {times} | {drop} |"
    second = f"| other | 1,234 | 5.5 M | 80 % FER2013 | – | – | 3e-06 | {times} | – | – |"
    assert table.splitlines()[-2:] == [first, second]
    published = {"a": "61 % FER2013", "b": "58 % FER2013, 63.5 % balanced", "c": "up to 74 % FER2013"}
    rows = [{**shipped, "name": name, "published": text} for name, text in published.items()]
    rows[2]["weights"] = "by its recipe, sha256 1"
    table = zoo.page({**result, "networks": rows})
    assert (
        "Short of the published figure: b by 1.5 points (62.0 % of 63.5 %, which is within its interval); "
        "c by 12.0 points (62.0 % of 74 %). Ours learns from 23,856 fit faces: "
    ) in table
    assert "| c\\* | 1,234 |" in table
    assert "\\*: weights by the network's recipe" in table


def test_the_page_says_which_aims_of_calibration_were_missed():
    from calibration import _aims

    found = {
        ("edgefer", 5000): {"seconds": 5.0, "peak_bytes": 2e8},
        ("Entropy", 5000): {"seconds": 20.0, "peak_bytes": 8e9},
    }
    assert _aims(found, 5000) == [
        "**Not held**: at most 1/8 of the time of onnxruntime's Entropy at 5,000 faces (1/4.0).",
        "Held: at most 1/25 of the memory of onnxruntime's Entropy at 5,000 faces (1/40.0).",
    ]
    assert _aims({**found, ("Entropy", 5000): {"skipped": "memory"}}, 5000) == []


def test_the_milliseconds_of_the_package_are_those_of_the_results():
    from .test_scripts import run

    checked = run("tables.py", "zoo", "--check")
    assert checked.returncode == 0, checked.stderr
