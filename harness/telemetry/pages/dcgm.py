"""The DCGM exporter's families: DCGM_FI_*, one device a GPU or MIG instance.

Names, units and labels: NVIDIA/dcgm-exporter 4.5.3-4.8.2, etc/default-counters.csv, values.yaml and
internal/pkg/rendermetrics; bits of the clock event reasons and the numbers that stand for "not known": DCGM's field
constants (dcgm_fields.h, dcgm_structs.h). Where time-slicing lets several pods share a GPU the exporter says its values
once a pod: of equal claims one counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.telemetry.pages.family import Family, Labels, Meaning, Table

MIB = 2.0**20
XID = "gpu.xid"
# DCGM_CLOCKS_EVENT_REASON_*, which are NVML's.
REASONS = {
    0x001: "idle",
    0x002: "clocks_setting",
    0x004: "power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal",
    0x040: "thermal_slowdown",
    0x080: "power_brake",
    0x100: "display_clocks",
}
# DCGM_INT64_BLANK and DCGM_FP64_BLANK; up to 3 above them: not found, not supported, no permission.
_INT64_BLANK = float(0x7FFFFFFFFFFFFFF0)
_FP64_BLANK = 140737488355328.0


def _device(labels: Labels) -> str:
    gpu = labels.get("UUID") or labels.get("uuid") or labels.get("gpu", "")
    instance = labels.get("GPU_I_ID")
    return f"{gpu}/mig{instance}" if instance else gpu


def _of(metric: str, unit: str = "1", factor: float = 1.0, choice: int = 0) -> Family:
    return Family("dcgm", metric, unit, factor, "max", choice)


def _absent(value: float) -> bool:
    return value >= _INT64_BLANK or 0 <= value - _FP64_BLANK <= 3


def _throttle(_: Labels, value: float) -> Iterable[Meaning]:
    return [(_of(f"gpu.throttle.{reason}"), float(bool(int(value) & bit))) for bit, reason in REASONS.items()]


TABLE = Table(
    _device,
    {
        "DCGM_FI_DEV_FB_USED": _of("gpu.memory.used", "bytes", MIB),
        "DCGM_FI_DEV_FB_FREE": _of("gpu.memory.free", "bytes", MIB),
        "DCGM_FI_DEV_FB_RESERVED": _of("gpu.memory.reserved", "bytes", MIB),
        "DCGM_FI_DEV_FB_TOTAL": _of("gpu.memory.total", "bytes", MIB),
        "DCGM_FI_DEV_GPU_UTIL": _of("gpu.utilization", "ratio", 0.01),
        # All that a MIG instance has.
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": _of("gpu.utilization", "ratio", choice=1),
        "DCGM_FI_PROF_SM_ACTIVE": _of("gpu.sm.active", "ratio"),
        "DCGM_FI_DEV_MEM_COPY_UTIL": _of("gpu.memory.utilization", "ratio", 0.01),
        "DCGM_FI_DEV_POWER_USAGE": _of("gpu.power", "W"),
        "DCGM_FI_DEV_POWER_MGMT_LIMIT": _of("gpu.power.limit", "W"),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": _of("gpu.energy", "J", 1e-3),
        "DCGM_FI_DEV_GPU_TEMP": _of("gpu.temperature", "C"),
        "DCGM_FI_DEV_MEMORY_TEMP": _of("gpu.temperature.memory", "C"),
        "DCGM_FI_DEV_SM_CLOCK": _of("gpu.clock.sm", "Hz", 1e6),
        "DCGM_FI_DEV_MEM_CLOCK": _of("gpu.clock.memory", "Hz", 1e6),
        # A rate, also where an older exporter called it a counter.
        "DCGM_FI_PROF_PCIE_TX_BYTES": _of("gpu.pcie.tx", "bytes/s"),
        "DCGM_FI_PROF_PCIE_RX_BYTES": _of("gpu.pcie.rx", "bytes/s"),
        "DCGM_FI_DEV_PCIE_TX_THROUGHPUT": _of("gpu.pcie.tx", "bytes/s", 1e3, choice=1),
        "DCGM_FI_DEV_PCIE_RX_THROUGHPUT": _of("gpu.pcie.rx", "bytes/s", 1e3, choice=1),
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": _of("gpu.ecc.corrected"),
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": _of("gpu.ecc.uncorrected"),
        # The last one that there was.
        "DCGM_FI_DEV_XID_ERRORS": _of(XID),
    },
    special={"DCGM_FI_DEV_CLOCKS_EVENT_REASONS": _throttle, "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": _throttle},
    absent=_absent,
)
