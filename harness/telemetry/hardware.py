"""What a run ran on, for `run.json`."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import psutil

from harness.telemetry.nvml import Nvml


def hardware() -> dict[str, Any]:
    """`cpu`, `cores` (physical; None if unknown), `threads`, `memory_bytes`, `kernel`, `machine`, `gpus`.

    This machine's, not that of a remote server. `gpus` as in `Nvml.devices`; [] without NVML.
    """
    nvml = Nvml()
    try:
        gpus = nvml.devices()
    finally:
        nvml.close()
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "gpus": gpus,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
