"""Implicit quantisation: tables of our ranges, and everything about them that is refused."""

from types import SimpleNamespace

import pytest

import edgefer
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.inputs import parse_cache
from edgefer.engines.tensorrt.options import Batches, BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model
from edgefer.optimize import tensorrt
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.optimize.tensorrt import read_cache
from edgefer.optimize.tensorrt_file import prepare_file

from .tensorrt_files import facts, write


@pytest.fixture
def model(mini_xception):
    return mini_xception


@pytest.fixture
def calib(synthetic_set):
    return synthetic_set


def test_a_calibration_table_from_our_ranges(model, calib, tmp_path):
    result = write(
        *(model, tmp_path / "x.onnx", "int8+fp16", "jetpack6", calib),
        **{"calibrator": "entropy", "dla": 0, "gpu_fallback": True, "max_batch": 1},
    )
    assert facts(tmp_path / "x.onnx") == {"opset": 17, "fp16": False, "q": 0, "precision": "fp32"}
    text = (tmp_path / "x.calib").read_text()
    assert text.startswith("TRT-100300-EntropyCalibration2\n")
    number, algorithm, scales = parse_cache(text, "x.calib")
    assert (number, algorithm) == (100300, "EntropyCalibration2")
    implicit = BuilderOptions(calibrator="entropy")
    prepared = prepare_file(model, load_model(model), "int8+fp16", target_of("jetpack6"), Quantisation(calib), implicit)
    tops = {name: max(-h.minimum, h.maximum) / 127 for name, h in prepared.ranges.tensors.items()}
    assert len(set(tops) & set(scales)) > 20
    for name in set(tops) & set(scales):
        assert 0 < scales[name] <= tops[name] * 1.0001
    summary = result.summary()
    assert "--useDLACore=0 --allowGPUFallback" in summary.replace("--fp16 ", "")
    assert "--calib=x.calib" in summary
    assert "--calibrator entropy --gpu-fallback --calib-cache x.calib" in summary


def table_of(number="100300", algorithm="EntropyCalibration2"):
    return f"TRT-{number}-{algorithm}\nfaces: 3c010204\n"


@pytest.mark.parametrize(
    ("given", "table", "said", "hint"),
    [
        ({"onnx_only": True}, table_of(), "--onnx-only writes a calibration cache, and t.calib is one", "--calib DATA"),
        ({"data": "faces.npz"}, table_of(), "--calib and --calib-cache both set the ranges", "leave out one"),
        ({}, table_of(algorithm="MinMaxCalibration"), "t.calib is a table of MinMaxCalibration", "--calibrator minmax"),
        ({}, table_of("8602"), "written for another TensorRT (TRT-8602) than TensorRT 10.3.0", "--onnx-only --for"),
        ({}, "TRT-100300-EntropyCalibration2\nfaces: 3c01", "line 2 cannot be read", "write it again"),
        ({}, None, "t.calib cannot be read", "check the path"),
        ({"builder": {"calibrator": "entropy"}}, None, "--calibrator needs faces, or a cache", "--calib-cache x.calib"),
        (
            {"builder": {"calibrator": "entropy"}, "data": "faces.npz", "method": "mse"},
            *(None, "--method has no effect with --calibrator: TensorRT's own calibrator", "leave it out"),
        ),
        (
            {"builder": {"calibrator": "minmax"}, "data": "faces.npz", "onnx_only": True, "version": "jetpack5"},
            *(None, "only trtexec builds, and it reads tables of the entropy calibrator", "--calibrator entropy"),
        ),
    ],
)
def test_ranges_that_would_be_ignored_are_refused(model, tmp_path, monkeypatch, given, table, said, hint):
    """Before anything is read of the faces, and whatever TensorRT is here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tensorrt, "import_tensorrt", lambda rtx: (None, target_of("10.3")))
    if table is not None:
        (tmp_path / "t.calib").write_text(table)
    given = {"version": "jetpack6", "builder": {"calibrator": "entropy", "calib_cache": "t.calib"}, **given}
    onnx_only = given.pop("onnx_only", False)
    target = BuildTarget("tensorrt", version=given.pop("version"), builder=given.pop("builder"))
    output, settings = "x.onnx" if onnx_only else "x.engine", Quantisation(**given)
    with pytest.raises(EdgeferError) as error:
        edgefer.build_engine(
            model, output, precision="int8+fp16", quantisation=settings, target=target, onnx_only=onnx_only
        )
    assert said in error.value.message
    assert hint in error.value.hint
    assert not (tmp_path / output).exists()


def test_a_table_of_another_patch_is_headed_as_this_one(tmp_path):
    (tmp_path / "t.calib").write_text(table_of("8600"))
    assert read_cache(tmp_path / "t.calib", "entropy", target_of("8.6.2")).decode() == table_of("8602")


def test_trtexec_takes_no_table_of_the_minmax_calibrator(model, calib, tmp_path):
    text = write(model, tmp_path / "x.onnx", "int8", "jetpack6", calib, calibrator="minmax").summary()
    assert "edgefer build-engine x.onnx --int8" in text
    assert "trtexec reads tables of the entropy calibrator only" in text
    assert "--saveEngine" not in text
    assert (tmp_path / "x.calib").read_text().startswith("TRT-100300-MinMaxCalibration\n")


def test_a_table_that_cannot_be_written_leaves_no_file(model, calib, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt, "table_scales", lambda *_: {"a:0": 1.0})
    with pytest.raises(EdgeferError, match="'a:0' cannot stand in a calibration table"):
        write(model, tmp_path / "x.onnx", "int8", "jetpack6", calib, calibrator="entropy")
    assert list(tmp_path.iterdir()) == []


class FakeBase:
    """A fake of TensorRT's calibrators, which are base classes only."""


def test_the_record_says_how_many_faces_the_calibrator_gets(model, calib, monkeypatch, capfd):
    """It takes whole batches: of 21 faces 16 fill two of 8."""
    fake = SimpleNamespace(IInt8EntropyCalibrator2=FakeBase, IInt8MinMaxCalibrator=FakeBase)
    monkeypatch.setattr(tensorrt, "import_tensorrt", lambda rtx: (fake, target_of("10.3")))
    options = BuilderOptions(Batches(8, 8, 8), calibrator="entropy")
    faces = Quantisation(calib, faces=21)
    loaded = load_model(model)
    prepared = prepare_file(model, loaded, "int8", target_of("10.3"), faces, options, observe=False)
    with tensorrt.calibrator_for(prepared, options, faces) as (calibrator, record):
        assert calibrator.get_batch_size() == 8
        batches = list(calibrator._faces)
    assert [len(batch) for batch in batches] == [8, 8]
    assert (record.n, len(record.face_hashes), record.method) == (16, 16, "tensorrt-entropy")
    assert "calibrating with 16 of 21 faces: as many as fill batches of 8" in capfd.readouterr().err
    with (
        pytest.raises(EdgeferError, match="21 faces do not fill one batch of 64") as error,
        tensorrt.calibrator_for(prepared, BuilderOptions(Batches(64, 64, 64), calibrator="entropy"), faces),
    ):
        pass
    assert "--calib-faces 64" in error.value.hint
