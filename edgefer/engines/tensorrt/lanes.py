"""Execution contexts, one for each batch size of late, and the CUDA graphs that were captured of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from edgefer.engines.tensorrt.cuda import Owned
from edgefer.progress import announce


@dataclass(eq=False)
class Lane:
    """An execution context that is set to one batch size.

    Attributes:
        context: TensorRT's.
        key: what it is set to; None while it is not.
        shapes: tensor → shape, at that batch size.
        runs: times that it was enqueued since it was set.
        stream: the stream that may still be running it; None where nothing is.
        graph: what was captured of it.
    """

    context: Any
    key: Hashable = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    runs: int = 0
    stream: int | None = None
    graph: Owned | None = None

    def unset(self) -> None:
        """Forget what it is set to."""
        self.key, self.runs = None, 0
        if self.graph is not None:
            graph, self.graph = self.graph, None
            graph.close()


class Lanes:
    """Up to ``most`` execution contexts of an engine.

    A captured graph holds shapes and addresses fast, and lives on state of its context that another shape changes:
    NVIDIA's developer guide ("CUDA Graphs") advises one context for each graph. So every batch size has its own, and
    where there are ``most`` already, the one that was used least lately is set anew.

    Args:
        make: makes an execution context; None where it cannot.
        most: how many the version allows at a time.
    """

    def __init__(self, make: Callable[[], Any], most: int) -> None:
        self._make = make
        self._most = most
        self._lanes: list[Lane] = []

    def take(self, key: Hashable) -> Lane | None:
        """The lane that is set to ``key``, or one that is to be set; None where not even one context can be made."""
        lane = self._find(key) or self._find(None) or self._another()
        if lane is None:
            return None
        if lane in self._lanes:
            self._lanes.remove(lane)
        if lane.key != key:
            lane.unset()
        self._lanes.append(lane)
        return lane

    def _find(self, key: Hashable) -> Lane | None:
        return next((lane for lane in self._lanes if lane.key == key), None)

    def _another(self) -> Lane | None:
        """A new one, or the oldest where there are enough already or memory has no room for one more."""
        context = self._make() if len(self._lanes) < self._most else None
        if context is not None:
            return Lane(context)
        if 0 < len(self._lanes) < self._most:
            self._most = len(self._lanes)  # so that it is not tried, and refused, at every change
            announce(
                f"note: GPU memory has no room for more execution contexts than {self._most}: batch sizes take turns"
            )
        return self._lanes[0] if self._lanes else None

    def close(self) -> None:
        """Destroy the graphs, then the contexts."""
        for lane in self._lanes:
            lane.unset()
        self._lanes.clear()
