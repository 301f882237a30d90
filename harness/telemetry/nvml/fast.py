"""What is asked of a card at every poll; NVML takes microseconds for each.

At a hundred polls a second nearly all of the cost is Python's. So the gauges of a card are bound once, each to its
function in the library that pynvml has opened and to its place in one frame of memory, which it fills at every poll. A
poll keeps a copy of the frame; readings are made of it when somebody wants them, those of many polls together.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.telemetry.nvml.binding import call
from harness.telemetry.nvml.card import Card, Question
from harness.telemetry.nvml.gauge import Bound, Gauge, Told
from harness.telemetry.source import Value

NAME = "nvml"
THROTTLED = "gpu.throttle"

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


Reasons = tuple[int, Bound]
"""The bits of THROTTLE that the driver says it can tell, and the gauge of those that are set."""


class Frame:
    """The gauges that a card answers, asked together; the last is that of `reasons`."""

    def __init__(self, device: str, gauges: Sequence[Bound], reasons: Reasons | None) -> None:
        self._device = device
        self._supported = 0
        self._bits, self._due_s = -1, 0.0
        if reasons is not None:
            self._supported, gauges = reasons[0], [*gauges, reasons[1]]
        self.size = len(gauges)
        fields = [(f"gauge{number}", gauge.kind * 1) for number, gauge in enumerate(gauges)]
        layout: Any = type("Layout", (ctypes.Structure,), {"_fields_": fields})
        self._memory = layout()
        self._calls = [gauge.into(getattr(self._memory, name)) for gauge, (name, _) in zip(gauges, fields, strict=True)]
        self._told: list[tuple[int, Told]] = []
        letters, end = "@", 0  # sizes as C has them; nothing is out of line by itself
        for number, gauge in enumerate(gauges):
            begin = getattr(layout, f"gauge{number}").offset
            for offset, letter, told in sorted(gauge.members()):
                letters += f"{begin + offset - end}x{letter}"
                end = struct.calcsize(letters)
                self._told.append((number, told))
        self._unpack = struct.Struct(f"{letters}{ctypes.sizeof(layout) - end}x").unpack

    def ask(self) -> tuple[bytes, dict[int, int]]:
        """What was answered, and by its number NVML's return code of each gauge that did not answer."""
        failed = {}
        for number, (function, arguments) in enumerate(self._calls):
            if code := function(*arguments):
                failed[number] = code
        return bytes(self._memory), failed

    def values(self, answered: bytes, failed: dict[int, int], now_s: float, every_s: float) -> Iterator[Value]:
        """Throttle reasons when they have changed, and every `every_s`."""
        for (number, told), found in zip(self._told, self._unpack(answered), strict=True):
            if number in failed:
                continue
            if told.metric != THROTTLED:
                yield Value(NAME, self._device, told.metric, found * told.times / told.by, told.unit)
            elif found != self._bits or now_s >= self._due_s:
                self._bits, self._due_s = found, now_s + every_s
                said = ((metric, float(bool(found & bit))) for bit, metric in THROTTLE.items() if self._supported & bit)
                for metric, value in said:
                    yield Value(NAME, self._device, metric, value, told.unit)


def frame_of(card: Card) -> tuple[Frame, list[int]]:
    """Of the gauges that it answers, kept once that is known of all; and NVML's return codes of those that did not
    answer now.
    """
    if card.frame is not None:
        return card.frame, []
    failed = list[int]()
    found = dict[str, Any]()
    for question in (*FAST, REASONS):
        try:
            found[question.name] = card.ask(question)
        except card.nvml.NVMLError as error:
            failed.append(error.value)
    reasons = found.pop(REASONS.name, None)
    frame = Frame(card.name, [gauge for gauge in found.values() if gauge is not None], reasons)
    if not failed:
        card.frame = frame
    return frame, failed


def _question(name: str, *gauges: Gauge) -> Question:
    return Question(name, tuple(gauge.bound for gauge in gauges))


_AMOUNTS = tuple(Told(f"gpu.memory.{what}", "bytes", what) for what in ("used", "free", "total"))
_RESERVED = Told("gpu.memory.reserved", "bytes", "reserved")
_CELSIUS = Told("gpu.temperature", "C")

FAST = (
    _question(
        "memory",
        Gauge("nvmlDeviceGetMemoryInfo_v2", "c_nvmlMemory_v2_t", (*_AMOUNTS, _RESERVED), version="nvmlMemory_v2"),
        Gauge("nvmlDeviceGetMemoryInfo", "c_nvmlMemory_t", _AMOUNTS),  # in `used` is what the driver keeps for itself
    ),
    _question(
        "utilization",
        Gauge(
            "nvmlDeviceGetUtilizationRates",
            "c_nvmlUtilization_t",
            (
                Told("gpu.utilization", "ratio", "gpu", by=100.0),
                Told("gpu.memory.utilization", "ratio", "memory", by=100.0),
            ),
        ),
    ),
    _question("power", Gauge("nvmlDeviceGetPowerUsage", ctypes.c_uint, (Told("gpu.power", "W", by=1000.0),))),
    _question(
        "energy",
        Gauge("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong, (Told("gpu.energy", "J", by=1000.0),)),
    ),
    _question(
        "temperature",
        Gauge(
            "nvmlDeviceGetTemperatureV",
            "c_nvmlTemperature_v1_t",
            (_CELSIUS._replace(member="temperature"),),
            version="nvmlTemperature_v1",
        ),
        # Before CUDA 13.
        Gauge("nvmlDeviceGetTemperature", ctypes.c_uint, (_CELSIUS,), argument="NVML_TEMPERATURE_GPU"),
    ),
    *(
        _question(
            f"clock of {what}",
            Gauge("nvmlDeviceGetClockInfo", ctypes.c_uint, (Told(metric, "Hz", times=1e6),), argument=argument),
        )
        for what, metric, argument in (
            ("the SMs", "gpu.clock.sm", "NVML_CLOCK_SM"),
            ("the memory", "gpu.clock.memory", "NVML_CLOCK_MEM"),
        )
    ),
)


def _reasons(word: str) -> Callable[[Any, Card], Reasons]:
    def way(nvml: Any, card: Card) -> Reasons:
        supported = call(nvml, f"nvmlDeviceGetSupportedClocks{word}Reasons", card.handle)
        now = Gauge(f"nvmlDeviceGetCurrentClocks{word}Reasons", ctypes.c_ulonglong, (Told(THROTTLED, "1"),))
        return supported, now.bound(nvml, card)

    return way


REASONS = Question("throttle reasons", (_reasons("Event"), _reasons("Throttle")))
"""Before driver 535 they were called the other way."""
