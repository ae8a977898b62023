import json

import numpy as np
import pytest

from edgefer.contract import METADATA_KEY, Contract, Normalisation
from edgefer.errors import EdgeferError


def contract(**changes):
    values = {
        "labels": ("angry", "happy"),
        "height": 48,
        "width": 40,
        "channels": 1,
        "normalisation": Normalisation(mean=(0.5,), std=(0.25,)),
        "architecture": "lenet",
        "crop_margin": 0.1,
        "lineage": {"weights_sha256": "ab"},
    }
    return Contract(**{**values, **changes})


def test_round_trip_through_metadata():
    metadata = contract().to_metadata()
    assert json.loads(metadata[METADATA_KEY])["labels"] == ["angry", "happy"]
    assert Contract.from_metadata(metadata, "x.onnx") == contract()


def test_whether_it_flips_stands_where_it_is():
    assert "test_time_flip" not in contract().to_dict()  # as files from before had it
    test_time_flip = contract(test_time_flip=True)
    assert test_time_flip.to_dict()["test_time_flip"] is True
    assert Contract.from_metadata(test_time_flip.to_metadata(), "x.onnx") == test_time_flip != contract()
    with pytest.raises(EdgeferError, match="test_time_flip is 'false', not true or false"):
        Contract.from_dict({**contract().to_dict(), "test_time_flip": "false"})


def test_affine_is_the_normalisation():
    scale, shift = contract().normalisation.affine()
    pixels = np.float32([0, 128, 255])
    np.testing.assert_allclose(scale * pixels + shift, (pixels / 255 - 0.5) / 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a",)}, "two or more"),
        ({"labels": ("a", "a")}, "different labels"),
        ({"labels": ("a", " ")}, "a label that is ' '"),
        ({"labels": ("a", "\x1b[2J")}, "a label that is '.x1b"),
        ({"channels": 2}, "1 \\(grey\\) or 3"),
        ({"height": 0}, "positive size"),
        ({"channels": 3}, "mean has 1 values for 3 channels"),
        ({"normalisation": Normalisation(std=(0.0,))}, "std must be positive"),
    ],
)
def test_impossible_contracts(changes, message):
    with pytest.raises(EdgeferError, match=message):
        contract(**changes)


def test_a_file_without_a_contract_says_how_to_make_one():
    with pytest.raises(EdgeferError, match="foreign.onnx carries no edgefer contract") as fault:
        Contract.from_metadata({}, "foreign.onnx")
    assert "edgefer export" in fault.value.hint


@pytest.mark.parametrize("text", ["{", "{}", '{"labels": 3}', "[]"])
def test_a_damaged_contract(text):
    with pytest.raises(EdgeferError, match="contract"):
        Contract.from_metadata({METADATA_KEY: text}, "x.onnx")
