"""Memory of the machine that a server runs on, as far as it is in reach from here. Several GPUs are never summed up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import psutil

from harness.telemetry import LOOPBACK, Host, Nvml, Process, SourceUnavailable, Value, memory_room

HOST = "host"
FORWARDERS = ("ssh", "sshd", "kubectl", "socat", "docker-proxy", "rootlessport", "conmon")
"""What listens on this machine for a server elsewhere, or in a container, whose limits and GPUs are not seen then."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes at one moment by device: "gpu0", "gpu1", ..., "host" (where a container or service has a limit of its own:
    within it). What could not be read is absent.

    `used`: of a GPU by whomever; of the host by the server and the processes below it. `held`: by version
    ("MODEL/VERSION") and device, where a version's instances are processes of their own. `gpus`: in the order in which
    the server counts them. `missing`: why there are no GPUs. `unknown`: why nothing could be read at all.
    """

    free: Mapping[str, float] = field(default_factory=dict)
    total: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    missing: str = ""
    unknown: str = ""


Look = Callable[[str], Machine]
"""From a server's URL to its machine. Never raises."""


def look(url: str, server_pid: int | None = None) -> Machine:
    """Of the Triton at `url`: everything where it is known to run on this machine, else why not."""
    if server_pid is None and urlsplit(url).hostname not in LOOPBACK:
        return Machine(unknown=f"{url} is not this machine: its memory is not known from here")
    pid = server_pid or listening(url)
    if server_pid is None and pid is not None and (name := _name(pid)) in FORWARDERS:
        return Machine(unknown=f"{url} is forwarded by {name}: the memory of its machine is not known from here")
    host = _read(Host())
    processes = _read(Process(pid, "server")) if pid is not None else []
    nvml = Nvml()
    missing = nvml.missing() or ""
    with closing(nvml):
        cards = [] if missing else _read(nvml)
        uuids = [] if missing else [str(device.get("uuid", "")) for device in nvml.devices()]
    found = of_values([*host, *processes, *cards], None if missing else visible(pid, uuids), missing)
    room = memory_room(pid) if pid is not None else None
    if room is None or HOST not in found.total:
        return found
    free, total = (min(mine, found_of[HOST]) for mine, found_of in ((room.free, found.free), (room.limit, found.total)))
    return replace(found, free={**found.free, HOST: free}, total={**found.total, HOST: total})


def of_values(values: Iterable[Value], numbers: tuple[int, ...] | None = None, missing: str = "") -> Machine:
    """From readings. `numbers`: the GPUs that the server sees, in its order; None: all of them.

    A GPU that is partitioned (MIG) is left out: which of its parts the server uses is not known.
    """
    seen = list(values)
    free: dict[str, float] = {}
    total: dict[str, float] = {}
    used: dict[str, float] = {}
    held: dict[str, dict[str, float]] = {}
    metrics = {
        "gpu.memory.free": free, "gpu.memory.total": total, "gpu.memory.used": used,
        "memory.available": free, "memory.total": total,
    }  # fmt: skip
    parted = {value.device.partition("/mig")[0] for value in seen if value.source == "nvml" and "/mig" in value.device}
    for value in seen:
        device, _, owner = value.device.partition(":")
        if value.metric == "gpu.memory.process" and owner:
            of = held.setdefault(owner, {})
            of[device] = of.get(device, 0.0) + value.value
        elif value.source == "process" and value.metric == "memory.rss":
            if "/" in value.device:
                held.setdefault(value.device, {})[HOST] = value.value
            else:
                used[HOST] = value.value
        elif value.metric in metrics and device not in parted and "/mig" not in device:
            metrics[value.metric][device] = value.value
    cards = {re.split("[/:]", value.device)[0] for value in seen if value.source == "nvml"}
    gpus = sorted(cards, key=_number) if numbers is None else [f"gpu{number}" for number in numbers]
    return Machine(free, total, used, held, tuple(gpus), missing)


def listening(url: str) -> int | None:
    """The process of this machine that listens at `url`'s port, as far as this user may see."""
    port = urlsplit(url).port
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr and connection.laddr.port == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                return int(connection.pid)
    return None


def _read(source: Host | Nvml | Process) -> list[Value]:
    try:
        return list(source.read())
    except (SourceUnavailable, psutil.Error):
        return []


def _name(pid: int) -> str:
    with suppress(psutil.Error):
        return psutil.Process(pid).name()
    return ""


def visible(pid: int | None, uuids: list[str]) -> tuple[int, ...] | None:
    """CUDA_VISIBLE_DEVICES of the server: its GPU 0 is the first one there. None: it names none, or is not seen."""
    text = ""
    if pid is not None:
        with suppress(psutil.Error):
            text = psutil.Process(pid).environ().get("CUDA_VISIBLE_DEVICES", "")
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        matching = [index for index, uuid in enumerate(uuids) if part.startswith("GPU-") and uuid.startswith(part)]
        if not part.isdecimal() and len(matching) != 1:
            return None
        found.append(int(part) if part.isdecimal() else matching[0])
    return tuple(found) or None


def _number(device: str) -> int:
    return int("".join(filter(str.isdecimal, device)) or 0)
