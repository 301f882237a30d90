"""MIG: the instances into which a card is cut, each with memory and processes of its own.

Device `gpu0/mig3` is GPU instance 3, by the number that nvidia-smi and the DCGM exporter (GPU_I_ID) have for it; with
several compute instances in it, which share its memory, `gpu0/mig3.0` and `gpu0/mig3.1`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from harness.telemetry.nvml.binding import LOST, call
from harness.telemetry.nvml.card import Card, Question


def _enabled(nvml: Any, card: Card) -> bool:
    return bool(call(nvml, "nvmlDeviceGetMigMode", card.handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE)


MODE = Question("MIG mode", (_enabled,))


def instances(nvml: Any, card: Card) -> tuple[Card, ...]:
    """Those that are there now; one that was there before is the same Card. Raises NVMLError."""
    if not card.ask(MODE):
        return ()
    handles = [handle for index in range(_most(nvml, card)) if (handle := _at(nvml, card, index)) is not None]
    numbers = [_numbers(nvml, handle, index) for index, handle in enumerate(handles)]
    shared = [gpu for gpu, _ in numbers]
    before = {each.name: each for each in card.instances}
    found = []
    for handle, (gpu, compute) in zip(handles, numbers, strict=True):
        name = f"{card.name}/mig{gpu}" + (f".{compute}" if shared.count(gpu) > 1 else "")
        fresh = Card(nvml, name, handle, _uuid(nvml, handle))
        kept = before.get(name)
        found.append(kept if kept and (kept.uuid, kept.address) == (fresh.uuid, fresh.address) else fresh)
    return tuple(found)


def attributes(nvml: Any, instance: Card) -> dict[str, Any]:
    """`multiprocessors`, and `slices` of the card's; nothing where the driver does not tell."""
    with contextlib.suppress(nvml.NVMLError):
        found = call(nvml, "nvmlDeviceGetAttributes_v2", instance.handle)
        return {"multiprocessors": int(found.multiprocessorCount), "slices": int(found.gpuInstanceSliceCount)}
    return {}


def _most(nvml: Any, card: Card) -> int:
    return int(call(nvml, "nvmlDeviceGetMaxMigDeviceCount", card.handle))


def _at(nvml: Any, card: Card, index: int) -> Any:
    """None where there is none of that number, or it is somebody else's."""
    try:
        return call(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", card.handle, index)
    except nvml.NVMLError as error:
        if error.value in LOST:
            raise
        return None


def _numbers(nvml: Any, handle: Any, index: int) -> tuple[int, int]:
    """Of the GPU instance and of the compute instance in it."""
    try:
        return call(nvml, "nvmlDeviceGetGpuInstanceId", handle), call(nvml, "nvmlDeviceGetComputeInstanceId", handle)
    except nvml.NVMLError as error:
        if error.value in LOST:
            raise
        return index, 0


def _uuid(nvml: Any, handle: Any) -> str:
    with contextlib.suppress(nvml.NVMLError):
        return str(call(nvml, "nvmlDeviceGetUUID", handle))
    return ""
