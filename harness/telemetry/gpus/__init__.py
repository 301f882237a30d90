"""GPU readings by a process of their own, which shares neither interpreter nor pace with anything else of a run."""

from harness.telemetry.gpus.reader import INTERVAL_S, GpuReader

__all__ = ["INTERVAL_S", "GpuReader"]
