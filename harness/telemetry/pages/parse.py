"""A metrics page to readings: the same quantity has the same name and unit, whoever says it.

Guarantees: of each (source, device, metric) there is one value; what a page does not say, or says it does not know, is
absent; families that no table has are passed over unread, so that a long page costs little.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from harness.telemetry.pages import dcgm, triton, trtllm, vllm
from harness.telemetry.pages.family import Family, Labels, Table
from harness.telemetry.source import Value

TABLES = {name: one.TABLE for one in (triton, dcgm, vllm, trtllm) for name in one.TABLE.names}
_NAME = re.compile(r"[A-Za-z_:][\w:]*")


def parse(page: str) -> list[Value]:
    """The readings on a page; none where it holds no family that is known. Raises ValueError where it is none."""
    found = _Found()
    for table, name, labels, value in _samples(page):
        if not math.isfinite(value) or table.absent(value):
            continue
        device = table.device(labels)
        for family, amount in table.meanings(name, labels, value):
            found.add(family, device, amount)
            part = labels.get(family.each, "").lower() if family.each else ""
            if part and amount:
                found.add(Family(family.source, f"{family.metric}.{part}", family.unit), device, amount)
    found.name_the_nameless()
    found.derive()
    return [Value(*key, value, unit) for key, (_, value, unit) in found.values.items()]


def _samples(page: str) -> Iterator[tuple[Table, str, Labels, float]]:
    """Those of known families, by the name that their table has."""
    lines = []
    for line in page.split("\n"):  # splitlines() would also split at characters that a label may hold
        start = _NAME.match(line)
        if start is not None and (start[0] in TABLES or start[0].removesuffix("_total") in TABLES):
            lines.append(line)
    try:
        # Without their TYPE lines the parser leaves the names as they are.
        families = list(text_string_to_metric_families("".join(f"{line}\n" for line in lines)))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(str(error)) from error
    for family in families:
        for sample in family.samples:
            name = sample.name if sample.name in TABLES else sample.name.removesuffix("_total")
            yield TABLES[name], name, sample.labels, float(sample.value)


class _Found:
    """By source, device and metric: the choice that the value is of, the value, its unit."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, str], tuple[int, float, str]] = {}

    def add(self, family: Family, device: str, value: float) -> None:
        key = (family.source, device, family.metric)
        choice, so_far, unit = self.values.get(key, (family.choice + 1, 0.0, family.unit))
        if choice < family.choice:
            return
        if choice == family.choice:
            value = so_far + value if family.join == "sum" else max(so_far, value)
        self.values[key] = (family.choice, value, unit)

    def name_the_nameless(self) -> None:
        """What a page says without a name is of its only model; of several nobody can tell."""
        for key in [key for key in self.values if not key[1]]:
            devices = {device for source, device, _ in self.values if source == key[0] and device}
            value = self.values.pop(key)
            if len(devices) == 1:
                self.values.setdefault((key[0], devices.pop(), key[2]), value)

    def derive(self) -> None:
        """What follows from other quantities of a device."""
        for source, device in dict.fromkeys(key[:2] for key in self.values):
            told = {key[2]: value for key, (_, value, _) in self.values.items() if key[:2] == (source, device)}
            used, free = told.get("gpu.memory.used"), told.get("gpu.memory.free")
            if used is not None and free is not None:
                # Where what the driver keeps for itself is not told it is missing here, or part of what is used.
                total = used + free + told.get("gpu.memory.reserved", 0.0)
                self.values.setdefault((source, device, "gpu.memory.total"), (0, total, "bytes"))
            blocks, of = told.get("kv_cache.blocks.used"), told.get("kv_cache.blocks.total")
            if blocks is not None and of:
                self.values[source, device, "kv_cache.usage"] = (0, blocks / of, "ratio")
