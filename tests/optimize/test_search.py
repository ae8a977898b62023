from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import edgefer
from edgefer.data import open_dataset, save_npz
from edgefer.engines.tensorrt.compat import target_of
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model, metadata_of
from edgefer.graph.rewrite import Rewritten
from edgefer.manifest import Precision, read_manifest
from edgefer.measure.accuracy import Z95
from edgefer.measure.paired import tango_interval
from edgefer.optimize import prepared, search
from edgefer.optimize.candidates import Candidate, CandidateResult, Variant
from edgefer.optimize.certainty import check_power, halves
from edgefer.optimize.prepared import Evaluation, PreparedModel
from edgefer.optimize.search import MacCost, MeasuredPlan, cheapest, front, likeliest_first, sizes
from edgefer.optimize.sensitivity import LayerCost
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.optimize.tensorrt_file import prepare_file
from edgefer.quantize.graphview import macs_by_layer

JETPACK = {"target": BuildTarget("tensorrt", version="jetpack6"), "onnx_only": True}
ENTROPY = {"target": BuildTarget("tensorrt", version="jetpack6", builder={"calibrator": "entropy"}), "onnx_only": True}
VARIANT = Variant("onnxruntime", "int8", "x86-vnni")


def plan(kept, ms, upper, within=True):
    result = CandidateResult(
        "x", "onnxruntime", "int8", None, 1, p50_ms=ms, drop_pp=0.0, ci95_pp=(-1.0, upper), within=within
    )
    return MeasuredPlan(tuple(map(str, range(kept))), Candidate(VARIANT, b"", Precision("int8", "int8")), result, ms)


def test_halves_share_the_classes_and_no_face(faces):
    val = faces.split("val")
    one, two = halves(val)
    assert len(one) + len(two) == len(val)
    assert set(one.face_hashes()).isdisjoint(two.face_hashes())
    for label, count in val.per_class_counts().items():
        assert abs(one.per_class_counts()[label] - count / 2) <= 1
    assert halves(val)[0].fingerprint() == one.fingerprint()


