import subprocess
import sys

import pytest
import torch
from torch import nn

from edgefer.models.layers import Downsample


@pytest.mark.parametrize("channels", [8, 16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_strided_convolution(channels, training, size, bias):
    torch.manual_seed(0)
    layer = Downsample(channels, 4, bias=bias).train(training)
    plain = nn.Conv2d(channels, 4, 1, stride=2, bias=bias)
    plain.load_state_dict(layer.state_dict())
    grads = []
    for module in (layer, plain):
        x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = module(x)
        out.square().sum().backward()
        grads.append((out, x.grad, module.weight.grad))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_training_on_large_channels_last_maps_ends_well():
    # In a process of its own: what went wrong was the heap.
    program = (
        "import torch; from edgefer.models import create, default_contract\n"
        "from edgefer.models.deployable import Deployable\n"
        "torch.set_num_threads(1)\n"
        "net = Deployable(create('mini_xception_keras'), default_contract('mini_xception_keras', list('abcdefg')))\n"
        "for _ in range(10): net(torch.zeros(16, 64, 64, 1, dtype=torch.uint8)).square().sum().backward()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
