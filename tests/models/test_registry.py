import subprocess
import sys

import pytest

from edgefer.errors import EdgeferError
from edgefer.models import architecture, create, default_contract, names


def test_names_are_sorted_and_each_has_an_entry():
    assert {"lenet", "mini_xception", "resnet11", "vgg9"} <= set(names())
    assert list(names()) == sorted(names())
    assert [architecture(name).name for name in names()] == list(names())


def test_unknown_name_is_answered_with_a_close_one():
    with pytest.raises(EdgeferError) as caught:
        architecture("mini_exception")
    assert caught.value.message == "no network is called 'mini_exception'"
    assert caught.value.hint.startswith("did you mean 'mini_xception'? known: ")
    assert "resnet11" in caught.value.hint


def test_weights_are_no_network():
    with pytest.raises(EdgeferError) as caught:
        architecture("mini_xception_64")
    wanted = "those are weights of mini_xception: --model mini_xception --weights mini_xception_64"
    assert caught.value.hint == wanted


def test_a_far_name_gets_no_guess():
    with pytest.raises(EdgeferError) as caught:
        architecture("zzz")
    assert caught.value.hint.startswith("known: ")


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_too_few_classes(count):
    with pytest.raises(EdgeferError, match=f"lenet with {count} class") as caught:
        create("lenet", count)
    assert "at least 2" in caught.value.hint


def test_default_contract():
    contract = default_contract("mini_xception", ["sad", "happy"])
    assert contract.labels == ("sad", "happy")
    assert contract.face_shape == (48, 48, 1)
    assert contract.architecture == "mini_xception"
    a, b = contract.normalisation.affine()
    assert a[0] * 255 + b[0] == pytest.approx(1.0)
    assert b[0] == -1.0


def test_registry_and_weights_do_not_import_torch():
    code = "import sys; from edgefer.models.weights import shipped; shipped('lenet'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
