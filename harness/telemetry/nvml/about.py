"""Which GPUs this machine has, for `run.json`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from harness.telemetry.nvml import mig
from harness.telemetry.nvml.binding import call
from harness.telemetry.nvml.card import Card
from harness.telemetry.nvml.cards import Cards


def devices(cards: Cards) -> list[dict[str, Any]]:
    """As `Nvml.devices` says. `cards` are open."""
    nvml = cards.nvml
    asked: dict[str, Callable[[Any], Any]] = {
        "name": lambda handle: call(nvml, "nvmlDeviceGetName", handle),
        "uuid": lambda handle: call(nvml, "nvmlDeviceGetUUID", handle),
        "memory_bytes": lambda handle: int(call(nvml, "nvmlDeviceGetMemoryInfo", handle).total),
        "driver": lambda _: call(nvml, "nvmlSystemGetDriverVersion"),
        "cuda": lambda _: _version(int(call(nvml, "nvmlSystemGetCudaDriverVersion_v2"))),
        "vbios": lambda handle: call(nvml, "nvmlDeviceGetVbiosVersion", handle),
    }

    def told(card: Card, keys: Iterable[str]) -> dict[str, Any]:
        found = {}
        for key in keys:
            with contextlib.suppress(nvml.NVMLError):
                found[key] = asked[key](card.handle)
        return found

    gpus = []
    for card in cards.all:
        gpu = {"index": int(card.name.removeprefix("gpu")), **({} if card.lost else told(card, asked))}
        if card.instances:
            gpu["mig"] = [
                {"device": each.name, **told(each, ("uuid", "memory_bytes")), **mig.attributes(nvml, each)}
                for each in card.instances
            ]
        gpus.append(gpu)
    return gpus


def _version(number: int) -> str:
    """12.4 of 12040: of CUDA, as far as the driver has it."""
    return f"{number // 1000}.{number % 1000 // 10}"
