"""Whose memory it is: what belongs to either arm alone, and what a limit is held against.

Against the baseline only that counts which belongs to one arm alone. That is told, in this order,
1. by the GPUs that the scenario says serve it and nothing else (`gpus`): everything on them is its own;
2. on a GPU that both share, by the driver's readings of each process, where both arms are Python-backend models
   (devices `gpu0:model/version`);
3. without a GPU by the resident memory of the processes of such models (devices `model/version`).

A limit in bytes says what the candidate may need, so it is held against what is the candidate's own by 1, 2 or 3; where
that cannot be told, against every GPU as a whole, and without one against the server's processes. A limit that is a
share says how near the edge may come, so it is held against whatever has an edge, whoever uses it: the candidate's own
GPUs, or else every GPU as a whole; the candidate's instances with a hard limit of their own, what they have allocated
against that limit; and where there is neither, the server's processes against the host's memory. Each for itself,
nothing is added up.

The driver names processes, and a model's own workers are not named after it. So where processes of no model hold more
of a GPU than the model does, 2 does not tell whose that is.

High-water marks: of a process on a GPU the driver's (accounting mode), of an instance with a hard limit the kernel's.
A mark is of all the time since the process started, so against a limit it counts as it is; against the baseline, which
may have served for longer, it counts where it rose in the stage. It counts of a model that is one process, which the
process readings have to say: of several the marks are of different moments and say nothing of their sum. Nor does one
that fell: the process was replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.judge.amounts.watched import (
    GPU_SOURCES,
    LEAST_GAP_S,
    MOST_POLLS,
    NOTHING_READ,
    Own,
    Scene,
    Watched,
    gpus,
    own_gpus,
    together,
    watched,
)
from harness.judge.validity.signals import Series
from harness.judge.view import StageView
from harness.types import LimitKind

USED, FREE, RESERVED, TOTAL = (f"gpu.memory.{what}" for what in ("used", "free", "reserved", "total"))
ON_GPU, ON_GPU_MARK = "gpu.memory.process", "gpu.memory.process.peak"
RSS, MARK = "memory.rss", "memory.resident.peak"
ALLOCATED, HARD_LIMIT = "memory.data", "memory.limit"
NO_MEMORY = "no memory was read in this {}: neither of a GPU (NVML) nor of the server's processes"
DRIVER, KERNEL = "the driver", "the kernel"


@dataclass(frozen=True, slots=True)
class Whose:
    """What readings call the candidate (`model/version`, "" if that is not known), and the GPUs that are its alone."""

    device: str = ""
    gpus: Sequence[str] = ()

    @classmethod
    def of(cls, view: StageView) -> Whose:
        devices = view.evidence.devices
        mine = devices.get("candidate", "")
        return cls("" if mine == devices.get("baseline") else mine, view.evidence.gpus.get("candidate", ()))


def own_memory(view: StageView) -> Own | str:
    """The memory of each arm alone; or why it cannot be told."""
    scene = Scene.of(view)
    devices = [view.evidence.devices.get(arm, "") for arm in ("baseline", "candidate")]
    if not gpus(scene, USED):
        return _own_processes(scene, devices)
    named = all(view.evidence.gpus.get(arm) for arm in ("baseline", "candidate"))
    found = [_on_gpus(scene, device) for device in devices]
    if named or devices[0] == devices[1] or not all(map(len, found)):
        return own_gpus(view, USED)
    if (silent := _silent(scene, {**found[0], **found[1]}, ON_GPU)) is not None:
        return silent
    one, two = (_on_all(scene, device, parts) for device, parts in zip(devices, found, strict=True))
    return one, two


def limited_memory(scene: Scene, whose: Whose, kind: LimitKind) -> list[Watched] | str:
    """What a limit is held against, each for itself; or why there is nothing."""
    own = _on_gpus(scene, whose.device) if kind == "absolute" and not whose.gpus else {}
    if own:
        return _silent(scene, own, ON_GPU) or [_on_one(scene, *part) for part in own.items()]
    seen = gpus(scene, USED, whose.gpus)
    found = {gpu: seen.get(gpu, NOTHING_READ) for gpu in whose.gpus or sorted(seen)} if seen else {}
    if (silent := _silent(scene, found, USED)) is not None:
        return silent
    held = [replace(watched(scene, gpu, {gpu: one}), capacity=_capacity(scene, gpu)) for gpu, one in found.items()]
    allocated = scene.series("process", ALLOCATED).get(whose.device) if kind == "share" else None
    if allocated is not None:
        if (silent := _silent(scene, {_processes(whose.device): allocated}, ALLOCATED)) is not None:
            return silent
        held.append(_within_its_limit(scene, whose.device, allocated))
    return held or _of_the_server(scene, whose, kind)


def _own_processes(scene: Scene, devices: Sequence[str]) -> Own | str:
    memory = {device: one for device, one in scene.series("process", RSS).items() if len(one)}
    if not memory:
        return NO_MEMORY.format(scene.where)
    if devices[0] == devices[1] or not all(device in memory for device in devices):
        return "both arms are served by the same processes, whose memory cannot be told apart"
    one, two = (
        _risen(watched(scene, _processes(device), {device: memory[device]}), _marks(scene, "process", MARK, device))
        for device in devices
    )
    return one, two


def _of_the_server(scene: Scene, whose: Whose, kind: LimitKind) -> list[Watched] | str:
    """Where no GPU gives readings: the candidate's own processes against bytes, all of the server's against a share."""
    memory = scene.series("process", RSS)
    device = whose.device if kind == "absolute" and whose.device in memory else "server"
    if device not in memory:
        return NO_MEMORY.format(scene.where)
    name = "the server's processes" if device == "server" else _processes(device)
    if (silent := _silent(scene, {name: memory[device]}, RSS)) is not None:
        return silent
    found = watched(scene, name, {device: memory[device]})
    if kind == "share":
        total = scene.last("host", "memory.total", "host")
        return [replace(found, capacity=total, of="the host's")]
    return [_marked(found, _marks(scene, "process", MARK, device), KERNEL)]


def _within_its_limit(scene: Scene, device: str, allocated: Series) -> Watched:
    """An instance that has a hard limit; of several the one that has allocated most, against the lowest limit."""
    limit = scene.series("process", HARD_LIMIT).get(device, NOTHING_READ)
    found = watched(scene, _processes(device), {device: together(allocated, np.max)})
    return replace(found, capacity=float(limit.value.min()) if len(limit) else None, of="its hard limit of")


def _on_gpus(scene: Scene, device: str) -> dict[str, Series]:
    """By what readings call it there: the memory of the processes of a model, on each GPU that they use; {} where that
    is not known, or may be a part of it only.
    """
    every = scene.series("nvml", ON_GPU) if device else {}
    found = {name: one for name, one in every.items() if name.partition(":")[2] == device}
    for name, one in found.items():
        gpu = name.partition(":")[0]
        others = {pid: other for pid, other in every.items() if pid.startswith(f"{gpu}:pid") and len(other)}
        if len(one) and sum(float(other.value.max()) for other in others.values()) > one.value.max():
            return {}
    return found


def _on_one(scene: Scene, name: str, one: Series) -> Watched:
    gpu, _, device = name.partition(":")
    return _marked(
        watched(scene, f"{_processes(device)} on {gpu}", {name: one}),
        _marks(scene, "nvml", ON_GPU_MARK, name),
        DRIVER,
    )


def _on_all(scene: Scene, device: str, parts: Mapping[str, Series]) -> Watched:
    where = " and ".join(name.partition(":")[0] for name in parts)
    found = watched(scene, f"{_processes(device)} on {where}", parts)
    if len(parts) > 1:  # marks of several GPUs are of different moments
        return found
    return _risen(found, _marks(scene, "nvml", ON_GPU_MARK, next(iter(parts))))


def _marks(scene: Scene, source: str, metric: str, device: str) -> Series:
    """The high-water marks of a model that is one process all the time; else NOTHING_READ."""
    found = scene.series(source, metric).get(device, NOTHING_READ)
    count = scene.series("process", "processes").get(device.rpartition(":")[2], NOTHING_READ).value
    one = len(count) > 0 and bool((count == 1).all()) and len(np.unique(found.t_ns)) == len(found)
    return found if one and not (np.diff(found.value) < 0).any() else NOTHING_READ


def _marked(seen: Watched, marks: Series, by: str) -> Watched:
    """With its high-water mark, if that was read to the end."""
    if not len(marks) or marks.t_ns[-1] < seen.t_ns[-1] - max(MOST_POLLS * seen.every_s, LEAST_GAP_S) * 1e9:
        return seen
    return replace(seen, mark=float(marks.value.max()), marked_by=by)


def _risen(seen: Watched, marks: Series) -> Watched:
    """Where the mark rose it is what was used between that poll and the one before."""
    rose = np.flatnonzero(np.diff(marks.value) > 0) + 1
    at = np.minimum(np.searchsorted(seen.t_ns, marks.t_ns[rose]), len(seen.t_ns) - 1)
    value = seen.value.copy()
    np.maximum.at(value, at, marks.value[rose])
    return replace(seen, value=value)


def _capacity(scene: Scene, gpu: str) -> float | None:
    """What there is of it. An exporter that does not tell the total tells its parts."""
    for source in GPU_SOURCES:
        if (total := scene.last(source, TOTAL, gpu)) is not None:
            return total
        used, free = (scene.last(source, metric, gpu) for metric in (USED, FREE))
        if used is not None and free is not None:
            return used + free + (scene.last(source, RESERVED, gpu) or 0.0)
    return None


def _silent(scene: Scene, parts: Mapping[str, Series], metric: str) -> str | None:
    names = [name for name, one in parts.items() if not len(one)]
    return f"{' and '.join(names)} gave no readings ({metric}) in this {scene.where}" if names else None


def _processes(device: str) -> str:
    return f"the processes of {device}"
