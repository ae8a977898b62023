"""The scripts themselves, at their smallest; figures are not looked at, their shape is."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from .conftest import BENCHMARKS

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )


def test_cpu_measures_every_row_in_one_run_and_its_table_shows_them(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "cpu.json"
    done = run("cpu.py", "--quick", "--only", "mini_xception_keras48", "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    network = result["networks"]["mini_xception_keras48"]
    labels = [row["label"] for row in network["rows"]]
    assert labels[:2] == ["PyTorch eager", "onnxruntime FP32"]
    assert any("INT8" in label for label in labels)
    assert network["weights"] == "random"
    assert all(row["accuracy"] is None for row in network["rows"])
    assert result["quick"] is True
    assert result["quiet"] == (not result["busy"])
    for timing in network["runs"]:
        assert set(timing["rows"]) == set(labels)
        assert timing["auto"] in labels[1:]
        assert timing["rows"]["onnxruntime FP32"]["over_onnxruntime"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    one = next(timing for timing in network["runs"] if timing["batch"] == 1)["rows"]
    eager, ours = one["PyTorch eager"]["p50_ms"], one["onnxruntime FP32"]["p50_ms"]
    assert one["onnxruntime FP32"]["over_pytorch"]["value"] == pytest.approx(eager / ours)
    assert one["onnxruntime FP32"]["images_per_s"] == pytest.approx(1000 / ours)

    readme = tmp_path / "README.md"
    readme.write_text("no block\n")
    table = run("tables.py", "cpu", "--results", output, "--page", readme)
    assert table.returncode == 0, table.stderr
    assert all(f"| {label} |" in table.stdout for label in [*labels, "**auto**"])
    assert readme.read_text() == "no block\n"
    readme.write_text("<!-- cpu:begin -->\n<!-- cpu:end -->\n")
    table = run("tables.py", "cpu", "--results", output, "--page", readme)
    assert table.returncode == 2
    assert "quick" in table.stderr


def test_calibration_measures_each_calibrator_in_its_own_process(tmp_path):
    for module in ("torch", "onnxruntime", "matplotlib"):
        pytest.importorskip(module)
    output = tmp_path / "calibration.json"
    done = run("calibration.py", "--quick", "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert [(row["calibrator"], row["faces"]) for row in result["rows"]] == [
        (name, count) for count in (50, 100) for name in ("edgefer", "MinMax", "Entropy", "Percentile")
    ]
    assert len({row["tensors"] for row in result["rows"]}) == 1
    kept = [row["peak_bytes"] for row in result["rows"] if row["calibrator"] == "Entropy"]
    assert kept[1] - kept[0] > 0.7 * 50 * result["kept_bytes_a_face"]  # it keeps every activation
    assert result["demands"] == []  # they are about 500 and 5,000 faces
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "page.md").write_text("no block\n")
    table = run("tables.py", "calibration", "--results", output, "--page", tmp_path / "page.md")
    assert table.returncode == 0
    assert "| edgefer, all methods in one pass |" in table.stdout


def test_rewriting_measures_each_pass_against_the_plain_graph(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "rewriting.json"
    done = run("rewriting.py", "--quick", "--only", "resnet11", "--output", output)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())["networks"]["resnet11"]
    assert found["places"] == {"fold-batchnorm": 20}
    rows = {(row["engine"], row["graph"]): row for row in found["rows"]}
    assert {graph for _, graph in rows} == {"plain", "fold-batchnorm", "all passes"}
    integer = next(engine for engine, _ in rows if engine.startswith("onnxruntime INT8"))
    assert rows[integer, "all passes"]["int8_layers"] > rows[integer, "plain"]["int8_layers"]
    plain, all_of_them = rows["onnxruntime FP32", "plain"], rows["onnxruntime FP32", "all passes"]
    assert all_of_them["gain"]["value"] == pytest.approx(plain["p50_ms"] / all_of_them["p50_ms"])
    assert all_of_them["gain"] == all_of_them["over_plain_onnxruntime"]
    (tmp_path / "page.md").write_text("no block\n")
    table = run("tables.py", "rewriting", "--results", output, "--page", tmp_path / "page.md")
    assert table.returncode == 0, table.stderr
    assert "| onnxruntime FP32 |" in table.stdout
    assert "fold-batchnorm (20×)" in table.stdout


@pytest.mark.slow
def test_zoo_measures_a_network_and_its_table_shows_it(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "zoo.json"
    done = run("zoo.py", "--quick", "--only", "mini_xception_keras48", "--output", output)
    assert done.returncode == 0, done.stderr
    row = json.loads(output.read_text())["networks"][0]
    assert (row["name"], row["parameters"], row["weights"], row["accuracy"]) == (
        *("mini_xception_keras48", 56_702, "random", {}),
    )
    assert 0 < row["parity"] < 1e-4
    assert row["auto"] in row["latency"]
    (tmp_path / "page.md").write_text("no block\n")
    table = run("tables.py", "zoo", "--results", output, "--page", tmp_path / "page.md")
    assert table.returncode == 0, table.stderr
    assert "| mini_xception_keras48 | 56,702 |" in table.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "message", "hint"),
    [
        ("cpu.py", ["--only", "lenett"], "no network is called 'lenett'", "known: "),
        ("cpu.py", ["--quick"], "holds whole runs", "--output"),
        ("cpu.py", ["--only", "lenet"], "holds whole runs", "--output"),
        ("calibration.py", ["--quick"], "holds whole runs", "--output"),
        ("camera.py", ["--quick"], "holds whole runs", "--output"),
        ("tables.py", ["cpu", "--results", "nowhere.json"], "no results nowhere.json", "benchmarks/cpu.py makes it"),
    ],
)
def test_bad_arguments_say_what_to_do(script, arguments, message, hint):
    done = run(script, *arguments)
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert message in said
    assert hint in said


PAGES_WITH_RESULTS = (
    *("cpu", "zoo", "calibration", "rewriting", "quantisation", "disturbance", "scale", "camera", "cpp"),
)


@pytest.mark.parametrize("which", PAGES_WITH_RESULTS)
def test_pages_say_what_the_results_say(which):
    """Or that there are none yet; figures of a busy machine need not be on a page."""
    from tables import PAGES

    text = (BENCHMARKS.parent / PAGES[which]).read_text(encoding="utf-8")
    results, begin = BENCHMARKS / "results" / f"{which}.json", f"<!-- {which}:begin -->"
    if results.is_file() and (begin in text or json.loads(results.read_text(encoding="utf-8"))["quiet"]):
        done = run("tables.py", which, "--check")
        assert done.returncode == 0, done.stderr
    elif begin in text:
        assert f"{begin}\nNot measured in full yet.\n<!-- {which}:end -->" in text


@pytest.mark.slow
def test_disturbance_compares_each_load_with_none(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "disturbance.json"
    done = run("disturbance.py", "--quick", "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    rows = [row for row in result["rows"] if row["threads"] == 1]
    assert [(row["network"], row["load"]) for row in rows] == [("mini_xception", 0.0), ("mini_xception", 1.0)]
    quiet, busy = rows
    assert quiet["change"]["median"]["value"] == 1.0
    assert quiet["marked"] == []
    assert "tail" in busy["marked"]
    assert busy["seen"] > quiet["seen"] or quiet["seen"] > 1.0, "the load is none of our own work"
    assert {demand["demand"].split(",")[0] for demand in result["demands"]} == {"median", "tail", "speedup"}


def test_disturbance_says_what_moved_though_it_is_not_marked():
    import disturbance

    def row(load, share, moved, marked):
        change = {figure: {"value": value, "ci95": [value, value]} for figure, value in moved.items()}
        about = {"network": "net", "threads": 1, "load": load, "seen": load, "crowding": share, "speedup": 3.0}
        return {**about, "change": change, "marked": marked}

    still = dict.fromkeys(disturbance.FIGURES, 1.0)
    moved = {"median": 1.02, "tail": 1.4, "speedup": 0.93}
    rows = [row(0.0, 0.0, still, []), row(0.3, 0.15, moved, ["tail"])]
    demands = disturbance._demands(rows)
    assert [demand["passed"] for demand in demands] == [True, True, False]
    assert demands[2]["measured"] == "7.0% (net, 1 threads, load 0.3)"
    about = {"environment": {"cpu": "A CPU", "cores": 2}, "rows": rows, "demands": demands, "repetitions": 12}
    text = disturbance.page({**about, "quiet": True})
    assert "| net | 1 | 0.3 | 15% | +2.0 [+2.0, +2.0] | ~+40.0 [+40.0, +40.0] | -7.0 [-7.0, -7.0] |" in text
    assert "7.0% (net, 1 threads, load 0.3) (missed)" in text


def test_scale_measures_both_tasks_at_every_count(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    output = tmp_path / "scale.json"
    done = run("scale.py", "--quick", "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert [(row["faces"], row["task"]) for row in result["rows"]] == [
        (300, "evaluate"),
        (300, "calibrate"),
        (600, "evaluate"),
        (600, "calibrate"),
    ]
    assert all(row["seconds"] > 0 and row["level_bytes"] > 1e7 for row in result["rows"])
    assert output.with_suffix(".png").stat().st_size > 10_000
    page = tmp_path / "page.md"
    page.write_text("<!-- scale:begin -->\n<!-- scale:end -->\n")
    table = run("tables.py", "scale", "--results", output, "--page", page)
    assert table.returncode == 2
    assert "quick" in table.stderr


def test_scale_says_what_is_linear_and_what_is_flat():
    import scale

    def row(task, faces, seconds, megabytes):
        return {"task": task, "faces": faces, "seconds": seconds, "peak_bytes": megabytes * 1e6}

    rows = [row("evaluate", 1000, 0.5, 1), row("calibrate", 1000, 9, 9), row("evaluate", 10_000, 2, 3)]
    rows += [row("calibrate", 10_000, 20, 10), row("evaluate", 100_000, 21, 9), row("calibrate", 100_000, 300, 90)]
    demands = scale._demands(rows)
    assert [demand["passed"] for demand in demands] == [True, True, False, False]
    assert demands[0]["measured"] == "1.05 times"
    assert demands[3]["measured"] == "889 bytes"
    environment = {"cpu": "An Example CPU", "cores": 2}
    table = scale.page({"environment": environment, "model": "m", "rows": rows, "quiet": False, "demands": demands})
    assert "| 100,000 | 21.0 | 9.0 | 300.0 | 90.0 |" in table
    assert "busy machine" in table
    assert "889 bytes (missed)" in table


def test_more_faces_than_are_made_are_variants_of_them(tmp_path, monkeypatch):
    import scale

    from edgefer.data import open_dataset, synthetic_faces

    monkeypatch.setattr(scale, "BLOCK", 40)
    monkeypatch.setattr(scale, "MADE", 80)
    scale.write_synthetic(tmp_path / "faces.npz", 300)
    faces = open_dataset(tmp_path / "faces.npz").split("train")
    assert len(faces) == 300
    images, labels = synthetic_faces(40, seed=40)
    assert (faces.images(range(40, 80)) == images).all(), "every block has a seed of its own"
    assert faces.labels[40:80].tolist() == faces.labels[120:160].tolist() == labels.tolist()
    assert (faces.images(range(120, 160)) == images[:, :, ::-1]).all()
    darker = np.maximum(images.astype(int) - 6, 0)
    assert (faces.images(range(200, 240)) == darker).all()
    assert len(set(faces.face_hashes())) == 300, "no two are the same"
    lightness = [int(scale.variant(np.full((1, 1, 1, 1), 100, np.uint8), turn)[0, 0, 0, 0]) for turn in range(0, 20, 2)]
    assert lightness == [100, 94, 106, 88, 112, 82, 118, 76, 124, 70]
