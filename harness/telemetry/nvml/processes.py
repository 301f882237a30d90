"""What each process holds of a card's memory.

Device `gpu0:MODEL/VERSION` for the processes of a Python-backend model together, `gpu0:pid1234` for any other.

gpu.memory.process        bytes, now. Absent where the driver does not know it of one of them (NOT_AVAILABLE).
gpu.memory.process.peak   bytes, the driver's own high-water mark, also between polls; where its accounting mode is on.
                          Of several processes the sum of their peaks, which the peak of their sum does not exceed.
                          Told once more of a process that has ended.

In a container that does not share the host's process ids a process may not be known by its model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psutil

from harness.telemetry.host import stub_of
from harness.telemetry.nvml.binding import NOT_FOUND, call
from harness.telemetry.nvml.card import Card, Question

Ask = Callable[[Card, Question], Any]
PROCESS, PEAK = "gpu.memory.process", "gpu.memory.process.peak"


def _listed(function: str) -> Callable[[Any, Card], list[tuple[int, int | None]]]:
    def way(nvml: Any, card: Card) -> list[tuple[int, int | None]]:
        return [(each.pid, each.usedGpuMemory) for each in call(nvml, function, card.handle)]

    return way


def _accounting(nvml: Any, card: Card) -> bool:
    return bool(call(nvml, "nvmlDeviceGetAccountingMode", card.handle) == nvml.NVML_FEATURE_ENABLED)


LISTS = tuple(
    Question(
        f"{kind.lower()} processes",
        (_listed(f"nvmlDeviceGet{kind}RunningProcesses_v3"), _listed(f"nvmlDeviceGet{kind}RunningProcesses_v2")),
    )
    for kind in ("Compute", "Graphics")
)
ACCOUNTING = Question("accounting mode", (_accounting,))


class Processes:
    """Those of one card or MIG instance, from one reading to the next."""

    def __init__(self) -> None:
        self._labels: dict[int, str] = {}

    def read(self, card: Card, ask: Ask) -> list[tuple[str, str, float, str]]:
        """(device, metric, value, unit) of each."""
        used: dict[int, int | None] = {}
        for question in LISTS:  # one that computes and draws is in both, with the same figure
            used.update(ask(card, question) or ())
        before, self._labels = self._labels, {pid: self._label(pid) for pid in used}
        found = [(device, PROCESS, value, "bytes") for device, value in _sums(used, self._labels)]
        if ask(card, ACCOUNTING):
            known = {**before, **self._labels}
            peaks = {pid: self._peak(card, ask, pid) for pid in known}
            found += [(device, PEAK, value, "bytes") for device, value in _sums(peaks, known)]
        return [(f"{card.name}:{device}", metric, value, unit) for device, metric, value, unit in found]

    def _label(self, pid: int) -> str:
        """A process becomes a stub a moment after it began: one that is not known by a model is looked at again."""
        known = self._labels.get(pid, "")
        if known and not known.startswith("pid"):
            return known
        try:
            return stub_of(psutil.Process(pid).cmdline()) or f"pid{pid}"
        except psutil.Error:
            return f"pid{pid}"

    def _peak(self, card: Card, ask: Ask, pid: int) -> int | None:
        def way(nvml: Any, card: Card) -> int | None:
            try:
                peak = call(nvml, "nvmlDeviceGetAccountingStats", card.handle, pid).maxMemoryUsage
            except nvml.NVMLError as error:
                if error.value == NOT_FOUND:  # it has not used the GPU yet, or was pushed out by newer ones
                    return None
                raise
            return None if peak is None else int(peak)

        found: int | None = ask(card, Question("accounting", (way,)))
        return found


def _sums(amounts: dict[int, int | None], labels: dict[int, str]) -> Iterable[tuple[str, float]]:
    """By label; one of which a part is not known is left out."""
    by_label: dict[str, list[int | None]] = {}
    for pid, amount in amounts.items():
        by_label.setdefault(labels[pid], []).append(amount)
    for label, parts in by_label.items():
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            yield label, float(sum(known))
