import hashlib

import pytest
import torch

from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.models import weights as subject
from edgefer.models.weights import load_network, load_weights, met_by_shipped, save_weights, shipped, shipped_for

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture
def network():
    torch.manual_seed(3)
    return create("mini_xception")


@pytest.fixture
def saved(tmp_path, network):
    path = tmp_path / "w.safetensors"
    save_weights(path, network.state_dict(), default_contract("mini_xception", SEVEN))
    return path


def refused(call, *args, **kwargs) -> EdgeferError:
    with pytest.raises(EdgeferError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_round_trip(saved, network):
    loaded, contract, weights = load_network(saved)
    assert not loaded.training
    assert contract == default_contract("mini_xception", SEVEN)
    assert weights.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_channels_last_tensors_are_written_as_any_other(tmp_path, network):
    path = tmp_path / "w.safetensors"
    wanted = network.state_dict()["base.3.weight"].clone()
    network.to(memory_format=torch.channels_last)
    save_weights(path, network.state_dict(), default_contract("mini_xception", SEVEN))
    assert torch.equal(load_weights(path).state["base.3.weight"], wanted)


def test_saving_under_another_suffix(tmp_path, network):
    error = refused(save_weights, tmp_path / "w.pth", network.state_dict(), default_contract("mini_xception", SEVEN))
    assert error.message == "weights are written as .safetensors, not as w.pth"
    assert error.hint == f"-o {tmp_path / 'w.safetensors'}"
    assert not (tmp_path / "w.pth").exists()


def test_a_failed_write_leaves_nothing(tmp_path, network, monkeypatch):
    def fail(path, content):
        with path.open("wb") as stream:
            stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    contract = default_contract("mini_xception", SEVEN)
    error = refused(save_weights, tmp_path / "w.safetensors", network.state_dict(), contract)
    assert "No space left on device" in error.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_torch_files(tmp_path, network, key, suffix):
    path = tmp_path / f"w{suffix}"
    torch.save(network.state_dict() if key is None else {"epoch": 3, key: network.state_dict()}, path)
    assert load_weights(path).contract is None
    loaded, contract, _ = load_network(path, "mini_xception", SEVEN)
    assert torch.equal(loaded.conv.weight, network.conv.weight)
    assert contract.labels == SEVEN


def test_the_prefix_of_data_parallel_is_dropped(tmp_path, network):
    path = tmp_path / "w.pth"
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, path)
    assert set(load_weights(path).state) == set(network.state_dict())


def test_a_pickled_module_is_not_run(tmp_path, network):
    path = tmp_path / "w.pth"
    torch.save(network, path)
    error = refused(load_weights, path)
    assert "is a pickled module, not a state dict" in error.message
    assert "torch.save(model.state_dict(), 'weights.pth')" in error.hint


def test_a_pickled_module_nested_under_a_key(tmp_path, network):
    path = tmp_path / "w.pth"
    torch.save({"model": network}, path)
    assert "pickled module" in refused(load_weights, path).message


def test_a_dict_of_other_things(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3, "net": {"a": torch.zeros(2)}}, path)
    error = refused(load_weights, path)
    assert "epoch, net are no tensor" in error.message
    assert "state_dict, model_state_dict, model" in error.hint


