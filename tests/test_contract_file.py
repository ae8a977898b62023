"""Contracts as TOML: what is read back, and every way in which one can be wrong."""

from dataclasses import replace

import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.contract_file import read_contract, render_contract, template
from edgefer.errors import EdgeferError

GOOD = """
architecture = "mine"
labels = ["a", "b"]
[input]
height = 32
width = 40
channels = 3
[normalisation]
scale = "1/255"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""


@pytest.fixture
def write(tmp_path):
    def to(text):
        path = tmp_path / "c.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to


def test_a_contract_is_read(write):
    contract = read_contract(write(GOOD))
    assert contract.face_shape == (32, 40, 3)
    assert contract.labels == ("a", "b")
    assert contract.normalisation.scale == 1 / 255
    assert contract.normalisation.std[1] == 0.224
    assert contract.crop_margin == 0.0
    assert not contract.test_time_flip


def test_what_is_rendered_is_read_back(write):
    norm = Normalisation(0.1, (0.25,), (3.0,))
    contract = Contract(("hé", 'qu"ote'), 4, 5, 1, norm, "x", 0.125, {"weights_sha256": "ab", "a key": "é"})
    assert read_contract(write(render_contract(contract, ["a note", ""]))) == contract
    test_time_flip = replace(contract, test_time_flip=True)
    assert read_contract(write(render_contract(test_time_flip))) == test_time_flip


def test_the_test_time_flip_is_true_or_false(write):
    with pytest.raises(EdgeferError, match="test_time_flip is 1, not true or false"):
        read_contract(write(f"test_time_flip = 1{GOOD}"))


FILLED = (
    ('architecture = ""', 'architecture = "m"', "architecture"),
    ("height = 0", "height = 4", "input.height"),
    ("width = 0", "width = 4", "input.width"),
    ("channels = 0", "channels = 1", "input.channels"),
    ("labels = []", 'labels = ["a", "b"]', "labels"),
    ("scale = 0.0\n", "scale = 1.0\n", "normalisation.scale"),
    ("\nmean = []", "\nmean = [0.0]", "normalisation.mean"),
    ("\nstd = []", "\nstd = [1.0]", "normalisation.std"),
)


@pytest.mark.parametrize("left", [None, *(key for _, _, key in FILLED)])
def test_the_template_asks_by_name_for_what_is_left_empty(write, left):
    text = template()
    for old, new, key in FILLED:
        assert text.count(old) == 1
        text = text if key == left else text.replace(old, new)
    if left is None:
        assert read_contract(write(text)).face_shape == (4, 4, 1)
        return
    with pytest.raises(EdgeferError, match=f"{left} is "):
        read_contract(write(text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mine"', '""', 'architecture is "", not a name for the network'),
        ('["a", "b"]', "[]", "labels is empty"),
        ('["a", "b"]', '["a"]', "two or more different labels"),
        ('["a", "b"]', '["a", 3]', 'labels is ["a", 3], not a list of class names'),
        ("height = 32", "height = 0", "input.height is 0, not a whole number of 1 or more"),
        ("height = 32", "height = 32.5", "input.height is 32.5"),
        ("height = 32", "height = true", "input.height is true"),
        ("height = 32", "", "lacks input.height"),
        ("channels = 3", "channels = 2", "1 (grey) or 3 (RGB) channels, not 2"),
        ("[0.485, 0.456, 0.406]", "[0.5]", "normalisation.mean has 1 values for 3 channels"),
        ("[0.485, 0.456, 0.406]", "0.5", "normalisation.mean is 0.5, not a list with one number per channel"),
        ("[0.229, 0.224, 0.225]", "[0.1, 0.0, 0.1]", "normalisation.std must be positive"),
        ('"1/255"', '"1/0"', 'normalisation.scale is "1/0", not a number other than 0, or a fraction'),
        ('"1/255"', '"255"', 'normalisation.scale is "255"'),
        ('"1/255"', "nan", "normalisation.scale is NaN"),
        ('"1/255"', "0", "normalisation.scale is 0"),
        ("[input]", "[inptu]", "unknown key 'inptu'"),
        ("height", "heigth", "unknown key 'input.heigth'"),
        ("[input]", 'input = "x"\n[in]', "unknown key 'in'"),
        ("labels =", "labels", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(write, old, new, message):
    assert old in GOOD
    with pytest.raises(EdgeferError) as caught:
        read_contract(write(GOOD.replace(old, new, 1)))
    assert message in caught.value.message
    assert "c.toml" in caught.value.message
    assert caught.value.hint


def test_close_keys_are_suggested(write):
    with pytest.raises(EdgeferError) as caught:
        read_contract(write(GOOD.replace("height", "heigth")))
    assert "did you mean 'input.height'?" in caught.value.hint


def test_files_that_are_none(write, tmp_path):
    with pytest.raises(EdgeferError, match="there is no contract") as caught:
        read_contract(tmp_path / "none.toml")
    assert "edgefer contract new" in caught.value.hint
    with pytest.raises(EdgeferError, match="not a text file"):
        read_contract(write(b"\xff\xfe\x81"))
    with pytest.raises(EdgeferError, match="cannot read the contract"):
        read_contract(tmp_path)
