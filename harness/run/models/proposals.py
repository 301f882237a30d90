"""What to do where a version does not fit beside the other: settings that fit, a second GPU, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor

from harness.errors import CanaryError
from harness.run.machine import HOST
from harness.run.models.needs import Candidate
from harness.triton import Control
from harness.triton.preallocation import DEFAULT_SHARE, FRACTION, TOKENS, Engine, placement_key

IN_TURNS = "compare them in turns instead (in a scenario target: {swap: true} and sequential stages)"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A READY version whose engine reserves memory on `devices` (instances by device)."""

    name: str
    engine: Engine
    devices: Mapping[str, int]


def proposals(control: Control, candidate: Candidate, full: Mapping[str, float]) -> list[str]:
    """`full`: the devices on which it does not fit, and what it needs there. Most welcome first."""
    found = []
    reserving = candidate.engine
    if reserving is not None and reserving.share is not None and candidate.stated is None:
        beside = [each for each in neighbours(control, candidate) if each.engine.name == reserving.name]
        found = _settings(candidate, reserving, beside, full)
    return [*found, *_other_gpus(candidate, full), IN_TURNS]


def neighbours(control: Control, candidate: Candidate) -> list[Neighbour]:
    """The reserving engines that serve on the same server, of this model and of others."""
    index = control.index()
    found = []
    for model in index.models:
        for version in index.ready(model):
            try:
                config = control.config(model, version)
            except CanaryError:
                continue  # it left meanwhile
            other = Candidate(model, version, config, candidate.repository, candidate.machine)
            reserving = other.engine
            if reserving is not None and reserving.share is not None:
                found.append(Neighbour(f"{model}/{version}", reserving, other.devices))
    return found


def equal_share(total: float, free: float, reserved: float, engines: int) -> float:
    """The share of a device that each of so many vLLM engines can have, rounded down to hundredths.

    `reserved`: what those of them that serve already hold; it comes free once they are loaded anew with their new
    share. All of them together get no more than what one takes by default.
    """
    room = min(DEFAULT_SHARE, (free + reserved) / total)
    return floor(100 * room / engines + 1e-9) / 100


def _settings(
    candidate: Candidate, reserving: Engine, beside: list[Neighbour], full: Mapping[str, float]
) -> list[str]:  # fmt: skip
    if reserving.of == "rest":
        others = f" of {', '.join(each.name for each in beside)}" if beside else ""
        return [
            f"lower {FRACTION}{others}, which took that share of what was free, or set {TOKENS} for each: two caches "
            "of the same size are also what makes the two comparable"
        ]
    machine = candidate.machine
    shares, names = [], set[str]()
    for device in full:
        total, free = machine.total.get(device), machine.free.get(device)
        here = [each for each in beside if device in each.devices]
        if total is None or free is None or not here:
            continue
        reserved = sum((each.engine.share or 0.0) * total * each.devices[device] for each in here)
        engines = candidate.devices[device] + sum(each.devices[device] for each in here)
        shares.append(equal_share(total, min(free, total - reserved), reserved, engines))
        names |= {each.name for each in here}
    if not shares or min(shares) <= 0:
        return []
    who = ", ".join([*sorted(names), f"{candidate.model}/{candidate.version}"])
    return [f"with {reserving.key} {min(shares):g} each in the model.json of {who} they fit"]


def _other_gpus(candidate: Candidate, full: Mapping[str, float]) -> list[str]:
    """As many other GPUs as it needs, each with room. One configuration is for all versions of a model."""
    machine, used = candidate.machine, candidate.devices
    if HOST in used or not full:
        return []
    largest = max(full.values())
    roomy = [
        (number, device)
        for number, device in enumerate(machine.gpus)
        if device not in used and machine.free.get(device, 0.0) >= largest
    ]
    if len(roomy) < len(used):
        return []
    chosen = sorted(roomy, key=lambda each: -machine.free[each[1]])[: len(used)]
    room = " and ".join(f"{machine.free[device] / 2**30:.1f} GiB free on {device}" for _, device in chosen)
    key = placement_key(candidate.config, sorted(number for number, _ in chosen))
    return [f"there is {room}: load it there, as a model of another name or on a server of its own ({key})"]
