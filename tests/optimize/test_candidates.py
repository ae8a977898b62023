"""A runtime that computes an INT8 file wrongly is found out before its engine is written."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import edgefer
from edgefer.engines.load import load_baseline
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.measure.disturbance import Disturbed
from edgefer.optimize import candidates
from edgefer.optimize.candidates import (
    ALLOWED_ERROR,
    CandidateResult,
    choose,
    error_of,
    only_faithful,
    variants_of,
    verdict,
)
from edgefer.optimize.prepared import prepare_model
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.report.optimization import print_candidates

OPENVINO = BuildTarget("cpu", "openvino")


def test_engines_that_differ_by_rounding_only_are_kept(model, faces):
    prepared = prepare_model(model, "int8", Quantisation(faces, faces=21))
    built = [
        prepared.build(variant) for runtime in ("onnxruntime", "openvino") for variant in variants_of("int8", runtime)
    ]
    assert only_faithful(built, prepared.contract) == built
    assert all(error_of(one, prepared.contract) < 0.05 for one in built)


def test_one_that_is_off_is_left_out_and_named(model, faces, tmp_path, monkeypatch, capsys):
    true = candidates.error_of

    def claimed(built, contract):
        return 0.24 if built.variant.scheme == wrong else true(built, contract)

    schemes = [variant.scheme for variant in variants_of("int8", "openvino")]
    if len(schemes) < 2:
        pytest.skip("this CPU has one scheme for OpenVINO: its eight-bit products saturate")
    monkeypatch.setattr(candidates, "error_of", claimed)
    for wrong in schemes:
        result = edgefer.build_engine(
            model, tmp_path / "x.onnx", precision="int8", quantisation=Quantisation(faces, faces=21), target=OPENVINO
        )
        said = " ".join(capsys.readouterr().err.split())
        assert f"({wrong}) is off by 0.24 of the logits' scale from what its file says: left out" in said
        assert result.candidates == ()


def test_nothing_is_written_where_none_is_right(model, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "error_of", lambda built, contract: float("nan"))
    with pytest.raises(EdgeferError, match="the runtime computes it wrongly") as caught:
        edgefer.build_engine(
            model, tmp_path / "x.onnx", precision="int8", quantisation=Quantisation(faces, faces=21), target=OPENVINO
        )
    assert caught.value.hint == "--runtime onnxruntime"
    assert not list(tmp_path.glob("x.onnx*"))


@pytest.mark.parametrize("scheme", [variant.scheme for variant in variants_of("int8", "openvino")])
def test_what_is_left_out_of_cliquenet_is_what_is_wrong(scheme, tmp_path):
    """OpenVINO 2026.4 computes one of its schemes wrongly; a version that does not may ship it."""
    pytest.importorskip("torch")
    prepared = prepare_model(edgefer.export("cliquenet", tmp_path / "m.onnx").path, "int8", Quantisation())  # its table
    built = prepared.build(next(v for v in variants_of("int8", "openvino") if v.scheme == scheme))
    images = golden_faces(prepared.contract, 40)
    with built.open(prepared.contract) as engine, load_baseline("cliquenet") as baseline:
        logits, wanted = engine.logits(images), baseline.logits(images)
    right = np.abs(logits - wanted).max() < 0.15 * np.abs(wanted).max()
    assert right == (error_of(built, prepared.contract) <= ALLOWED_ERROR)


def test_disturbed_candidates_are_shown_and_marked():
    busy = "other processes used 0.90 of 2 cores (chromium 0.88)"
    slow = CandidateResult("a", "onnxruntime", "fp32", None, 1, p50_ms=2.0, disturbed=Disturbed((busy,), (busy,)))
    fast = CandidateResult("b", "onnxruntime", "int8", "x86", 1, p50_ms=1.0, disturbed=Disturbed((), (busy,)))
    rows = choose([slow, fast])
    assert [CandidateResult.from_dict(json.loads(json.dumps(row.to_dict()))) for row in rows] == rows
    out = io.StringIO()
    print_candidates([row.to_dict() for row in rows], Console(file=out, width=110))
    first, second, *below = out.getvalue().splitlines()[1:]
    assert "~2.000" in first
    assert "~" not in second, "its median stands: only its tail was disturbed"
    assert below == [f"~ disturbed: {busy}"]
    assert verdict(rows) == "b is fastest here at 1 ms, 2.00× a."
    both = [replace(row, disturbed=Disturbed((busy,), (busy,), (busy,))) for row in rows]
    assert verdict(both) == "b is fastest here at ~1 ms, ~2.00× a."


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_the_manifest_says_which_faces_chose(model, faces, tmp_path, precision):
    settings = Quantisation(faces, faces=21, method="auto" if precision == "int8" else None)
    made = edgefer.build_engine(model, tmp_path / "x.onnx", precision=precision, quantisation=settings)
    chosen = set(made.manifest.choice_faces)
    assert chosen == {face[:10] for face in faces.split("val").face_hashes()}
    plain = edgefer.build_engine(
        model, tmp_path / "y.onnx", precision="int8", quantisation=Quantisation(faces, faces=21)
    )
    assert plain.manifest.choice_faces == (), "its images apart measured the agreement, and chose nothing"
