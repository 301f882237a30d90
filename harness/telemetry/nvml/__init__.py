"""NVIDIA's own counters, through pynvml: each GPU a device of its own, and each MIG instance; nothing is averaged."""

from harness.telemetry.nvml.source import Nvml, memory_of_all

__all__ = ["Nvml", "memory_of_all"]
