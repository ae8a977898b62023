"""Faces and networks that calibration must refuse, or survive, by name."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import numpy_helper

import edgefer
from edgefer.data import ReadSettings, open_dataset, save_npz
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import load_model
from edgefer.manifest import Precision, manifest_path, read_manifest
from edgefer.optimize import build as building
from edgefer.optimize import search
from edgefer.optimize.calibrate import Corrector, equalising_factors
from edgefer.optimize.candidates import Candidate, Variant, variants_of
from edgefer.optimize.prepared import Evaluation
from edgefer.optimize.settings import Quantisation


def changed(proto, name, change):
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return proto


def build(model, data, path, onnx_only=False, **settings):
    settings = Quantisation(**{"data": data, "faces": 30, **settings})
    return edgefer.build_engine(model, path, precision="int8", quantisation=settings, onnx_only=onnx_only)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_name_layer_and_face(tiny, about, write, faces, tmp_path, value):
    def spoil(weights):
        weights[0, 0, 0] = value
        return weights

    path = write(tmp_path / "m.onnx", changed(tiny(), "Conv_1_weight", spoil), about())
    with pytest.raises(EdgeferError, match=r"face 0 of the sample \(image \d+ of .*\) makes Relu 'Relu_1'") as caught:
        build(path, faces, tmp_path / "x.onnx")
    assert "the float network itself is broken" in caught.value.hint
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("constant", "value", "message"),
    [
        ("Gemm_0_bias", np.nan, r"face 0 of the sample \(image \d+ of .* makes Gemm 'Gemm_0' .* \(tensor 'logits'\)"),
        ("Conv_0_bias", -np.inf, "NaN or infinity in the bias of Conv 'Conv_0'"),  # a Relu hides it from the ranges
    ],
)
def test_what_no_range_shows_is_refused_too(tiny, about, write, faces, tmp_path, constant, value, message):
    def spoil(bias):
        bias[0] = value
        return bias

    path = write(tmp_path / "m.onnx", changed(tiny(), constant, spoil), about())
    with pytest.raises(EdgeferError, match=message) as caught:
        build(path, faces, tmp_path / "x.onnx", corrections=(), onnx_only=True)
    assert "the float network itself is broken" in caught.value.hint
    assert not (tmp_path / "x.onnx").exists()


def test_a_face_is_named_by_its_file_where_it_has_one(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for index, label in enumerate(("a", "b")):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "x.png"), np.full((8, 8), index, np.uint8))
    assert open_dataset(str(tmp_path)).subset([1]).name_of(0) == str(tmp_path / "b" / "x.png")


@pytest.mark.parametrize(("level", "called"), [(0, "black"), (7, "grey level 7")])
def test_flat_faces(model, tmp_path, level, called):
    save_npz(tmp_path / "flat.npz", np.full((90, 12, 12, 1), level, np.uint8), np.arange(90) % 3, list("abc"))
    flat = open_dataset(
        f"{tmp_path / 'flat.npz'}:train", reading=ReadSettings(relabelling={"a": "dark", "b": "bright", "c": "striped"})
    )
    with pytest.raises(EdgeferError, match=rf"all 30 calibration faces of .* are flat \({called}\)") as caught:
        build(model, flat, tmp_path / "x.onnx")
    assert "calibrate on real faces" in caught.value.hint


@pytest.mark.parametrize("layer", ["Conv_0", "Conv_1", "Conv_2"])
def test_a_channel_that_never_fires_and_a_constant_tensor(tiny, about, write, faces, tmp_path, layer):
    dead = changed(tiny(), f"{layer}_weight", lambda w: w * 0)  # all of its channels are their biases
    dead = changed(dead, f"{layer}_bias", lambda b: np.linspace(-1, 1, len(b)).astype(np.float32))
    path = write(tmp_path / "m.onnx", dead, about())
    reference = edgefer.build_engine(path, tmp_path / "f.onnx", precision="fp32")
    for corrections in (None, (), ("equalise", "rounding", "bias")):
        result = build(path, faces, tmp_path / "x.onnx", corrections=corrections)
        assert ("bias" in result.manifest.rewrites) == (corrections is None or "bias" in corrections)
        assert result.manifest.rewrites.get("rounding", 0) < 4  # of four layers, one whose weights are all zeros
        images = faces.images(np.arange(9))
        with edgefer.load_engine(result.path) as engine, edgefer.load_engine(reference.path) as plain:
            wanted = plain.logits(images)
            assert np.abs(engine.logits(images) - wanted).max() < 0.03 * max(1.0, np.abs(wanted).max())


def test_an_operator_without_a_rule_stays_float_and_that_is_said(tiny, about, write, faces, tmp_path, capsys):
    proto = tiny()
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        if node.name == "Relu_1":
            node.op_type = "HardSwish"
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    path = write(tmp_path / "m.onnx", canonicalise(proto), about())
    result = build(path, faces, tmp_path / "x.onnx")
    assert "no INT8 rule for HardSwish (1×): left in float" in " ".join(capsys.readouterr().err.split())
    got = {layer.op: layer.got for layer in result.manifest.precision.layers}
    assert got["HardSwish"] == "fp32"
    assert got["Conv"] == "int8"


def test_a_model_that_is_quantised_already(model, faces, tmp_path):
    build(model, faces, tmp_path / "x.onnx")
    with pytest.raises(EdgeferError, match="already quantised") as caught:
        build(tmp_path / "x.onnx", faces, tmp_path / "y.onnx")
    assert "float model" in caught.value.hint


def test_so_many_of_each_class_or_all_there_are(model, tmp_path, capsys):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 40, 7])
    images = random.integers(0, 256, (87, 12, 12, 1), dtype=np.uint8)
    save_npz(tmp_path / "few.npz", images, labels, ["dark", "bright", "striped"], ["train"] * 87)
    few = open_dataset(f"{tmp_path / 'few.npz'}:train")
    result = build(model, few, tmp_path / "x.onnx", faces=None, per_class=10)
    assert result.manifest.calibration.per_class == {"dark": 10, "bright": 10, "striped": 7}
    said = " ".join(capsys.readouterr().err.split())
    assert "few.npz:train: 27 of 87 images set the ranges" in said
    assert "fewer than 10 images of a class: 7 of striped" in said
    with pytest.raises(EdgeferError, match="60 faces in all and 10 of each class exclude each other") as caught:
        build(model, few, tmp_path / "x.onnx", faces=60, per_class=10)
    assert "leave out" in caught.value.hint


@pytest.mark.parametrize(("steps", "count"), [(("bias",), 64), (("equalise", "rounding", "bias"), 256)])
def test_how_many_faces_corrections_look_at(model, faces, steps, count):
    proto, contract = load_model(model)
    some = faces.split("train")
    looked = Corrector.over(proto, some, contract, steps)
    assert sum(len(batch) for batch in looked.faces) == count
    np.testing.assert_array_equal(np.concatenate(looked.faces), some.images(np.arange(count)))
    assert Corrector.over(proto, some, contract, ("equalise",)) is None


@pytest.mark.parametrize(("kl", "taken"), [(1.2, "openvino-inputs"), (1.3, "openvino-all")])
def test_schemes_that_err_alike_are_told_apart_by_their_cost(monkeypatch, kl, taken):
    """A quarter more error is alike; the method is the best of each scheme."""
    errors = {"openvino-all": 1.0, "openvino-inputs": kl}
    paired = SimpleNamespace(drop_pp=0.0, ci95_pp=(0.0, 0.0), agreement=1.0)

    @dataclass(frozen=True)
    class FakeJob:
        method: str = "mse"
        contract: None = None

        def build(self, variant):
            return Candidate(variant, self.method.encode(), Precision("int8", "int8"))

        def with_method(self, method):
            return replace(self, method=method)

    class FakeEvaluation(Evaluation):
        def answers(self, candidate):
            return candidate

    class FakeCost:
        def filled(self, prepared, rows, plans):
            return [replace(row, p50_ms=3.0 if row.scheme == "openvino-all" else 2.0) for row in rows]

        def of(self, row):
            return row.p50_ms

    def error(_, candidate):
        return 30.0, errors[candidate.variant.scheme] + (candidate.content != b"entropy")

    monkeypatch.setattr(search.Paired, "from_predictions", lambda *_: paired)
    monkeypatch.setattr(search, "output_error", error)
    variants = [Variant("openvino", "int8", scheme) for scheme in errors]
    found = search.choose_method(FakeEvaluation(FakeJob(), [], None, None), variants, FakeCost())
    assert (found.candidate.variant.scheme, found.prepared.method) == (taken, "entropy")
    assert len(found.rows) == 8


def test_method_auto_takes_the_smallest_error_and_keeps_every_result(model, faces, tmp_path):
    result = build(model, faces, tmp_path / "x.onnx", faces=60, method="auto")
    rows = result.manifest.candidates
    assert [row["method"] for row in rows] == ["minmax", "percentile", "mse", "entropy"]
    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen["kl"] == min(row["kl"] for row in rows)
    assert result.manifest.calibration.method == chosen["method"]
    assert f"{chosen['label']} has the answers closest to float" in result.reason
    same = build(model, faces, tmp_path / "y.onnx", faces=60, method=chosen["method"])
    assert same.path.read_bytes() == result.path.read_bytes()


def test_auto_and_method_auto_together(model, faces, tmp_path, monkeypatch):
    """A method for each scheme by its answers, then the fastest of those and of the float engines."""
    found = (Variant("onnxruntime", "fp32"), variants_of("int8", "onnxruntime")[0])
    monkeypatch.setattr(building, "all_variants", lambda: found)
    settings = Quantisation(faces, faces=30, method="auto", max_drop=100, corrections=("equalise",))
    result = edgefer.build_engine(model, tmp_path / "x.onnx", precision="auto", quantisation=settings)
    rows = result.manifest.candidates
    assert [row.to_dict() for row in result.candidates] == list(rows)
    timed = [row for row in rows if row["p50_ms"] is not None]
    assert [row["precision"] for row in timed] == ["fp32", "int8"]
    assert sum(row["chosen"] for row in rows) == 1
    others = [row for row in rows if row["p50_ms"] is None]
    assert {timed[1]["method"], *(row["method"] for row in others)} == {"minmax", "percentile", "mse", "entropy"}
    engine = tmp_path / "x.candidates" / f"onnxruntime-int8-{found[1].scheme}.onnx"
    assert read_manifest(engine).calibration.method == timed[1]["method"]
    inside = read_manifest(engine)
    assert inside.agreement["images"] == len(faces.split("val")), "what was evaluated on tells the agreement too"
    assert result.manifest.agreement == (inside.agreement if rows[1]["chosen"] else None)
    monkeypatch.setattr(
        building, "timed", lambda rows, *_: [replace(row, p50_ms=1.0 + (row.scheme is None)) for row in rows]
    )
    again = building.retune(tmp_path / "x.onnx")
    assert again.manifest.agreement == inside.agreement == again.agreement.to_dict()
    assert f"agreement with float: {100 * again.agreement.share:.1f} %" in again.summary()
    assert "accuracies and agreement of the one that built" in again.reason
    about = manifest_path(engine)
    about.write_text(json.dumps({**json.loads(about.read_text()), "agreement": None}))
    assert "not measured: the candidates do not tell it" in building.retune(tmp_path / "x.onnx").summary()
    assert [row.method for row in again.candidates] == [row["method"] for row in rows]
    assert [row.p50_ms is None for row in again.candidates] == [row["p50_ms"] is None for row in rows]


def test_equalisation_does_not_depend_on_which_faces_come_first(model, faces, monkeypatch):
    """Batches may grow from silence to large values: the norm goes on in the larger unit."""
    proto, contract = load_model(model)
    some = faces.split("train").subset(np.arange(60))
    forwards = equalising_factors(proto, contract, some)
    batches = [images for images, _ in some.batches(20, contract)]
    dark = [np.zeros_like(batches[0])]
    for order in (batches[::-1], [*batches[1:], batches[0]]):
        monkeypatch.setattr(type(some), "batches", lambda self, size, contract, order=order: ((b, None) for b in order))
        again = equalising_factors(proto, contract, some)
        assert forwards.keys() == again.keys()
        for name, scales in forwards.items():
            np.testing.assert_allclose(again[name], scales, rtol=1e-4)
    monkeypatch.setattr(type(some), "batches", lambda self, size, contract: ((b, None) for b in dark))
    assert all(
        (scales <= 1).all() and (scales > 0).all() for scales in equalising_factors(proto, contract, some).values()
    )
