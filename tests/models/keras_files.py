"""Keras hdf5 files as Keras 2 writes them, made from networks of ours."""

import json
import re

import h5py
import numpy as np
import torch
from torch import nn

from edgefer.models import architecture, create
from edgefer.models.keras import NETWORKS, POOLS

_TURNED = {"weight": (2, 3, 1, 0), "depthwise.weight": (2, 3, 0, 1), "pointwise.weight": (2, 3, 1, 0)}
_KERAS = {
    "depthwise.weight": "depthwise_kernel",
    "pointwise.weight": "pointwise_kernel",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def network_like(name: str, classes: int = 7) -> nn.Module:
    """A network with norms of their own, so that two which change places show."""
    torch.manual_seed(5)
    network = create(name, classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return network.eval()


def write_keras(path, network, name, *, first=1, config=True, side=None, left_out=()):
    """``first``: the number of the session's first layer of each kind; ``left_out``: layers of the file."""
    state = network.state_dict()
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        layers = []
        for keras, ours in NETWORKS[name].items():
            kind, _, position = keras.partition("#")
            layer = f"{kind}_{int(position) + first - 1}" if position else keras
            if layer in left_out:
                continue
            layers.append(layer)
            group, written = root.create_group(layer), []
            for tensor, value in state.items():
                if not tensor.startswith(f"{ours}.") or tensor.endswith("tracked"):
                    continue
                rest = tensor.removeprefix(f"{ours}.")
                norm = f"{ours}.running_mean" in state
                kernel = _KERAS.get(
                    rest, {True: {"weight": "gamma", "bias": "beta"}, False: {"weight": "kernel"}}[norm].get(rest, rest)
                )
                array = value.numpy().transpose(_TURNED[rest]) if value.ndim == 4 else value.numpy()
                group[f"{layer}_1/{kernel}:0"] = array
                written.append(f"{layer}_1/{kernel}:0")
            group.attrs["weight_names"] = np.array(written, dtype="S")
        root.create_group("activation_1").attrs["weight_names"] = np.array([], dtype="S1")
        # Keras lists layers as the graph goes, not as they were made.
        root.attrs["layer_names"] = np.array(
            ["activation_1", *sorted(layers, key=lambda n: re.sub(r"\d", "", n))], dtype="S"
        )
        if config:
            side = architecture(name).size if side is None else side
            inputs = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, side, side, 1]}}
            pools = [{"class_name": "MaxPooling2D", "config": {}}] * POOLS[name]
            file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": [inputs, *pools]}})
    return path
