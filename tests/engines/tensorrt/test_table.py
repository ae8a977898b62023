"""Calibration tables: the text that TensorRT's calibrators read."""

import struct

import pytest

from edgefer.engines.tensorrt.calibration_table import from_table, to_table
from edgefer.engines.tensorrt.compat import target_of
from edgefer.errors import EdgeferError


def test_scales_are_big_endian_bits():
    """1/127 is 0x3c010204 in IEEE 754 single precision."""
    text = to_table({"Conv_0_out": 1 / 127, "Relu_0_out": 1.0}, target_of("8.6.1"), "minmax")
    assert text == "TRT-8601-MinMaxCalibration\nConv_0_out: 3c010204\nRelu_0_out: 3f800000\n"


@pytest.mark.parametrize(
    ("version", "number"), [("jetpack5", "8502"), ("jetpack6.0", "8602"), ("jetpack6", "100300"), ("10.13.3", "101303")]
)
def test_the_version_is_written_as_its_header_does(version, number):
    assert to_table({}, target_of(version), "entropy") == f"TRT-{number}-EntropyCalibration2\n"


def test_there_and_back():
    scales = {"a": 0.5, "b c": 1e-6, "d/e": 123.25}
    number, algorithm, found = from_table(to_table(scales, target_of("10.3"), "entropy"), "x")
    assert (number, algorithm) == (100300, "EntropyCalibration2")
    assert found == {name: struct.unpack(">f", struct.pack(">f", value))[0] for name, value in scales.items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.calib is no calibration table of TensorRT: it is empty"),
        ("hello\n", "it begins with 'hello'"),
        ("TRT-8601-LegacyCalibration\n", "it begins with 'TRT-8601-Legacy"),
        ("TRT-8601-MinMaxCalibration\nConv 3c010204\n", "t.calib, line 2 cannot be read: 'Conv 3c010204'"),
        ("TRT-8601-MinMaxCalibration\nConv: 3c01\n", "line 2 cannot be read"),
        ("TRT-8601-MinMaxCalibration\nConv: zzzzzzzz\n", "line 2 cannot be read"),
        ("TRT-8601-MinMaxCalibration\nConv: 7f800000\n", "line 2 cannot be read"),
        ("TRT-8601-MinMaxCalibration\nConv: bf800000\n", "line 2 cannot be read"),
        ("TRT-new-MinMaxCalibration\nConv: 3c010204\n", "it begins with 'TRT-new"),
        ("TRT-8601-MinMaxCalibration\n", "t.calib has no scale of any tensor"),
    ],
)
def test_damaged_tables(text, said):
    with pytest.raises(EdgeferError) as error:
        from_table(text, "t.calib")
    assert said in error.value.message
    assert error.value.hint


def test_names_that_the_format_cannot_hold():
    with pytest.raises(EdgeferError, match="'a:b' cannot stand in a calibration table"):
        to_table({"a:b": 1.0}, target_of("8.6"), "entropy")
