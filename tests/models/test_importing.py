import json
import re

import pytest
import torch

from edgefer.data.classes import AFFECTNET
from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.models.importing import Stated, import_weights, patterns
from edgefer.models.weights import load_network, load_weights, save_weights

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
EIGHT = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")


def refused(*args, **kwargs) -> EdgeferError:
    with pytest.raises(EdgeferError) as caught:
        import_weights(*args, **kwargs)
    return caught.value


@pytest.fixture
def out(tmp_path):
    return tmp_path / "w.safetensors"


def fresh(name, classes=7):
    torch.manual_seed(4)
    return create(name, classes).state_dict()


def saved(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_the_published_layout_of_mini_xception(tmp_path, out):
    state = fresh("mini_xception")
    result = import_weights(saved(tmp_path, state), "mini_xception", out)
    assert (result.tensors, result.unused, result.fresh) == (116, (), ())
    assert result.assumed_classes
    loaded, contract, _ = load_network(out)
    assert contract.labels == SEVEN
    assert contract.face_shape == (48, 48, 1)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in state.items())


def test_the_published_layout_of_ddamfn(tmp_path, out, shared):
    listed = json.loads((shared / "state_dicts.json").read_text())
    shapes = next(tensors for title, tensors in listed.items() if title.startswith("ddamfn"))
    torch.manual_seed(1)
    state = {
        name: torch.rand(shape) if shape else torch.tensor(7)  # the counters
        for name, shape in shapes.items()
    }
    result = import_weights(saved(tmp_path, {"iter": 3, "model_state_dict": state}), "ddamfn", out)
    assert result.tensors == len(state) == 1190
    assert len(result.unused) == 221
    assert all(re.search(r"conv_dw\.(bn|prelu)\.|CoordAtt\.Linear\.|^bn\.", name) for name in result.unused)
    assert result.contract.labels == AFFECTNET
    assert result.assumed_classes
    assert result.contract.face_shape == (112, 112, 3)
    assert result.contract.normalisation.mean == (0.485, 0.456, 0.406)
    loaded = load_weights(out).state
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert patterns(result.unused) == (
        "features.*.conv_dw.bn (15 tensors)",
        "features.*.conv_dw.prelu (3 tensors)",
        "features.*.model.*.conv_dw.bn (155 tensors)",
        "features.*.model.*.conv_dw.prelu (31 tensors)",
        "cat_head*.CoordAtt.Linear.conv (2 tensors)",
        "cat_head*.CoordAtt.Linear.bn (10 tensors)",
        "bn (5 tensors)",
    )


def test_ddamfn_without_the_tensors_that_nobody_uses(tmp_path, out):
    state = fresh("ddamfn", 8)
    whole = dict(state)
    unused = [name for name in state if ".conv_dw.bn." in name]
    for name in unused:
        del state[name]
    result = import_weights(saved(tmp_path, state), "ddamfn", out)
    assert sorted(result.fresh) == sorted(name for name in unused if not name.endswith("tracked"))
    loaded = load_network(out)[0].state_dict()
    assert set(loaded) == set(whole)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_imagenets_head_is_dropped_when_asked(tmp_path, out, name):
    head = {"resnet18": "fc", "vgg11": "classifier.6"}[name]
    state = fresh(name, 1000)
    file = saved(tmp_path, {n: t for n, t in state.items() if not n.endswith("tracked")})  # as older files are
    error = refused(file, name, out)
    assert error.message == f"{file} has 1000 classes, whose names it does not say"
    assert "--drop-head" in error.hint
    error = refused(file, name, out, classes=SEVEN)
    width = {"resnet18": 512, "vgg11": 4096}[name]
    assert error.message == (
        f"{file} does not fit {name} with 7 classes: 2 misshapen: {head}.weight (1000×{width} instead of 7×{width}), "
        f"{head}.bias (1000 instead of 7); the file has {sum(not n.endswith('tracked') for n in state)} tensors"
    )
    assert "--drop-head" in error.hint
    assert not out.exists()
    result = import_weights(file, name, out, drop_head=True)
    assert result.fresh == (f"{head}.weight", f"{head}.bias")
    assert result.contract.labels == SEVEN
    assert result.contract.face_shape == (224, 224, 3)
    loaded = load_network(out)[0].state_dict()
    for tensor, value in state.items():
        if tensor.rpartition(".")[0] != head and not tensor.endswith("tracked"):
            assert torch.equal(loaded[tensor], value), tensor
    assert loaded[f"{head}.weight"].shape == (7, width)
    assert loaded[f"{head}.weight"].std() > 0


