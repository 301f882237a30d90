"""What is asked of a card once a second: NVML takes long to answer (the PCIe throughput is measured while one waits,
20 ms each way), or the answer hardly changes. Each way gives a list of (metric, value, unit).
"""

from __future__ import annotations

from typing import Any

from harness.telemetry.nvml.binding import call
from harness.telemetry.nvml.card import Card, Question

Fields = list[tuple[str, float, str]]


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


ECC = (Question("corrected ECC errors", (_ecc_corrected,)), Question("uncorrected ECC errors", (_ecc_uncorrected,)))
SLOW = (
    Question("power limit", (_power_limit,)),
    Question("temperature of the memory", (_memory_temperature,)),
    Question("PCIe, received", (_pcie_rx,)),
    Question("PCIe, sent", (_pcie_tx,)),
    *ECC,
)
