"""A second device on every machine: PyTorch's meta device, whose tensors have shapes and no values."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OneDevice(TorchDispatchMode):
    """Fails where an operation gets tensors of two devices, scalars apart: a GPU would refuse them, or wait."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        tensors = [leaf for leaf in tree_leaves((arguments, keywords or {})) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.ndim}
        copies = function.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._to_copy)
        assert len(devices) < 2 or copies, f"{function} on {' and '.join(sorted(devices))}"
        return function(*arguments, **(keywords or {}))
