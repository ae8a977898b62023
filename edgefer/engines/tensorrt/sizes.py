"""Batch sizes and amounts of memory, read from what a user typed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from edgefer.contract import INPUT_NAME, Contract
from edgefer.errors import EdgeferError

DEFAULT_MAX_BATCH: Final = 32
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_UNIT: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LARGEST_TENSOR: Final = 2**31 - 1  # values of one tensor (NvInfer.h, ITensor, v10.3.0)
_LEAST_WORKSPACE: Final = 16 << 20  # the suggested minimum of TensorRT's operator reference


@dataclass(frozen=True)
class Batches:
    """The batch sizes that an engine is built for: it takes any in ``least`` … ``most`` and is tuned for ``best``."""

    least: int = 1
    best: int = 1
    most: int = DEFAULT_MAX_BATCH

    @property
    def fixed(self) -> bool:
        """Whether there is only one."""
        return self.least == self.most

    def __str__(self) -> str:
        return str(self.most) if self.fixed else f"{self.least}…{self.most}"


USUAL: Final = Batches()


def parse_size(text: str) -> int:
    """Bytes of ``"512M"``, ``"2G"``, ``"65536K"`` or ``"536870912"``; powers of 1,024.

    Raises:
        EdgeferError: something else, or less than 16 MiB, which builds nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise EdgeferError(f"--workspace '{text}' is no amount of memory", hint="--workspace 512M, or 2G")
    size = int(float(match[1]) * _UNIT[match[2].upper()])
    if size < _LEAST_WORKSPACE:
        raise EdgeferError(
            f"--workspace {text} is {size:,} bytes, too little for any convolution", hint="16M at least; 512M is usual"
        )
    return size


def parse_batches(
    contract: Contract,
    least: int | None = None,
    best: int | None = None,
    most: int | None = None,
    shapes: str | None = None,
) -> Batches:
    """The profile of ``--min-batch``, ``--opt-batch``, ``--max-batch``, or one fixed size of ``--shapes``.

    ``shapes`` is as trtexec takes it, ``"faces:8x48x48x1"``.

    Raises:
        EdgeferError: both ways at once; sizes out of order; another input or face shape than the contract's.
    """
    if shapes is not None:
        if not least == best == most is None:
            raise EdgeferError(
                "--shapes fixes the batch size, and --min-batch, --opt-batch or --max-batch frees it",
                hint="give one or the other",
            )
        size = _parse_shapes(shapes, contract)
        return _fitting(Batches(size, size, size), contract)
    low = 1 if least is None else least
    high = max(DEFAULT_MAX_BATCH, low, best or 0) if most is None else most
    middle = min(max(low, 1), high) if best is None else best
    if not 1 <= low <= middle <= high:
        raise EdgeferError(
            f"batch sizes are out of order: min {low}, opt {middle}, max {high}",
            hint=f"--min-batch ≤ --opt-batch ≤ --max-batch, e.g. 1, 1 and {max(high, low)}",
        )
    return _fitting(Batches(low, middle, high), contract)


def _fitting(batches: Batches, contract: Contract) -> Batches:
    most = _LARGEST_TENSOR // math.prod(contract.face_shape)
    if batches.most > most:
        raise EdgeferError(
            f"a batch of {batches.most} faces is more than a tensor of TensorRT holds, 2^31 − 1 values",
            hint=f"--max-batch {DEFAULT_MAX_BATCH}; at most {most}",
        )
    return batches


def _parse_shapes(text: str, contract: Contract) -> int:
    face = "x".join(map(str, contract.face_shape))
    name, colon, shape = text.partition(":")
    sizes = shape.lower().split("x")
    if not colon or not all(size.isascii() and size.isdigit() for size in sizes):
        raise EdgeferError(f"--shapes '{text}' cannot be read", hint=f"--shapes {INPUT_NAME}:1x{face}")
    if name != INPUT_NAME:
        raise EdgeferError(
            f"--shapes names the input '{name}', and the network has one input, '{INPUT_NAME}'",
            hint=f"--shapes {INPUT_NAME}:1x{face}",
        )
    if tuple(map(int, sizes[1:])) != contract.face_shape or int(sizes[0]) < 1:
        raise EdgeferError(
            f"--shapes {shape} does not fit the network, whose faces are {face}: only the batch size is free",
            hint=f"--shapes {INPUT_NAME}:{max(1, int(sizes[0]))}x{face}",
        )
    return int(sizes[0])
