"""Memory on the GPU with its counterpart on the host, allocated once and freed in one place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.tensorrt.cuda import Cuda, Owned


class Buffer:
    """Device memory and pinned host memory for an array of up to ``shape``.

    Like every use of ``cuda``, it is made, used and closed inside ``with cuda.current():``.

    Raises:
        EdgeferError: there is not so much memory.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: str) -> None:
        self._cuda = cuda
        self._dtype = np.dtype(dtype)
        nbytes = max(1, math.prod(shape) * self._dtype.itemsize)
        self._device = cuda.allocate(nbytes)
        try:
            self._pinned = cuda.pin(nbytes)
        except BaseException:
            self._device.close()
            raise

    @property
    def address(self) -> int:
        """Of the device memory."""
        return self._device.number

    def fill(self, value: NDArray[Any]) -> None:
        """Copy ``value`` to the beginning of the pinned memory."""
        self._view(value.shape)[...] = value

    def upload(self, shape: tuple[int, ...], stream: Owned) -> None:
        """Enqueue the copy of an array of ``shape`` to the device."""
        self._cuda.upload(self._bytes(shape), self._device, stream)

    def download(self, shape: tuple[int, ...], stream: Owned) -> None:
        """Enqueue the copy of an array of ``shape`` from the device."""
        self._cuda.download(self._device, self._bytes(shape), stream)

    def taken(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """A copy of the array of ``shape`` at the beginning of the pinned memory."""
        result: NDArray[Any] = self._view(shape).copy()
        return result

    def close(self) -> None:
        """Free both. A second call does nothing."""
        try:
            self._pinned.close()
        finally:
            self._device.close()

    def _bytes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        whole: Any = self._pinned.host
        part: NDArray[np.uint8] = whole[: math.prod(shape) * self._dtype.itemsize]
        return part

    def _view(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return self._bytes(shape).view(self._dtype).reshape(shape)
