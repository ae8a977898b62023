import json

import onnx
import pytest

import edgefer as package
from edgefer.manifest import read_manifest
from tests.end_to_end.conftest import edgefer

ROW = {"model", "runtime", "precision", "batch", "threads", "latency_ms", "images_per_s", "size_bytes", "accuracy"}


def test_every_file_of_the_road_carries_the_contract_and_its_lineage(road):
    manifest = read_manifest(road.int8)
    assert manifest.contract.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert manifest.contract.architecture == "lenet"
    assert len(manifest.weights_sha256) == 64
    assert manifest.weights_sha256 == read_manifest(road.fp32).weights_sha256
    assert manifest.calibration is not None
    assert (
        manifest.calibration.n == sum(manifest.calibration.per_class.values()) == len(manifest.calibration.face_hashes)
    )
    assert read_manifest(road.fp32).calibration is None
    model = onnx.load(road.model)
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]
    assert model.graph.node[0].op_type == "Cast"


def test_int8_is_int8_layer_by_layer_and_smaller(road):
    manifest = read_manifest(road.int8)
    weighted = [layer for layer in manifest.precision.layers if layer.op in ("Conv", "Gemm")]
    assert len(weighted) == 5
    assert all(layer.got == "int8" for layer in weighted)
    assert road.int8.stat().st_size < 0.5 * road.fp32.stat().st_size


def test_bench_json_has_the_promised_keys(road):
    done = edgefer(
        *("bench", road.int8, road.fp32, "--data", road.faces, "--baseline", road.weights, "--seconds", 1, "--json")
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) >= ROW | {"baseline", "paired", "environment"}
    assert set(report["latency_ms"]) == {"p50", "p90", "p95", "p99", "n"}
    assert set(report["accuracy"]) == {"top1", "n", "left_out"}
    assert set(report["baseline"]) >= {"latency_ms", "accuracy", "size_bytes"}
    assert set(report["paired"]) == {"drop_pp", "ci95_pp", "mcnemar_p", "agreement"}
    assert report["precision"] == "int8"
    assert report["accuracy"]["n"] == 400
    low, high = report["paired"]["ci95_pp"]
    assert low <= report["paired"]["drop_pp"] <= high
    assert low < high
    dropped = 100 * (report["baseline"]["accuracy"]["top1"] - report["accuracy"]["top1"])
    assert report["paired"]["drop_pp"] == pytest.approx(dropped, abs=1e-9)
    assert report["others"][0]["precision"] == "fp32"
    assert report["others"][0]["paired"]["agreement"] == 1.0


def test_bench_prints_a_table(road):
    done = edgefer("bench", road.int8, "--data", road.faces, "--baseline", road.weights, "--seconds", 0.5)
    assert done.returncode == 0, done.stderr
    for word in (road.weights.name, "INT8 (", "onnxruntime INT8", "top-1", "drop"):
        assert word in done.stdout


def test_the_functions_do_what_the_commands_do(road, tmp_path):
    faces = package.open_dataset(road.faces)
    result = package.build_engine(
        road.model, tmp_path / "x.onnx", precision="int8", quantisation=package.Quantisation(faces)
    )
    assert result.path.read_bytes() == road.int8.read_bytes()
    with package.load_engine(result.path) as engine:
        images = faces.split("test").images([0, 1, 2])
        assert engine.logits(images).shape == (3, 7)


def test_auto_ships_the_fastest_within_tolerance_and_retune_repeats_the_choice(road, tmp_path):
    pytest.importorskip("openvino")
    engine = tmp_path / "auto.onnx"
    done = edgefer("build-engine", road.model, "--auto", "--calib", road.faces, "--max-drop", 100, "-o", engine)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(engine).candidates
    assert {(row["runtime"], row["precision"]) for row in rows} >= {
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
        ("openvino", "fp32"),
        ("openvino", "int8"),
    }
    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen["p50_ms"] == min(row["p50_ms"] for row in rows)
    assert read_manifest(engine).runtime == chosen["runtime"]
    assert all(row["ci95_pp"][0] <= row["drop_pp"] <= row["ci95_pp"][1] for row in rows)
    done = edgefer("retune", engine)
    assert done.returncode == 0, done.stderr
    again = read_manifest(engine).candidates
    assert [row["drop_pp"] for row in again] == [row["drop_pp"] for row in rows]
    assert [row["p50_ms"] for row in again] != [row["p50_ms"] for row in rows]


def test_auto_leaves_out_what_drops_too_much():
    from edgefer.optimize.candidates import CandidateResult, choose, verdict

    row = CandidateResult("a", "onnxruntime", "fp32", None, 1, p50_ms=2.0, drop_pp=0.0)
    fast = CandidateResult("b", "onnxruntime", "int8", "x86", 1, p50_ms=1.0, drop_pp=3.0, within=False)
    rows = choose([row, fast])
    assert [row.chosen for row in rows] == [True, False]
    assert "INT8 loses too much accuracy here: 3.00 points" in verdict(rows)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_openvino_engines(road, tmp_path, precision):
    pytest.importorskip("openvino")
    from edgefer.engines.cpu import instruction_set
    from edgefer.runtimes import BF16

    engine = tmp_path / "ov.onnx"
    calib = ("--calib", road.faces) if precision == "int8" else ()
    done = edgefer("build-engine", road.model, f"--{precision}", "--runtime", "openvino", *calib, "-o", engine)
    if precision == "bf16" and not set(BF16) & set(instruction_set()):
        assert done.returncode == 2
        assert "no bfloat16" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(engine)
    assert (manifest.runtime, manifest.precision.got) == ("openvino", precision)
    done = edgefer("bench", engine, "--data", road.faces, "--baseline", road.fp32, "--seconds", 0.5, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["paired"]["agreement"] > 0.9
