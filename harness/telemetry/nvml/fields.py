"""What is asked of a card: FAST at every poll, SLOW once a second.

A fast question takes NVML microseconds. A slow one takes longer (the PCIe throughput is measured while one waits,
20 ms each way), or its answer hardly changes. Each way gives a list of (metric, value, unit).
"""

from __future__ import annotations

from typing import Any

from harness.telemetry.nvml.card import Card, Question
from harness.telemetry.nvml.library import call

Fields = list[tuple[str, float, str]]

# Bits of nvmlClocksEventReasons in nvml.h (once nvmlClocksThrottleReasons).
THROTTLE = {
    0x001: "gpu.throttle.idle",
    0x002: "gpu.throttle.clocks_setting",
    0x004: "gpu.throttle.power_cap",
    0x008: "gpu.throttle.hw_slowdown",
    0x010: "gpu.throttle.sync_boost",
    0x020: "gpu.throttle.sw_thermal",
    0x040: "gpu.throttle.thermal_slowdown",
    0x080: "gpu.throttle.power_brake",
    0x100: "gpu.throttle.display_clocks",
}


def _memory(nvml: Any, card: Card) -> Fields:
    memory = nvml.nvmlDeviceGetMemoryInfo(card.handle, nvml.nvmlMemory_v2)
    return [*_amounts(memory), ("gpu.memory.reserved", float(memory.reserved), "bytes")]


def _memory_before_510(nvml: Any, card: Card) -> Fields:
    """`used` includes what the driver keeps for itself."""
    return _amounts(nvml.nvmlDeviceGetMemoryInfo(card.handle))


def _amounts(memory: Any) -> Fields:
    return [
        ("gpu.memory.used", float(memory.used), "bytes"),
        ("gpu.memory.free", float(memory.free), "bytes"),
        ("gpu.memory.total", float(memory.total), "bytes"),
    ]


def _utilization(nvml: Any, card: Card) -> Fields:
    rates = nvml.nvmlDeviceGetUtilizationRates(card.handle)
    return [
        ("gpu.utilization", rates.gpu / 100, "ratio"),
        ("gpu.memory.utilization", rates.memory / 100, "ratio"),
    ]


def _power(nvml: Any, card: Card) -> Fields:
    return [("gpu.power", nvml.nvmlDeviceGetPowerUsage(card.handle) / 1000, "W")]


def _energy(nvml: Any, card: Card) -> Fields:
    return [("gpu.energy", nvml.nvmlDeviceGetTotalEnergyConsumption(card.handle) / 1000, "J")]


def _temperature(nvml: Any, card: Card) -> Fields:
    return [("gpu.temperature", float(call(nvml, "nvmlDeviceGetTemperatureV", card.handle, 0)), "C")]


def _temperature_before_cuda_13(nvml: Any, card: Card) -> Fields:
    return [("gpu.temperature", float(call(nvml, "nvmlDeviceGetTemperature", card.handle, 0)), "C")]


def _clock_sm(nvml: Any, card: Card) -> Fields:
    return [("gpu.clock.sm", nvml.nvmlDeviceGetClockInfo(card.handle, nvml.NVML_CLOCK_SM) * 1e6, "Hz")]


def _clock_memory(nvml: Any, card: Card) -> Fields:
    return [("gpu.clock.memory", nvml.nvmlDeviceGetClockInfo(card.handle, nvml.NVML_CLOCK_MEM) * 1e6, "Hz")]


def _throttle(nvml: Any, card: Card) -> tuple[int, int]:
    return _reasons(nvml, card, "Event")


def _throttle_before_535(nvml: Any, card: Card) -> tuple[int, int]:
    return _reasons(nvml, card, "Throttle")


def _reasons(nvml: Any, card: Card, word: str) -> tuple[int, int]:
    """The bits that the driver says it can tell, and those that are set."""
    supported = card.memo.get(word)
    if supported is None:
        supported = card.memo[word] = call(nvml, f"nvmlDeviceGetSupportedClocks{word}Reasons", card.handle)
    return supported, call(nvml, f"nvmlDeviceGetCurrentClocks{word}Reasons", card.handle)


def throttled(supported: int, now: int) -> Fields:
    return [(metric, float(bool(now & bit)), "1") for bit, metric in THROTTLE.items() if supported & bit]


def _power_limit(nvml: Any, card: Card) -> Fields:
    return [("gpu.power.limit", call(nvml, "nvmlDeviceGetEnforcedPowerLimit", card.handle) / 1000, "W")]


def _memory_temperature(nvml: Any, card: Card) -> Fields:
    (field,) = call(nvml, "nvmlDeviceGetFieldValues", card.handle, [nvml.NVML_FI_DEV_MEMORY_TEMP])
    if field.nvmlReturn:
        raise nvml.NVMLError(field.nvmlReturn)
    return [("gpu.temperature.memory", float(field.value.uiVal), "C")]


def _pcie_rx(nvml: Any, card: Card) -> Fields:
    """NVML's KB/s; taken as thousands of bytes, which it does not say."""
    speed = call(nvml, "nvmlDeviceGetPcieThroughput", card.handle, nvml.NVML_PCIE_UTIL_RX_BYTES)
    return [("gpu.pcie.rx", speed * 1e3, "bytes/s")]


def _pcie_tx(nvml: Any, card: Card) -> Fields:
    speed = call(nvml, "nvmlDeviceGetPcieThroughput", card.handle, nvml.NVML_PCIE_UTIL_TX_BYTES)
    return [("gpu.pcie.tx", speed * 1e3, "bytes/s")]


def _ecc_corrected(nvml: Any, card: Card) -> Fields:
    return [("gpu.ecc.corrected", _ecc(nvml, card, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED), "1")]


def _ecc_uncorrected(nvml: Any, card: Card) -> Fields:
    return [("gpu.ecc.uncorrected", _ecc(nvml, card, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED), "1")]


def _ecc(nvml: Any, card: Card, kind: int) -> float:
    """Since the driver was loaded."""
    return float(call(nvml, "nvmlDeviceGetTotalEccErrors", card.handle, kind, nvml.NVML_VOLATILE_ECC))


FAST = (
    Question("memory", (_memory, _memory_before_510)),
    Question("utilization", (_utilization,)),
    Question("power", (_power,)),
    Question("energy", (_energy,)),
    Question("temperature", (_temperature, _temperature_before_cuda_13)),
    Question("clock of the SMs", (_clock_sm,)),
    Question("clock of the memory", (_clock_memory,)),
)
REASONS = Question("throttle reasons", (_throttle, _throttle_before_535))
"""Asked with FAST, but answered with bits: see `throttled`."""
ECC = (Question("corrected ECC errors", (_ecc_corrected,)), Question("uncorrected ECC errors", (_ecc_uncorrected,)))
SLOW = (
    Question("power limit", (_power_limit,)),
    Question("temperature of the memory", (_memory_temperature,)),
    Question("PCIe, received", (_pcie_rx,)),
    Question("PCIe, sent", (_pcie_tx,)),
    *ECC,
)