def test_a_fresh_head_comes_from_its_seed_and_leaves_the_callers_generator(tmp_path):
    file = saved(tmp_path, fresh("mini_xception"))
    before = torch.get_rng_state()
    heads = []
    for index, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{index}.safetensors"
        import_weights(file, "mini_xception", path, classes=EIGHT, drop_head=True, seed=seed)
        heads.append(load_weights(path).state["conv.weight"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (8, 128, 3, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_the_size_for_the_same_answers(tmp_path, out):
    torch.manual_seed(4)
    network = create("resnet11").eval()
    contract = default_contract("resnet11", SEVEN)
    save_weights(tmp_path / "whole.safetensors", network.state_dict(), contract, {"trained": ["a" * 64]})
    import_weights(tmp_path / "whole.safetensors", "resnet11", out, fp16=True)
    assert out.stat().st_size < 0.51 * (tmp_path / "whole.safetensors").stat().st_size
    kept = load_weights(out)
    assert kept.seen == {"a" * 10}  # an evaluation can still leave them out
    kinds = {(tensor.ndim > 1, tensor.dtype) for name, tensor in kept.state.items() if not name.endswith("tracked")}
    assert kinds == {(True, torch.float16), (False, torch.float32)}
    loaded = load_network(out)[0]
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    faces = torch.rand(4, 1, 48, 48)
    with torch.inference_mode():
        assert torch.allclose(loaded(faces), network(faces), atol=2e-3)


def test_weights_that_ship_by_name(out):
    result = import_weights("lenet", "lenet", out, classes=EIGHT, drop_head=True)
    assert result.contract.lineage["imported_from"] == "lenet.safetensors"
    assert load_network(out)[1].labels == EIGHT


def test_the_test_time_flip_is_the_files_unless_it_is_said(tmp_path, out):
    torch.manual_seed(4)
    network, other = create("lenet").eval(), tmp_path / "other.safetensors"
    save_weights(tmp_path / "plain.safetensors", network.state_dict(), default_contract("lenet", SEVEN))
    assert not import_weights(tmp_path / "plain.safetensors", "lenet", out).contract.test_time_flip
    assert import_weights(
        tmp_path / "plain.safetensors", "lenet", out, stated=Stated(test_time_flip=True)
    ).contract.test_time_flip
    assert load_network(out)[1].test_time_flip
    assert import_weights(out, "lenet", other).contract.test_time_flip
    assert not import_weights(out, "lenet", other, stated=Stated(test_time_flip=False)).contract.test_time_flip


def test_weights_that_half_cannot_hold(tmp_path, out):
    state = fresh("lenet")
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    state[name].view(-1)[0] = -70_000.0
    error = refused(saved(tmp_path, state), "lenet", out, fp16=True)
    assert error.message == f"a weight of {name} is 7e+04, and FP16 ends at 65,504"
    assert not out.exists()


def test_eight_classes_are_ferplus(tmp_path, out):
    contract = import_weights(saved(tmp_path, fresh("mini_xception", 8)), "mini_xception", out).contract
    assert contract.labels == EIGHT


def test_classes_by_name(tmp_path, out):
    result = import_weights(saved(tmp_path, fresh("lenet", 3)), "lenet", out, classes=("a", "b", "c"))
    assert not result.assumed_classes
    assert load_network(out)[1].labels == ("a", "b", "c")


def test_missing_extra_and_misshapen_tensors_are_listed_by_name(tmp_path, out):
    state = fresh("lenet")
    del state["classifier.4.bias"], state["features.0.weight"]
    state["features.3.weight"] = torch.zeros(16, 6, 3, 3)
    state["extra.weight"] = torch.zeros(1)
    file = saved(tmp_path, state)
    error = refused(file, "lenet", out)
    assert error.message == (
        f"{file} does not fit lenet with 7 classes: 2 missing: features.0.weight, classifier.4.bias; "
        "1 unknown: extra.weight; 1 misshapen: features.3.weight (16×6×3×3 instead of 16×6×5×5); "
        f"the file has {len(state)} tensors"
    )
    assert error.hint == "pass the --model that the file is of: see `edgefer models`"
    assert not out.exists()


def test_a_file_of_another_network_is_named_by_ten_tensors_of_each_kind(tmp_path, out):
    error = refused(saved(tmp_path, fresh("lenet7")), "mini_xception", out)
    assert "does not fit mini_xception with 7 classes: 102 missing: base.0.weight, " in error.message
    unknown = error.message.partition("; 14 unknown: ")[2]
    assert unknown.endswith(" and 4 more; the file has 14 tensors")
    assert unknown.partition(" and ")[0].split(", ") == list(fresh("lenet7"))[:10]
    assert error.hint.endswith("--model lenet7")


def test_a_missing_tensor_is_not_excused_by_dropping_the_head(tmp_path, out):
    state = fresh("lenet")
    del state["features.0.weight"], state["classifier.4.bias"]
    error = refused(saved(tmp_path, state), "lenet", out, drop_head=True)
    assert "1 missing: features.0.weight" in error.message


def test_half_precision_becomes_float32(tmp_path, out):
    state = {name: t.half() if t.is_floating_point() else t for name, t in fresh("lenet").items()}
    import_weights(saved(tmp_path, state), "lenet", out)
    assert {t.dtype for t in load_weights(out).state.values()} == {torch.float32}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers(tmp_path, out, value):
    state = fresh("lenet")
    state["features.0.bias"][2] = value
    error = refused(saved(tmp_path, state), "lenet", out)
    assert "has values that are no finite numbers in features.0.bias" in error.message
    assert "another checkpoint" in error.hint
    assert not out.exists()


def test_a_file_of_ours_keeps_its_classes_and_lineage(tmp_path, out):
    contract = default_contract("lenet", ("x", "y"))
    own = tmp_path / "own.safetensors"
    contract = type(contract)(**{**contract.__dict__, "lineage": {"trained_on": "somewhere"}})
    save_weights(own, fresh("lenet", 2), contract)
    result = import_weights(own, "lenet", out)
    assert result.contract.labels == ("x", "y")
    assert result.contract.lineage["trained_on"] == "somewhere"
    assert not result.assumed_classes
    assert "--model lenet" in refused(own, "mini_xception", out).hint


def test_unknown_networks_and_files(tmp_path, out):
    assert refused(tmp_path / "w.pth", "lenett", out).message == "no network is called 'lenett'"
    assert refused(tmp_path / "w.pth", "lenet", out).message == f"there are no weights {tmp_path / 'w.pth'}"
    assert refused(tmp_path / "w.h5", "big_xception", out).message == f"there are no weights {tmp_path / 'w.h5'}"
    (tmp_path / "w.txt").write_text("x")
    assert ".hdf5" in refused(tmp_path / "w.txt", "lenet", out).hint


def test_another_suffix_of_the_output(tmp_path):
    error = refused(saved(tmp_path, fresh("lenet")), "lenet", tmp_path / "o.pth")
    assert error.message == "weights are written as .safetensors, not as o.pth"


def test_one_class_is_refused(tmp_path, out):
    assert "lenet with 1 class" in refused(saved(tmp_path, fresh("lenet")), "lenet", out, classes=("a",)).message
    twice = refused(saved(tmp_path, fresh("lenet", 2)), "lenet", out, classes=("a", "a"))
    assert "two or more different labels" in twice.message
