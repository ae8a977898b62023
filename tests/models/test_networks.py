import json
import math

import pytest
import torch
from torch import nn

from edgefer.models import architecture, create, names

# Learnable numbers with 7 classes, and million multiply-accumulates, as published.
PUBLISHED = {
    "lenet": (205_451, 1.5),
    "mini_xception": (58_047, 5.5),
    "resnet11": (11_176_839, 94.3),
    "vgg9": (18_149_639, 312.2),
}


def macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += (
            output[0].numel() * module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.weight.numel()
        )

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(torch.zeros(shape))
    return total


@pytest.mark.parametrize("name", names())
def test_counts(name):
    entry = architecture(name)
    for classes in (7, 8):
        network = create(name, classes)
        assert sum(p.numel() for p in network.parameters()) == entry.params[classes]
    seven = create(name)
    assert macs(seven, (1, entry.channels, entry.height, entry.width)) == entry.macs
    if name in PUBLISHED:
        params, million = PUBLISHED[name]
        assert entry.params[7] == params
        assert entry.macs / 1e6 == pytest.approx(million, rel=0.02)


@pytest.mark.parametrize("name", names())
def test_fresh_weights_give_finite_logits_that_depend_on_the_face(name):
    torch.manual_seed(0)
    entry = architecture(name)
    network = create(name, 8).eval()
    with torch.inference_mode():
        logits = network(torch.randn(3, entry.channels, entry.height, entry.width))
    assert logits.shape == (3, 8)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert logits.std(dim=0).max() > 1e-4


@pytest.mark.parametrize("name", names())
def test_training_begins_near_the_loss_of_a_guess(name):
    torch.manual_seed(0)
    entry = architecture(name)
    faces = 0.5 * torch.randn(16, entry.channels, entry.height, entry.width)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(create(name)(faces), torch.arange(16) % 7)
    assert 0.9 * math.log(7) < loss.item() < 1.7 * math.log(7)


@pytest.mark.parametrize("name", names())
def test_every_tensor_gets_a_gradient(name):
    torch.manual_seed(0)
    entry = architecture(name)
    network = create(name)
    loss = nn.functional.cross_entropy(
        network(torch.randn(2, entry.channels, entry.height, entry.width)), torch.tensor([0, 3])
    )
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_mini_xception_has_the_published_tensor_names(shared):
    listed = json.loads((shared / "state_dicts.json").read_text())
    published = next(tensors for title, tensors in listed.items() if title.startswith("mini_xception"))
    ours = {name: list(tensor.shape) for name, tensor in create("mini_xception").state_dict().items()}
    assert ours == published


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
