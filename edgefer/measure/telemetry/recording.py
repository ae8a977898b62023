"""Readings of a machine over time, and what they say about one stretch of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CLOCK_DROP = 0.10
"""So much may the median clock fall from the first third to the last."""

Reading = Mapping[str, Any]


@dataclass(frozen=True)
class Recording:
    """Readings in the order they were taken.

    Attributes:
        readings: see ``telemetry.process.Watch.read``.
        interval: seconds between them.
    """

    readings: tuple[Reading, ...]
    interval: float

    def between(self, start: float, end: float) -> Recording:
        """The readings of ``start`` ≤ t ≤ ``end``, seconds of ``time.monotonic``, and the one before each end."""
        times = [reading["t"] for reading in self.readings]
        first = max(0, int(np.searchsorted(times, start, side="right")) - 1)
        return Recording(self.readings[first : int(np.searchsorted(times, end, side="right"))], self.interval)

    def joules(self, start: float, end: float) -> tuple[str, float] | None:
        """Energy from ``start`` to ``end`` and its source: a board's, a GPU's or the processor's, in this order.

        A counter is interpolated; powers are held until the next reading. None where the machine does not tell, or the
        readings do not reach from ``start`` to ``end``.
        """
        for source in ("INA3221", "tegrastats", "NVML", "RAPL packages"):
            told = [(r["t"], r["power"][source]) for r in self.readings if source in r.get("power", {})]
            if len(told) < 2 or told[0][0] > start or told[-1][0] + 2 * self.interval < end:
                continue
            times = np.array([t for t, _ in told])
            if all("joules" in values for _, values in told):
                counter = np.interp([start, end], times, [values["joules"] for _, values in told])
                return source, float(counter[1] - counter[0])
            if all("watts" in values for _, values in told):
                edges = np.clip(np.append(times, end), start, end)
                return source, float((np.diff(edges) * [values["watts"] for _, values in told]).sum())
        return None

    def throttled(self) -> Iterator[str]:
        """Reasons to believe that the processor was slowed down, none where there are none."""
        events = self._values("throttle_events")
        if events and events[-1] > events[0]:
            yield f"the processor was throttled {int(events[-1] - events[0])} times"
        limits = {limit for reading in self.readings for limit in reading.get("throttling", ())}
        yield from (f"throttled: {limit}" for limit in sorted(limits))
        first, last = self._thirds("mhz")
        if first and last and last < (1 - CLOCK_DROP) * first:
            yield f"the clock fell from {first:,.0f} to {last:,.0f} MHz"

    def summary(self) -> dict[str, Any]:
        """JSON-ready; a value is None where the machine does not tell, and ``untold`` lists those.

        ``cpu_load`` (cores busy, all processes), ``mhz`` (min, median, max, and medians of the first and last third),
        ``celsius`` (of the zone that became hottest), ``throttled`` (reasons), ``rss_bytes`` (greatest seen),
        ``peak_rss_bytes`` (since the process began), ``watts`` (mean) with ``power_source``.
        """
        clocks = self._values("mhz")
        found: dict[str, Any] = {
            "readings": len(self.readings),
            "interval_s": self.interval,
            "seconds": round(self._span(), 2),
            "cpu_load": self._load(),
            "mhz": None,
            "celsius": self._hottest(),
            "throttled": list(self.throttled()),
            "rss_bytes": max(self._values("rss_bytes"), default=None),
            "peak_rss_bytes": max(self._values("peak_rss_bytes"), default=None),
            "watts": None,
            "power_source": None,
        }
        if clocks:
            first, last = self._thirds("mhz")
            found["mhz"] = {"min": min(clocks), "median": float(np.median(clocks)), "max": max(clocks)}
            found["mhz"] |= {"first_third": first, "last_third": last}
        if len(self.readings) > 1:
            energy = self.joules(self.readings[0]["t"], self.readings[-1]["t"])
            if energy is not None and self._span() > 0:
                found["power_source"], found["watts"] = energy[0], energy[1] / self._span()
        found["untold"] = [key for key in ("mhz", "celsius", "watts") if found[key] is None]
        found["untold"] += sorted({what for reading in self.readings for what in reading.get("forbidden", ())})
        return found

    def _span(self) -> float:
        return float(self.readings[-1]["t"] - self.readings[0]["t"]) if self.readings else 0.0

    def _values(self, key: str) -> list[float]:
        return [reading[key] for reading in self.readings if key in reading]

    def _thirds(self, key: str) -> tuple[float | None, float | None]:
        values: Sequence[float] = self._values(key)
        third = len(values) // 3
        return (float(np.median(values[:third])), float(np.median(values[-third:]))) if third else (None, None)

    def _load(self) -> float | None:
        busy = self._values("busy_s")
        return round((busy[-1] - busy[0]) / self._span(), 3) if len(busy) > 1 and self._span() > 0 else None

    def _hottest(self) -> dict[str, Any] | None:
        zones: dict[str, list[float]] = {}
        for reading in self.readings:
            for zone, value in reading.get("celsius", {}).items():
                zones.setdefault(zone, []).append(value)
        if not zones:
            return None
        zone = max(zones, key=lambda name: max(zones[name]))
        return {"zone": zone, "first": zones[zone][0], "last": zones[zone][-1], "max": max(zones[zone])}
