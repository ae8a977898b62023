"""What the machine did while something was measured, watched by a process of its own."""

from edgefer.measure.telemetry.recorder import Recorder
from edgefer.measure.telemetry.recording import Recording

__all__ = ["Recorder", "Recording"]