def test_halves_keep_near_duplicates_together(tmp_path):
    """What certifies must have chosen nothing, and a face that stands in both halves has."""
    random = np.random.default_rng(0)
    images = np.kron(random.integers(0, 200, (200, 6, 6, 1)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    again = images[:60] + np.uint8(2)
    save_npz(tmp_path / "x.npz", np.concatenate([images, again]), np.arange(260) % 2, ["a", "b"])
    faces = open_dataset(f"{tmp_path / 'x.npz'}:all")
    assert len(set(faces.group_keys())) == 200
    one, two = halves(faces)
    keys = dict(zip(faces.face_hashes(), faces.group_keys(), strict=True))
    assert {keys[h] for h in one.face_hashes()}.isdisjoint(keys[h] for h in two.face_hashes())
    for counts in zip(one.per_class_counts().values(), two.per_class_counts().values(), strict=True):
        assert abs(counts[0] - counts[1]) <= 1


@pytest.mark.parametrize(("layers", "expected"), [(0, [0]), (3, [0, 1, 2, 3]), (23, [0, 1, 2, 3, 4, 6, 9, 13, 19, 23])])
def test_how_many_layers_come_back(layers, expected):
    assert sizes(layers) == expected


def test_the_cheapest_plan_is_the_one_with_fewest_float_layers_unless_it_is_slower():
    plans = [plan(0, 1.0, 2.0, within=False), plan(1, 1.01, 0.4), plan(2, 0.8, 0.3), plan(3, 1.6, 0.1)]
    assert cheapest(plans, [1, 2, 3]) == 1  # 1 % is noise, and being faster than all-INT8 is no merit
    assert cheapest(plans, [2, 3]) == 2
    assert cheapest(plans, [0, 1, 2, 3]) == 0
    slower = [plan(0, 1.0, 2.0, within=False), plan(1, 1.5, 0.4), plan(2, 1.1, 0.4)]
    assert cheapest(slower, [1, 2]) == 2


def test_the_likeliest_plan_is_tested_first():
    plans = [plan(0, 1.0, 2.0, within=False), plan(1, 1.1, 0.4), plan(2, 1.3, 0.1), plan(3, 1.5, 0.3)]
    assert likeliest_first(plans) == [2, 3, 1]


def test_the_first_plan_that_fails_ends_the_testing(monkeypatch):
    """Going on would test plans until one passes by luck, and the certificate would be worth less than it says."""
    upper = {0.1: 0.2, 0.2: 0.9, 0.3: 0.1, 9.0: 0.0}  # a plan's cost → the drop on the certifying half

    class FakeEvaluation(Evaluation):
        def answers(self, candidate):
            return float(candidate.content or b"0")

    class FakePaired:
        @staticmethod
        def from_predictions(_, cost):
            return SimpleNamespace(drop_pp=0.0, ci95_pp=(0.0, upper[cost]))

    monkeypatch.setattr(prepared, "Paired", FakePaired)
    plans = [
        replace(plan(i, cost, choosing), candidate=Candidate(VARIANT, str(cost).encode(), Precision("int8", "int8")))
        for i, (cost, choosing) in enumerate([(0.3, 0.4), (0.2, 0.3), (0.1, 0.2), (9.0, 0.0)])
    ]
    shipped, _ = search._certified(plans, FakeEvaluation(None, [1], None, None), 0.5)
    assert shipped is plans[2]  # the second tested failed; the third would have passed, and keeps less in float


def test_layers_come_back_by_what_they_gain_for_what_they_cost():
    costs = [LayerCost(name, "Conv", 30.0, kl, 0.0, (0.0, 0.0), 1.0) for name, kl in (("a", 2.0), ("b", 1.0))]
    assert search._order(costs, {"a": 4.0, "b": 1.0}) == ["b", "a"]


def test_the_pareto_front_is_sorted_and_shows_what_is_shipped():
    plans = [plan(0, 1.0, 2.0), plan(1, 1.2, 1.0), plan(2, 1.3, 1.5), plan(3, 1.1, 2.5)]
    assert [len(p.kept) for p in front(plans, plans[1])] == [0, 1]
    assert [len(p.kept) for p in front(plans, plans[2])] == [0, 1, 2]


def test_a_budget_that_no_plan_could_be_shown_to_meet():
    with pytest.raises(
        EdgeferError, match=r"no plan can be shown to meet --max-drop 0.1: on the 1,418 faces"
    ) as caught:
        check_power(np.arange(1418), 0.1)
    assert "--max-drop 0.28, or a `val` part of 7,676 faces" in caught.value.hint
    check_power(np.arange(1418), 0.28)
    check_power(np.arange(3838), 0.1)
    with pytest.raises(EdgeferError, match="--max-drop 0:") as caught:
        check_power(np.arange(1000), 0.0)
    assert "infinitely many" in caught.value.hint
    with pytest.raises(EdgeferError, match=r"on the 42,540 faces .* certify \(1,418 distinct\), even") as caught:
        check_power(np.repeat(np.arange(1418), 30), 0.1)
    assert "--max-drop 0.28, or a `val` part of 230,2" in caught.value.hint


def test_what_the_faces_can_certify_is_said_before_calibration(model, faces, tmp_path, monkeypatch, capsys):
    class CalibrationBegan(Exception):
        pass

    def begin(*_):
        raise CalibrationBegan

    monkeypatch.setattr(prepared, "on_faces", begin)
    n = len(halves(faces.split("val"))[1])
    smallest = 100 * Z95**2 / (n + Z95**2)
    with pytest.raises(EdgeferError, match=f"even equal answers leave the drop uncertain by {smallest:.2f} points"):
        build(model, faces, tmp_path / "x.onnx", max_drop=0.9 * smallest)
    with pytest.raises(CalibrationBegan):
        build(model, faces, tmp_path / "x.onnx", max_drop=100)
    each = round(n / 100)
    some = 100 * tango_interval(each, each, n)[1]
    assert each > 0
    assert some > smallest
    said = " ".join(capsys.readouterr().err.split())
    assert f"--max-drop 100: the smallest drop that {n:,} faces of `val` can certify is " in said
    assert (
        f"certify is {smallest:.2f} points if no answer changes, {some:.2f} if {each} become wrong and {each} right"
        in said
    )


def build(model, data, path, precision="int8", target="cpu", onnx_only=False, **settings):
    settings = Quantisation(data, None if data is None else 60, **settings)
    return edgefer.build_engine(
        model, path, precision=precision, quantisation=settings, target=target, onnx_only=onnx_only
    )


def test_none_need_to_come_back(model, faces, tmp_path):
    result = build(model, faces, tmp_path / "x.onnx", max_drop=100)
    manifest = read_manifest(result.path)
    assert manifest.precision.got == "int8"
    assert sum(layer.got == "int8" for layer in manifest.precision.layers if layer.op in ("Conv", "Gemm")) == 4
    assert "No layer had to be kept out of INT8; certified on" in result.reason
    (chosen,) = [row for row in manifest.candidates if row["chosen"]]
    assert chosen["label"].endswith(", 0 of 4 layers in float")
    assert edgefer.load_engine(result.path).precision == "int8"


def test_all_must_come_back(model, faces, tmp_path, monkeypatch):
    real = search.Paired.from_predictions

    def harsh(baseline, candidate):
        """Any change at all costs ten points."""
        found = real(baseline, candidate)
        if np.array_equal(baseline.logits, candidate.logits):
            return found
        return replace(found, both=0, agreeing=0, baseline_only=found.n, candidate_only=0, neither=0)

    monkeypatch.setattr(search.Paired, "from_predictions", harsh)
    result = build(model, faces, tmp_path / "x.onnx", max_drop=5)
    manifest = read_manifest(result.path)
    assert manifest.precision.got == "fp32"
    assert manifest.precision.asked == "int8"
    assert manifest.calibration is None  # nothing in it was calibrated
    assert all(layer.got == "fp32" for layer in manifest.precision.layers)
    assert "No plan with a layer in INT8 meets --max-drop 5: all 4 layers are back in float" in result.reason
    plain = edgefer.build_engine(model, tmp_path / "f.onnx", precision="fp32").path
    assert result.path.read_bytes() == plain.read_bytes()  # what is certified is the reference itself
    with edgefer.load_engine(result.path) as engine:
        assert engine.precision == "fp32"


def test_a_plan_that_only_did_well_on_the_choosing_half_is_not_shipped(model, faces, tmp_path, monkeypatch, capsys):
    real = search.Paired.from_predictions
    certifying = {halves(faces.split("val"))[1].fingerprint()}

    def flattered(baseline, candidate):
        found = real(baseline, candidate)
        if candidate.faces_sha256 not in certifying or "fp32" in candidate.name.lower():
            return replace(found, both=found.n, agreeing=found.n, baseline_only=0, candidate_only=0, neither=0)
        return replace(found, both=0, agreeing=0, baseline_only=found.n, candidate_only=0, neither=0)

    monkeypatch.setattr(search.Paired, "from_predictions", flattered)
    result = build(model, faces, tmp_path / "x.onnx", max_drop=5)
    assert read_manifest(result.path).precision.got == "fp32"
    said = " ".join(capsys.readouterr().err.split())
    assert "0 of 4 layers in float: drop +100.00" in said
    assert "certifying faces, 5 allowed" in said


def test_multiply_accumulates_of_a_face(tiny):
    places = 12 * 12
    assert macs_by_layer(tiny()) == {
        "Conv_0": places * 6 * 9,
        "Conv_1": places * 6 * 9,  # depthwise: each output channel reads one
        "Conv_2": places * 6 * 8,
        "Gemm_0": 8 * 3,
    }


def test_for_tensorrt_a_plan_costs_the_multiply_accumulates_that_it_keeps_in_float(tiny, about):
    prepared = PreparedModel(Rewritten(tiny(), {}), about(), "", "mse")
    cost = MacCost()
    found = cost.of_layers(prepared, VARIANT, ["Conv_2", "Gemm_0"])
    assert found == {"Conv_2": 6912.0, "Gemm_0": 24.0}
    row = plan(0, None, 1.0).result
    rows = cost.filled(prepared, [row, row], [((), None), (("Conv_2", "Gemm_0"), None)])
    assert [cost.of(row) for row in rows] == [0.0, 6936.0]


@pytest.mark.parametrize("precision", ["int8", "int8+fp16"])
def test_a_budget_for_tensorrt_is_evaluated_here_and_travels_in_the_file(
    model, faces, tmp_path, monkeypatch, precision
):
    real = search.Paired.from_predictions

    def harsh_to_int8(baseline, candidate):
        """Whatever answers otherwise than float loses half the answers."""
        found = real(baseline, candidate)
        if np.array_equal(baseline.logits, candidate.logits):
            return found
        return replace(found, both=found.n // 2, agreeing=found.n // 2, baseline_only=found.n - found.n // 2)

    settings = {**JETPACK, "precision": precision}
    result = build(model, faces, tmp_path / "all.onnx", max_drop=100, **settings)
    assert "No layer had to be kept out of INT8; certified on" in result.reason
    (chosen,) = [row for row in result.candidates if row.chosen]
    assert chosen.float_macs == 0
    assert chosen.label.startswith("TensorRT INT8 (tensorrt")
    known = prepare_file(
        *(tmp_path / "all.onnx", load_model(tmp_path / "all.onnx"), precision, target_of("jetpack6"), Quantisation())
    )
    assert known.candidates == result.candidates  # what the device's manifest will say
    monkeypatch.setattr(search.Paired, "from_predictions", harsh_to_int8)
    result = build(model, faces, tmp_path / "none.onnx", max_drop=5, **settings)
    assert "all 4 layers are back in float" in result.reason
    file = onnx.load(tmp_path / "none.onnx")
    assert not any(node.op_type == "QuantizeLinear" for node in file.graph.node)
    assert metadata_of(file)["edgefer.precision"] == ("fp16" if "fp16" in precision else "fp32")


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"max_drop": 0.5}, "no plan can be shown to meet --max-drop 0.5", "a `val` part of"),
        ({"max_drop": 1, "part": "val"}, "no plan can be shown to meet --max-drop 1", "a `val` part of"),
        ({"max_drop": 5, "calib": None}, "--max-drop needs faces to evaluate", "--calib DATA"),
        ({"max_drop": 5, "calib": None, **JETPACK}, "--max-drop needs faces to evaluate", "--calib DATA"),
        ({"max_drop": float("nan")}, "--max-drop is nan, and a drop is 0 points or more", "--max-drop 0.5"),
        ({"method": "auto", "calib": None}, "--method auto needs faces to evaluate", "--calib DATA"),
        (
            {"method": "auto", **ENTROPY},
            *("--method auto and --calibrator exclude each other", "leave out --calibrator"),
        ),
        (
            {"corrections": ("equalise", "bias"), **ENTROPY},
            *("--corrections and --calibrator exclude each other", "leave out --calibrator"),
        ),
    ],
)
def test_bad_input(model, faces, tmp_path, settings, message, hint):
    calib = settings.pop("calib", faces)
    if "part" in settings:
        calib = faces.split(settings.pop("part"))
    with pytest.raises(EdgeferError) as caught:
        build(model, calib, tmp_path / "x.onnx", **settings)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert list(tmp_path.iterdir()) == []
