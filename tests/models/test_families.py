"""What is particular to one network."""

import numpy as np
import pytest
import torch
from torch import nn

from edgefer.models import create
from edgefer.models.ddamfn import attention_loss
from edgefer.models.keras_xception import same_pool


def randomised(network: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, so that a wrong one shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    return randomised(create("cliquenet")).blocks[0]


def test_a_clique_block_is_its_definition(block):
    torch.manual_seed(1)
    x = torch.randn(2, 64, 12, 12)

    def layer(parts, norm):
        total = sum(nn.functional.conv2d(source, kernel, padding=1) for source, kernel in parts)
        return torch.relu(norm(total))

    with torch.no_grad():
        layers = []
        for i in range(5):
            parts = [(x, block.entry[i])] + [(layers[j], block.kernel(j, i)) for j in range(i)]
            layers.append(layer(parts, block.norms1[i]))
        first = torch.cat(layers, 1)
        for i in range(5):
            parts = [(layers[j], block.kernel(j, i)) for j in range(5) if j != i]
            layers[i] = layer(parts, block.norms2[i])
        wanted = torch.cat(layers, 1)
        got = block(x)
    assert got.shape == (2, 180, 12, 12)
    assert torch.allclose(got, wanted, atol=1e-4)
    assert not torch.allclose(got, first, atol=1e-2)


def test_both_stages_share_the_kernels_between_layers(block):
    kernels = [p for name, p in block.named_parameters() if name.startswith(("entry", "between"))]
    assert sorted(tuple(k.shape) for k in kernels) == [(36, 36, 3, 3)] * 20 + [(36, 64, 3, 3)] * 5
    # A forward kernel (1 → 2) is in stage 1 and in stage 2, so it has a part in both norms' outputs.
    seen = []
    hooks = [
        norms[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        for norms in (block.norms1, block.norms2)
    ]
    x = torch.randn(1, 64, 12, 12)
    with torch.no_grad():
        block(x)
        before = block.kernel(0, 1).clone()
        block.kernel(0, 1).mul_(2)
        block(x)
        block.kernel(0, 1).copy_(before)
    for hook in hooks:
        hook.remove()
    assert not torch.allclose(seen[0], seen[2])
    assert not torch.allclose(seen[1], seen[3])


def test_a_clique_blocks_norms_are_not_shared(block):
    norms = [*block.norms1, *block.norms2]
    assert len({id(norm) for norm in norms}) == 10


def test_cliquenet_pools_input_and_remade_layers_of_each_block():
    assert create("cliquenet").fc.in_features == 244 + 360 + 360


@pytest.fixture(scope="module")
def ddamfn():
    torch.manual_seed(0)
    network = create("ddamfn", 8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 112, 112))  # statistics of what passes, so that no sigmoid saturates
    return network.eval()


def test_ddamfns_training_outputs(ddamfn):
    faces = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        out, logits = ddamfn.training_outputs(faces), ddamfn(faces)
    assert torch.equal(out.logits, logits)
    assert out.logits.shape == (2, 8)
    assert out.features.shape == (2, 512, 7, 7)
    assert [tuple(m.shape) for m in out.attention] == [(2, 512, 7, 7)] * 2
    assert all(m.min() > 0 and m.max() < 1 for m in out.attention)
    assert not torch.equal(*out.attention)
    with torch.no_grad():
        merged = torch.maximum(*out.attention) * out.features
        assert torch.allclose(ddamfn.fc(ddamfn.Linear(merged).flatten(1)), logits, atol=1e-5)


def test_an_attention_map_is_the_outer_product_of_rows_and_columns(ddamfn):
    with torch.no_grad():
        first = ddamfn.training_outputs(torch.randn(1, 3, 112, 112)).attention[0][0].double()
    singular = torch.linalg.svdvals(first)
    assert (singular[:, 1] < 1e-5 * singular[:, 0]).all()


def test_attention_loss_falls_as_the_maps_part():
    same, other = torch.full((2, 3, 7, 7), 0.5), torch.full((2, 3, 7, 7), 0.7)
    assert attention_loss((same, other)).item() == pytest.approx(1 / 0.04, rel=1e-3)
    assert attention_loss((same, same)).item() == pytest.approx(1e6, rel=1e-3)


def test_ddamfns_unused_tensors_are_not_used(ddamfn):
    faces = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        before = ddamfn(faces)
        unit = ddamfn.features[2].conv_dw
        for module in (unit.bn, ddamfn.cat_head0.CoordAtt.Linear.bn, ddamfn.bn):
            module.bias.add_(5)
        unit.prelu.weight.add_(3)
        assert torch.equal(ddamfn(faces), before)


def test_facecnn_starts_as_published_and_leaks_in_evaluation():
    with torch.device("meta"):
        activation = create("facecnn").features[2]
    assert activation.eval()(torch.tensor([-1.0])).item() == pytest.approx(-(1 / 8 + 1 / 3) / 2)
    from edgefer.models.plain_cnns import CONVOLUTION_STD

    assert CONVOLUTION_STD == 0.04


@pytest.mark.parametrize("size", [4, 5, 8, 11, 15, 22, 30, 60])
def test_same_pool_pads_as_tensorflow_does(size):
    """TensorFlow: out = ⌈n/2⌉, padding (out−1)·2 + 3 − n in all, the smaller half of it first."""
    x = np.random.default_rng(size).normal(size=(size, size)).astype(np.float32) - 5  # no zero may win
    out = -(-size // 2)
    before = ((out - 1) * 2 + 3 - size) // 2
    starts = [max(2 * i - before, 0) for i in range(out)]
    ends = [min(2 * i - before + 3, size) for i in range(out)]
    wanted = [
        [x[t:b, left:r].max() for left, r in zip(starts, ends, strict=True)] for t, b in zip(starts, ends, strict=True)
    ]
    got = same_pool(size)(torch.from_numpy(x)[None, None])[0, 0].numpy()
    assert np.array_equal(got, np.array(wanted))


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("mini_xception_keras", 64, [60, 30, 15, 8, 4]),
        ("mini_xception_keras48", 48, [44, 22, 11, 6, 6]),
        ("big_xception", 64, [29, 15, 8]),
    ],
)
def test_keras_networks_have_the_sizes_of_same_padding(name, size, sides):
    seen = []
    network = create(name).eval()
    for part in (network.base, *network.residual):
        part.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 1, size, size))
    assert seen == sides
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
