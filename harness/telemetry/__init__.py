"""Readings beside the requests: NVML, Triton's own metrics, the host, the server's processes."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import psutil

from harness.telemetry.hardware import hardware
from harness.telemetry.host import Host, Process
from harness.telemetry.nvml import Nvml
from harness.telemetry.sampler import Sampler
from harness.telemetry.source import Source, SourceUnavailable, Value
from harness.telemetry.triton_metrics import TritonMetrics

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def sources(metrics_url: str | None, server_pid: int | None, urls: Sequence[str] = ()) -> list[Source]:
    """What can be read of a run: this host always, its GPUs unless a server is known to be elsewhere.

    `server_pid` is set where the server is a process of this machine, `metrics_url` where its page is known; `urls`:
    where the arms are served.
    """
    known = [*urls, *([metrics_url] if metrics_url is not None else [])]
    elsewhere = server_pid is None and any(urlsplit(url).hostname not in _names_of_this_machine() for url in known)
    found: list[Source] = [Host()]
    if not elsewhere:
        found.append(Nvml())
    if server_pid is not None:
        found.append(Process(server_pid, "server"))
    if metrics_url is not None:
        found.append(TritonMetrics(metrics_url))
    return found


def _names_of_this_machine() -> set[str]:
    addresses = {address.address for each in psutil.net_if_addrs().values() for address in each}
    return {*LOOPBACK, *addresses, socket.gethostname()}


__all__ = [
    "Host",
    "Nvml",
    "Process",
    "Sampler",
    "Source",
    "SourceUnavailable",
    "TritonMetrics",
    "Value",
    "hardware",
    "sources",
]
