"""NVIDIA's own counters, through pynvml. Each GPU is a device of its own; nothing is averaged over GPUs.

A field that a card or driver lacks (NotSupported, FunctionNotFound, no permission) is absent from the
readings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from harness.telemetry.source import SourceUnavailable, Value

Fields = list[tuple[str, float, str]]


class Nvml:
    """Source "nvml", devices gpu0, gpu1, ...

    gpu.memory.used, free, total   bytes; where the driver tells what it keeps for itself, that is
                                   gpu.memory.reserved, and not part of used
    gpu.utilization                ratio of the time in which any kernel ran (not how busy it kept the GPU)
    gpu.memory.utilization         ratio of the time in which memory was read or written
    gpu.power W, gpu.energy J (since the driver was loaded), gpu.temperature C, gpu.clock.sm Hz
    """

    name = "nvml"

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []

    def missing(self) -> str | None:
        """Why there is nothing to read, in one line; None where there is a GPU."""
        try:
            self._open()
        except SourceUnavailable as error:
            return str(error)
        return None

    def read(self) -> list[Value]:
        self._open()
        values = [
            Value(self.name, f"gpu{index}", metric, value, unit)
            for index, handle in enumerate(self._handles)
            for metric, value, unit in self._fields(handle)
        ]
        if not values:
            # A driver reset: the handles are void until NVML is opened anew.
            self.close()
            raise SourceUnavailable("NVML: no GPU answers any more")
        return values

    def devices(self) -> list[dict[str, Any]]:
        """For each GPU `index` and what it tells of `name`, `uuid`, `memory_bytes`, `driver`, `vbios`."""
        try:
            self._open()
        except SourceUnavailable:
            return []
        nvml = self._nvml
        asked: dict[str, Callable[[Any], Any]] = {
            "name": nvml.nvmlDeviceGetName,
            "uuid": nvml.nvmlDeviceGetUUID,
            "memory_bytes": lambda handle: int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            "driver": lambda _: nvml.nvmlSystemGetDriverVersion(),
            "vbios": nvml.nvmlDeviceGetVbiosVersion,
        }
        found = []
        for index, handle in enumerate(self._handles):
            device: dict[str, Any] = {"index": index}
            for key, ask in asked.items():
                with contextlib.suppress(nvml.NVMLError):
                    device[key] = ask(handle)
            found.append(device)
        return found

    def close(self) -> None:
        if self._handles:
            self._handles = []
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _open(self) -> None:
        if self._handles:
            return
        if self._nvml is None:
            try:
                self._nvml = import_module("pynvml")
            except ImportError as error:
                raise SourceUnavailable("NVML: pynvml is not installed (the extra `gpu`)") from error
        nvml = self._nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise SourceUnavailable(f"NVML: {error}") from error
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            if not handles:
                raise SourceUnavailable("NVML: this machine has no GPU")
        except (nvml.NVMLError, SourceUnavailable) as error:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()
            raise SourceUnavailable(f"NVML: {str(error).removeprefix('NVML: ')}") from error
        self._handles = handles

    def _fields(self, handle: Any) -> Iterator[tuple[str, float, str]]:
        for read in (_memory, _utilization, _power, _energy, _temperature, _clock):
            with contextlib.suppress(self._nvml.NVMLError):
                yield from read(self._nvml, handle)


def _memory(nvml: Any, handle: Any) -> Fields:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        reserved: Fields = [("gpu.memory.reserved", float(memory.reserved), "bytes")]
    except nvml.NVMLError:
        # Drivers before 510: `used` includes what is reserved there.
        memory, reserved = nvml.nvmlDeviceGetMemoryInfo(handle), []
    amounts = (("used", memory.used), ("free", memory.free), ("total", memory.total))
    return [(f"gpu.memory.{name}", float(amount), "bytes") for name, amount in amounts] + reserved


def _utilization(nvml: Any, handle: Any) -> Fields:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return [
        ("gpu.utilization", rates.gpu / 100, "ratio"),
        ("gpu.memory.utilization", rates.memory / 100, "ratio"),
    ]


def _power(nvml: Any, handle: Any) -> Fields:
    return [("gpu.power", nvml.nvmlDeviceGetPowerUsage(handle) / 1000, "W")]


def _energy(nvml: Any, handle: Any) -> Fields:
    return [("gpu.energy", nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, "J")]


def _temperature(nvml: Any, handle: Any) -> Fields:
    celsius = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    return [("gpu.temperature", float(celsius), "C")]


def _clock(nvml: Any, handle: Any) -> Fields:
    return [("gpu.clock.sm", nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6, "Hz")]
