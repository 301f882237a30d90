"""What a run reads beside its requests: the host, the server's processes, metrics pages, and this machine's GPUs."""

from __future__ import annotations

from pathlib import Path

from harness.run.folder import RunFolder
from harness.run.target import Target
from harness.scenario import TelemetryConfig
from harness.telemetry import Sampler, gpus, sources


def sampler_of(target: Target, every: TelemetryConfig, folder: RunFolder, path: Path, t0_ns: int) -> Sampler:
    """Not started yet. `path`: where the parent's part of the readings goes; the GPUs' reader has a part of its own."""
    known = [*target.pages, *(arm.url for arm in target.arms.values())]
    reader = gpus(folder.path, t0_ns, known, target.server_pid, interval_s=every.gpu_interval_s, hold=(folder.lock_fd,))
    return Sampler(sources(target.pages, target.server_pid), path, t0_ns, every.interval_s, beside=reader)
