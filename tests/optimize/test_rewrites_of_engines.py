"""Engines are made of the rewritten graph, and say so."""

import pytest

from edgefer.data import save_npz, synthetic_faces
from edgefer.graph.onnx_file import serialise, stamp
from edgefer.manifest import read_manifest
from edgefer.optimize.build import build_engine
from edgefer.optimize.settings import BuildTarget, Quantisation
from tests.graph.test_rewrite import CONTRACT, mixed


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    network = mixed()
    stamp(network, CONTRACT, "fp32")
    (folder / "m.onnx").write_bytes(serialise(network))
    images, labels = synthetic_faces(900, seed=1, size=24)[:2]
    save_npz(folder / "d.npz", images[labels < 3], labels[labels < 3], CONTRACT.labels)
    return folder


@pytest.mark.parametrize(
    ("runtime", "precision"), [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "int8")]
)
def test_depthwise_convolutions_are_merged_in_every_engine(model, tmp_path, runtime, precision):
    settings = Quantisation(str(model / "d.npz") if precision == "int8" else None)
    out = tmp_path / "e.onnx"
    target = BuildTarget("cpu", runtime)
    build_engine(model / "m.onnx", out, precision=precision, quantisation=settings, target=target)
    assert read_manifest(out).rewrites["merge-depthwise"] == 1
    assert b"Split" not in out.read_bytes()


def test_a_pass_left_out_is_left_out_of_every_engine(model, tmp_path):
    out = tmp_path / "e.onnx"
    build_engine(model / "m.onnx", out, precision="fp32", no_rewrite=["merge-depthwise"])
    assert read_manifest(out).rewrites == {}
    assert b"Split" in out.read_bytes()
