"""TensorRT's own calibrators: implicit quantisation, which TensorRT 10 deprecated and 11 removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.tensorrt.buffers import Buffer
from edgefer.engines.tensorrt.cuda import Owned, open_cuda
from edgefer.progress import Advance

NEEDS: Final = "implicit_calibration"
"""The capability that a version must have for this module to be used."""


def make_calibrator(
    trt: Any,
    kind: str,
    faces: Iterable[NDArray[np.uint8]],
    batch: int,
    table: bytes | None = None,
    advance: Advance | None = None,
) -> Any:
    """A calibrator that feeds the builder ``batch`` faces at a time.

    Args:
        trt: the package.
        kind: ``"entropy"`` or ``"minmax"``.
        faces: uint8 N×H×W×C batches of exactly ``batch``, read once; memory holds one.
        batch: faces a batch.
        table: a calibration table, as :func:`edgefer.engines.tensorrt.calibration_table.to_table` writes: with one no
            face is read.
        advance: called with the number of faces after every batch.

    Its attribute ``table`` holds the table that the builder made or took. TensorRT's bindings print what ``get_batch``
    raises and go on with the faces so far (python/src/infer/pyInt8.cpp); it is kept in ``failure`` instead, to be
    raised when the builder is done.
    """
    base = {"entropy": trt.IInt8EntropyCalibrator2, "minmax": trt.IInt8MinMaxCalibrator}[kind]

    class Calibrator(base):  # type: ignore[misc, valid-type]  # the base class is known at run time only
        def __init__(self) -> None:
            base.__init__(self)
            self.table = table
            self.failure: Exception | None = None
            self._faces: Iterator[NDArray[np.uint8]] = iter(faces)
            self._buffer: Buffer | None = None
            self._stream: Owned | None = None

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                return self._next()
            except Exception as failure:
                self.failure = failure
                return None

        def _next(self) -> list[int] | None:
            value = next(self._faces, None)
            if value is None:
                return None
            cuda = open_cuda()
            with cuda.current():
                if self._buffer is None:
                    self._buffer = Buffer(cuda, value.shape, "uint8")
                if self._stream is None:
                    self._stream = cuda.stream()
                self._buffer.fill(value)
                self._buffer.upload(value.shape, self._stream)
                cuda.wait(self._stream)
            if advance is not None:
                advance(len(value))
            return [self._buffer.address]

        def read_calibration_cache(self) -> bytes | None:
            return self.table

        def write_calibration_cache(self, cache: Any) -> None:
            self.table = bytes(cache)

        def close(self) -> None:
            taken = [one for one in (self._buffer, self._stream) if one is not None]
            self._buffer = self._stream = None
            if taken:
                with open_cuda().current():
                    for one in taken:
                        one.close()

    return Calibrator()
