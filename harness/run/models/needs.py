"""What a version will take of a device, by the best evidence that there is; the evidence is part of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.run.costs import Cost, placed
from harness.run.machine import HOST, Machine
from harness.triton.preallocation import Engine, engine, engine_arguments

MARGIN = 0.05
"""Of what was measured or estimated, on top: allocators round up, and no two loads take the same."""
TELLING = 0.1
"""Files that make up less than this share of what a version holds say nothing of another version's size."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one device. `bound`: at least that, and nobody knows how much more."""

    amount: float
    margin: float
    evidence: str
    bound: bool = False

    @property
    def total(self) -> float:
        return self.amount + self.margin


@dataclass(frozen=True)
class Candidate:
    """A version that is to be loaded, and all that is known of it and its neighbours.

    `serving`: READY versions of its model. `stated`: what the operator says it takes of each device, in bytes.
    """

    model: str
    version: int
    config: Mapping[str, Any]
    repository: Path | None
    machine: Machine
    costs: Sequence[Cost] = ()
    serving: Sequence[int] = ()
    stated: float | None = None

    @property
    def arguments(self) -> dict[str, Any] | None:
        return engine_arguments(self.repository, self.model, self.version)

    @property
    def engine(self) -> Engine | None:
        return engine(self.config, self.arguments)

    @property
    def devices(self) -> dict[str, int]:
        """Instances by device. A model that is placed on the host may move itself to GPUs: where its versions were seen
        to, it is held against those, too.
        """
        found = placed(self.config, self.arguments, self.machine)
        if set(found) != {HOST}:
            return found
        seen = [device for cost in self.costs for device in cost.amounts]
        seen += [device for version in self.serving for device in self.machine.held.get(f"{self.model}/{version}", {})]
        return {**found, **{device: found[HOST] for device in seen if device != HOST}}

    def need(self, device: str) -> Need | None:
        """None where there is no evidence at all."""
        reserving = self.engine
        if self.stated is not None:
            return Need(self.stated, 0.0, "as stated")
        if reserving is not None and reserving.share is not None:
            return self._reserved(device, reserving)
        return self._measured(device) or self._like_another(device) or self._held(device) or self._files()

    def weights(self) -> float | None:
        """Bytes of its files, or of its engine's; None where they are not seen from here."""
        reserving = self.engine
        folder = Path(reserving.folder) if reserving is not None and reserving.folder else None
        if folder is None and self.repository is not None:
            folder = self.repository / self.model / str(self.version)
        return size_of(folder)

    def _reserved(self, device: str, reserving: Engine) -> Need | None:
        assert reserving.share is not None
        total = self.machine.total.get(device)
        if reserving.of == "rest":
            return self._files()
        if total is None:
            return None
        # It is what the engine itself looks for at its start, no estimate: no margin.
        return Need(reserving.share * total * self.devices.get(device, 1), 0.0, str(reserving))

    def _measured(self, device: str) -> Need | None:
        found = self._amounts(device, self.version)
        if not found:
            return None
        middle = median(found)
        margin = max(MARGIN * middle, max(found) - middle)
        loads = "the last load" if len(found) == 1 else f"the median of {len(found)} loads"
        return Need(middle, margin, f"measured: {loads} of it on this server")

    def _like_another(self, device: str) -> Need | None:
        others = [cost.version for cost in self.costs if cost.version != self.version]
        for version in sorted(set(others), key=lambda version: (version in self.serving, version), reverse=True):
            if found := self._amounts(device, version):
                return self._scaled(median(found), version, "cost when it was loaded here")
        return None

    def _held(self, device: str) -> Need | None:
        for version in sorted(self.serving, reverse=True):
            amount = self.machine.held.get(f"{self.model}/{version}", {}).get(device)
            if amount:
                return self._scaled(amount, version, "holds now")
        return None

    def _files(self) -> Need | None:
        """The lower bound. Several GPUs share the weights of an engine; others have all of them on each."""
        size = self.weights()
        if not size:
            return None
        parts = len(self.devices) if self.engine is not None else 1
        return Need(size / max(1, parts), 0.0, "the size of its files, at least", bound=True)

    def _amounts(self, device: str, version: int) -> list[float]:
        """Of each earlier load, for as many instances as there will be; from another GPU where not from this one."""
        count = self.devices.get(device, 1)
        found = []
        for cost in self.costs:
            gpu = device.startswith("gpu")
            like = {name: amount for name, amount in cost.amounts.items() if name.startswith("gpu") == gpu}
            if cost.version == version and like:
                name = device if device in like else max(like, key=like.__getitem__)
                found.append(like[name] * count / max(1, cost.instances.get(name, 1)))
        return found

    def _scaled(self, amount: float, version: int, what: str) -> Need:
        """An estimate from another version; by the size of their files where those are what it mostly consists of."""
        mine, other = self.weights(), None
        if self.repository is not None:
            other = size_of(self.repository / self.model / str(version))
        by = ""
        if mine and other and other >= TELLING * amount:
            amount, by = amount * mine / other, ", by the size of their files"
        return Need(amount, MARGIN * amount, f"an estimate: what version {version} {what}{by}")


def size_of(folder: Path | None) -> float | None:
    """Bytes of the files below; None where it is not there."""
    if folder is None or not folder.is_dir():
        return None
    try:
        return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    except OSError:
        return None
