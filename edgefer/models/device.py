"""The device that PyTorch computes on, and why it cannot where it cannot."""

from __future__ import annotations

import os
import re
import warnings

import torch

from edgefer.errors import EdgeferError

_NAMES = re.compile(r"cpu|cuda(:\d+)?")


def torch_device(name: str) -> torch.device:
    """The device called ``cpu``, ``cuda`` (CUDA's first GPU) or ``cuda:N``, after it computed a sum.

    GPUs are counted as CUDA counts them, from 0 among those that CUDA_VISIBLE_DEVICES leaves.

    Raises:
        EdgeferError: no such name or GPU; PyTorch was built without CUDA; the driver or this GPU does not serve it.
    """
    if not _NAMES.fullmatch(name):
        raise EdgeferError(f"there is no device '{name}'", hint="--device cpu, --device cuda or --device cuda:1")
    if name == "cpu":
        return torch.device("cpu")
    if torch.version.cuda is None:
        raise EdgeferError(
            f"the device {name} needs a PyTorch with CUDA, and {torch.__version__} was built without it",
            hint="pip install --force-reinstall torch (Linux x86-64; on a Jetson, NVIDIA's wheel for its JetPack), "
            "or --device cpu",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the driver is too old: the error below says it too
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device("cuda", int(name.partition(":")[2] or 0))
    if not count:
        raise EdgeferError(
            f"PyTorch finds no GPU for the device {name}: {_why_none()}{_visible()}",
            hint="`nvidia-smi` says whether the driver does; --device cpu needs none",
        )
    if device.index >= count:
        found = ", ".join(f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(count))
        raise EdgeferError(f"there is no GPU {name}: PyTorch finds {found}{_visible()}", hint="--device cuda:0")
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as cause:
        raise EdgeferError(
            f"PyTorch {torch.__version__} cannot compute on {name} ({torch.cuda.get_device_name(device)}): "
            f"{first_line(cause)}",
            hint=f"it was built for {', '.join(torch.cuda.get_arch_list())}; --device cpu needs no GPU",
        ) from cause
    return device


def _why_none() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # missing in torch's stubs
    except RuntimeError as cause:
        return first_line(cause)
    return "it gives no reason"


def _visible() -> str:
    """What hides GPUs, if anything does."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if chosen is None else f" (CUDA_VISIBLE_DEVICES is '{chosen}')"


def first_line(fault: BaseException) -> str:
    """The first line of what PyTorch says; its type where it says nothing."""
    return next(iter(str(fault).strip().splitlines()), type(fault).__name__)
