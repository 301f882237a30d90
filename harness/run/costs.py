"""What loads have cost in memory, version by version: measured around every load, and kept in the journal.

An entry `models.cost` has as its target URL/MODEL/VERSION; `before` and `wanted` are what was used on each device
before and after the load, and `wanted` also has the cost itself and how many instances it was for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.errors import CanaryError
from harness.run.journal import Entry, Journal, read
from harness.run.machine import HOST, Look, Machine
from harness.run.state import state_folder
from harness.triton import Control
from harness.triton.preallocation import engine_arguments, gpus, instances

COST = "models.cost"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one load of `version`: bytes, and instances, by device."""

    version: int
    amounts: Mapping[str, float]
    instances: Mapping[str, int]


def placed(config: Mapping[str, Any], arguments: Mapping[str, Any] | None, machine: Machine) -> dict[str, int]:
    """How many instances each device gets, by its name among the readings."""
    found = gpus(config, arguments, len(machine.gpus))
    if not found:
        return {HOST: instances(config)}
    names = dict(enumerate(machine.gpus))
    return {names.get(number, f"gpu{number}"): count for number, count in found.items()}


def costs(entries: Iterable[Entry], url: str, model: str) -> tuple[Cost, ...]:
    """Of every load of `model` on that server that these entries know, oldest first."""
    found = []
    for entry in entries:
        place, _, version = str(entry.target).rpartition("/")
        if entry.action != COST or entry.state != "done" or place != f"{url}/{model}" or not version.isdecimal():
            continue
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            amounts = {str(device): float(amount) for device, amount in entry.wanted["cost"].items()}
            counts = {str(device): int(count) for device, count in entry.wanted["instances"].items()}
            found.append(Cost(int(version), amounts, counts))
    return tuple(found)


def known(journal: Journal, url: str, model: str) -> tuple[Cost, ...]:
    """From `journal`, and from what is kept of that server whoever loaded it."""
    kept = state_folder([url])
    entries = [*(read(kept) if kept != journal.folder else ()), *journal.entries()]
    return costs(entries, url, model)


@contextmanager
def measured(
    journal: Journal, control: Control, model: str, joining: Sequence[int], repository: Path | None, look: Look
) -> Iterator[None]:  # fmt: skip
    """Around a load of `joining`: its cost goes to the journal. What cannot be read is no reason to fail."""
    before = _looked(look, control.url) if joining else Machine()
    yield
    if not joining:
        return
    after = _looked(look, control.url)
    with suppress(CanaryError):
        for version in joining:
            arguments = engine_arguments(repository, model, version)
            where = placed(control.config(model, version), arguments, after)
            amounts = _cost(f"{model}/{version}", where, before, after, alone=len(joining) == 1)
            if amounts:
                wanted = {
                    "used": dict(after.used), "cost": amounts,
                    "instances": {device: where.get(device, sum(where.values())) for device in amounts},
                }  # fmt: skip
                target = f"{control.url}/{model}/{version}"
                with journal.action(COST, target, before={"used": dict(before.used)}, wanted=wanted):
                    pass


def _cost(
    name: str, where: Mapping[str, int], before: Machine, after: Machine, *, alone: bool
) -> dict[str, float]:  # fmt: skip
    """What its own processes hold, where it has any, also on GPUs of which the configuration says nothing: a Python
    model of KIND_CPU moves itself. Else by how much more is used than before.
    """
    amounts = {}
    for device in dict.fromkeys([*where, *after.held.get(name, {})]):
        held = after.held.get(name, {}).get(device)
        if held is not None:
            amounts[device] = held
        elif alone and device in before.used and device in after.used:
            amounts[device] = after.used[device] - before.used[device]
    return {device: amount for device, amount in amounts.items() if amount > 0}


def _looked(look: Look, url: str) -> Machine:
    try:
        return look(url)
    except (CanaryError, OSError, psutil.Error) as error:
        return Machine(unknown=str(error))
