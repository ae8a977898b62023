"""NVIDIA GPUs through NVML, where its library is; no Python package is needed.

Function names and constants: NVML API reference guide and nvml.h.
"""

from __future__ import annotations

import ctypes
from typing import Any

_OK = 0
_TEMPERATURE_GPU = 0
_CLOCK_SM = 1
_HARMLESS = 0x1 | 0x2 | 0x100  # nvmlClocksThrottleReason: GpuIdle, ApplicationsClocksSetting, DisplayClockSetting
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


class Nvml:
    """The first GPU.

    Args:
        library: the loaded ``libnvidia-ml``, or what behaves like it.
    """

    source = "NVML"

    def __init__(self, library: Any) -> None:
        self._library = library
        self._device = ctypes.c_void_p()
        self._ready = (
            library.nvmlInit_v2() == _OK
            and library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(0), ctypes.byref(self._device)) == _OK
        )

    @classmethod
    def here(cls) -> Nvml | None:
        """NVML of this machine; None where there is no driver or no GPU."""
        try:
            found = cls(ctypes.CDLL("libnvidia-ml.so.1"))
        except (OSError, AttributeError):  # no library, or one without these functions
            return None
        return found if found._ready else None

    def read(self) -> dict[str, Any]:
        """``watts``, ``celsius``, ``mhz``, ``throttling``; what the GPU does not tell is absent."""
        milliwatts = self._uint("nvmlDeviceGetPowerUsage")
        reasons = self._reasons()
        found = {
            "watts": None if milliwatts is None else milliwatts / 1000,
            "celsius": self._uint("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
            "mhz": self._uint("nvmlDeviceGetClockInfo", _CLOCK_SM),
            "throttling": [f"GPU: {name}" for bit, name in _REASONS.items() if reasons & bit],
        }
        return {key: value for key, value in found.items() if value is not None}

    def _uint(self, function: str, *selector: int) -> int | None:
        value = ctypes.c_uint()
        arguments = [ctypes.c_int(which) for which in selector]
        status = getattr(self._library, function)(self._device, *arguments, ctypes.byref(value))
        return int(value.value) if status == _OK else None

    def _reasons(self) -> int:
        value = ctypes.c_ulonglong()
        status = self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._device, ctypes.byref(value))
        return int(value.value) & ~_HARMLESS if status == _OK else 0
