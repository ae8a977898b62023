import json
import math
import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgefer.models import architecture, create, names
from edgefer.models.repvgg import inference_form
from tests.models.zoo import EVERY

# Learnable numbers with 7 classes (ddamfn: and with 8), and million multiply-accumulates, as published.
PUBLISHED = {
    "lenet": (205_451, 1.5),
    "cnn_simple": (55_735_175, 121.8),
    "facecnn": (42_582_919, 128.5),
    "vgg_small": (36_159_399, 163.7),
    "vgg9": (18_149_639, 312.2),
    "resnet11": (11_176_839, 94.3),
    "mini_xception": (58_047, 5.5),
    "cliquenet": (1_527_199, 100),
    "ddamfn": (4_187_421, 539.6),
    # ImageNet's 132,863,336 and 11,689,512, whose last layers have 1,000 classes of 4,097 and 513 numbers.
    "vgg11": (132_863_336 - 993 * 4097, 7609 - 993 * 4096 / 1e6),
    "resnet18": (11_689_512 - 993 * 513, 1814 - 993 * 512 / 1e6),
}
ALL = {
    "lenet7",
    "vgg9_bn",
    "resnet14",
    "repvgg_small",
    "mini_xception_keras",
    "mini_xception_keras48",
    "big_xception",
    *PUBLISHED,
}


def on_meta(name: str, classes: int = 7) -> nn.Module:
    with torch.device("meta"):
        return create(name, classes).eval()


def macs(name: str) -> int:
    entry = architecture(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        inference_form(on_meta(name))(torch.zeros(1, entry.channels, entry.size, entry.size))
    return counter.get_total_flops() // 2


def test_the_networks_that_were_promised_are_there():
    assert set(names()) >= ALL


@pytest.mark.parametrize("name", names())
def test_counts(name):
    entry = architecture(name)
    counted = {
        classes: sum(p.numel() for p in inference_form(on_meta(name, classes)).parameters()) for classes in (7, 8)
    }
    assert (counted, macs(name)) == (entry.params, entry.macs)
    if name in PUBLISHED:
        params, million = PUBLISHED[name]
        assert entry.params[7] == params
        assert entry.macs / 1e6 == pytest.approx(million, rel=0.02)


def test_ddamfn_with_eight_classes_is_as_large_as_published():
    assert architecture("ddamfn").params[8] == 4_187_936


@pytest.mark.parametrize("name", EVERY)
def test_fresh_weights_give_finite_logits_that_depend_on_the_face(name):
    torch.manual_seed(0)
    entry = architecture(name)
    network = create(name, 8).eval()
    with torch.inference_mode():
        logits = network(torch.randn(3, entry.channels, entry.size, entry.size))
    assert logits.shape == (3, 8)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert logits.std(dim=0).max() > 1e-4


@pytest.mark.parametrize("name", EVERY)
def test_training_begins_near_the_loss_of_a_guess(name):
    torch.manual_seed(0)
    entry = architecture(name)
    faces = 0.5 * torch.randn(16, entry.channels, entry.size, entry.size)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(create(name)(faces), torch.arange(16) % 7)
    assert 0.9 * math.log(7) < loss.item() < 1.7 * math.log(7)


@pytest.mark.parametrize("name", EVERY)
def test_every_tensor_gets_a_gradient(name):
    torch.manual_seed(0)
    entry = architecture(name)
    network = create(name)
    loss = nn.functional.cross_entropy(
        network(torch.randn(2, entry.channels, entry.size, entry.size)), torch.tensor([0, 3])
    )
    loss.backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert unused == [n for n, _ in network.named_parameters() if known_unused(network, n)]


def known_unused(network: nn.Module, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in getattr(network, "UNUSED", ()))


@pytest.mark.parametrize(("name", "classes"), [("mini_xception", 7), ("ddamfn", 8)])
def test_tensor_names_are_the_published_ones(shared, name, classes):
    listed = json.loads((shared / "state_dicts.json").read_text())
    published = next(tensors for title, tensors in listed.items() if title.startswith(name))
    ours = {name: list(tensor.shape) for name, tensor in on_meta(name, classes).state_dict().items()}
    assert ours == published


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("vgg11", ["features.0.weight", "features.3.weight", "features.18.bias", "classifier.0.weight"]),
        ("resnet18", ["conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.0.downsample.1.running_var"]),
    ],
)
def test_imagenet_networks_have_torchvisions_names(name, some):
    ours = on_meta(name).state_dict()
    assert set(some) <= set(ours)
    assert len(ours) == {"vgg11": 22, "resnet18": 122}[name]
    last = {"vgg11": "classifier.6", "resnet18": "fc"}[name]
    assert list(ours)[-2:] == [f"{last}.weight", f"{last}.bias"]


def test_mini_xception_sees_an_odd_size_as_published():
    # 48 → 46 → 44 by the base, then each module halves and rounds up: 22, 11, 6, 3.
    sizes = []
    network = create("mini_xception").eval()
    for part in (network.base, network.module1, network.module2, network.module3, network.module4):
        part.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    network(torch.zeros(1, 1, 48, 48))
    assert sizes == [44, 22, 11, 6, 3]


def test_mini_xception_has_no_activation_after_the_sum():
    torch.manual_seed(0)
    network = create("mini_xception").eval()
    assert (network.module4(torch.randn(1, 64, 6, 6)) < 0).any()
