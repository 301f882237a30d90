"""Readings beside the requests: NVML, metrics pages, the host, the server's processes."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from harness.recording import GPUS, stream_path
from harness.telemetry.cgroup import Room, memory_room
from harness.telemetry.gpus import INTERVAL_S, GpuReader
from harness.telemetry.hardware import hardware
from harness.telemetry.host import HighWater, Host, Process
from harness.telemetry.nvml import Nvml, memory_of_all
from harness.telemetry.pages import Page, engine_of, in_order, unsaid
from harness.telemetry.sampler import Sampler
from harness.telemetry.source import Source, SourceUnavailable, Value

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def sources(pages: Sequence[str], server_pid: int | None) -> list[Source]:
    """What can be read of a run without its GPUs: this host always.

    `pages`: the addresses of metrics; `server_pid` is set where the server is a process of this machine.
    """
    process = [] if server_pid is None else [Process(server_pid, "server")]
    return [Host(), *process, *in_order(pages)]


def gpus(
    folder: Path, t0_ns: int, known: Sequence[str], server_pid: int | None, *, interval_s: float = INTERVAL_S,
    hold: tuple[int, ...] = (),
) -> GpuReader | None:  # fmt: skip
    """What reads this machine's GPUs for a run in `folder`, into a part of its own; None where a server is known to be
    elsewhere, of which they say nothing. `known`: where the arms are served, and the addresses of metrics.
    """
    if server_pid is None and any(urlsplit(url).hostname not in _names_of_this_machine() for url in known):
        return None
    return GpuReader(stream_path(folder, "readings", GPUS), t0_ns, interval_s, hold)


def _names_of_this_machine() -> set[str]:
    addresses = {address.address for each in psutil.net_if_addrs().values() for address in each}
    return {*LOOPBACK, *addresses, socket.gethostname()}


__all__ = [
    "GpuReader",
    "HighWater",
    "Host",
    "Nvml",
    "Page",
    "Process",
    "Room",
    "Sampler",
    "Source",
    "SourceUnavailable",
    "Value",
    "engine_of",
    "gpus",
    "hardware",
    "memory_of_all",
    "memory_room",
    "sources",
    "unsaid",
]