def test_a_lone_tensor(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(torch.zeros(3), path)
    assert "holds a Tensor, not a state dict" in refused(load_weights, path).message


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file(tmp_path, network, saved, suffix, keep):
    whole = saved
    if suffix == ".pth":
        whole = tmp_path / "whole.pth"
        torch.save(network.state_dict(), whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    error = refused(load_weights, cut)
    assert f"{cut} cannot be read as weights" in error.message
    assert "cut short" in error.hint


def test_a_damaged_list_of_faces(tmp_path, network):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    metadata = default_contract("mini_xception", SEVEN).to_metadata() | {subject.MET_KEYS["trained"]: "no base64!"}
    save_file(network.state_dict(), path, metadata)
    assert refused(load_weights, path).message.startswith(f"{path} cannot be read as weights: ")


def test_a_missing_file(tmp_path):
    error = refused(load_weights, tmp_path / "no.safetensors")
    assert error.message == f"there are no weights {tmp_path / 'no.safetensors'}"
    assert "check the path" in error.hint


def test_another_suffix(tmp_path):
    path = tmp_path / "w.h5"
    path.write_bytes(b"x")
    assert refused(load_weights, path).hint.startswith("use .safetensors, .pth or .pt; of Keras files")


def test_weights_of_another_architecture(saved):
    error = refused(load_network, saved, "lenet")
    assert "holds weights of 'mini_xception', and 'lenet' was asked for" in error.message
    assert "--model mini_xception" in error.hint


def test_an_unknown_architecture_in_the_contract(tmp_path, network):
    contract = default_contract("mini_xception", SEVEN)
    path = tmp_path / "w.safetensors"
    save_weights(path, network.state_dict(), type(contract)(**{**contract.__dict__, "architecture": "elsewhere"}))
    assert refused(load_network, path).message == "no network is called 'elsewhere'"


def test_classes_in_another_order(saved):
    error = refused(load_network, saved, classes=SEVEN[::-1])
    assert "is for the classes angry, disgust" in error.message
    assert "the order counts" in error.hint


@pytest.mark.parametrize(("model", "classes", "lacking"), [(None, SEVEN, "network"), ("lenet", None, "classes")])
def test_a_file_that_says_too_little(tmp_path, network, model, classes, lacking):
    path = tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    error = refused(load_network, path, model, classes)
    assert f"does not say which {lacking} it is for" in error.message
    assert "--labels a,b,c" in error.hint


def test_foreign_safetensors_have_no_contract(tmp_path, network):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    assert load_weights(path).contract is None
    assert load_network(path, "mini_xception", SEVEN)[1].architecture == "mini_xception"


def test_tensors_that_do_not_fit_are_listed_by_name(tmp_path, network):
    state = network.state_dict()
    del state["conv.bias"]
    state["head.bias"] = torch.zeros(7)
    state["base.3.weight"] = torch.zeros(8, 8, 5, 5)
    path = tmp_path / "w.pth"
    torch.save(state, path)
    error = refused(load_network, path, "mini_xception", SEVEN)
    assert error.message == (
        f"{path} does not fit mini_xception with 7 classes: 1 missing: conv.bias; 1 unknown: head.bias; "
        "1 misshapen: base.3.weight (8×8×5×5 instead of 8×8×3×3)"
    )


def test_eight_classes_do_not_fit_seven(tmp_path, network):
    path = tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    error = refused(load_network, path, "mini_xception", (*SEVEN, "contempt"))
    assert "2 misshapen: conv.weight (7×128×3×3 instead of 8×128×3×3), conv.bias (7 instead of 8)" in error.message


def test_a_long_list_is_cut(tmp_path, network):
    path = tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    assert " and " in refused(load_network, path, "lenet", SEVEN).message
    assert "more" in refused(load_network, path, "lenet", SEVEN).message


def test_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "SHIPPED", tmp_path)
    assert shipped("lenet") is None
    (tmp_path / "lenet.safetensors").write_bytes(b"x")
    assert shipped("lenet") == tmp_path / "lenet.safetensors"
    assert shipped(str(tmp_path / "lenet")) is None  # a path is no name
    assert shipped("../lenet") is None


def test_weights_that_ship_are_read_by_name(saved, tmp_path, network, monkeypatch):
    monkeypatch.setattr(subject, "SHIPPED", saved.parent)
    assert load_network("w")[1].architecture == "mini_xception"
    assert refused(load_weights, "v").message == "there are no weights v"


def test_the_faces_that_trained_and_chose_travel_with_the_weights(tmp_path, network, monkeypatch):
    faces = ["00ff00ff00ff00ff", "abcdef0123456789", "0123456789abcdef"]
    contract, state = default_contract("mini_xception", SEVEN), network.state_dict()
    save_weights(tmp_path / "w.safetensors", state, contract, {"trained": faces, "chose": faces[:1]})
    met = {"trained": {face[:10] for face in faces}, "chose": {"00ff00ff00"}}
    loaded = load_weights(tmp_path / "w.safetensors")
    assert (loaded.met, loaded.seen) == (met, met["trained"])
    save_weights(tmp_path / "v.safetensors", state, contract)
    assert load_weights(tmp_path / "v.safetensors").met == {}
    monkeypatch.setattr(subject, "SHIPPED", tmp_path)
    assert met_by_shipped(loaded.sha256) == met
    assert met_by_shipped("") == met_by_shipped("0" * 64) == {}


def test_shipped_weights_belong_to_the_network_with_the_longest_fitting_name(tmp_path, monkeypatch):
    for name in ("mini_xception_64", "mini_xception", "mini_xception_keras", "lenet7", "elsewhere"):
        (tmp_path / f"{name}.safetensors").touch()
    monkeypatch.setattr("edgefer.models.weights.SHIPPED", tmp_path)
    assert shipped_for("mini_xception") == ("mini_xception", "mini_xception_64")
    assert shipped_for("mini_xception_keras") == ("mini_xception_keras",)
    assert shipped_for("lenet") == ()
