"""Which readings are of which arm, and whether they cover the stage.

Readings are of a device. Which GPUs serve one arm alone the scenario says (`gpus`); the processes of a Python-backend
model are told apart by themselves, as device `model/version`. What both arms share is measured as one thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.amounts import rates
from harness.judge.columns import Floats, Ints
from harness.judge.validity.signals import Series, series
from harness.judge.view import StageView

GPU_SOURCES = ("nvml", "triton")
USED, RSS = "gpu.memory.used", "memory.rss"
NO_MEMORY = "no memory was read in this stage: neither of a GPU (NVML) nor of the server's processes"
MOST_POLLS = 6
"""A gap of more polls than this is a part of the stage that nobody watched. A source that failed is asked again after
5 s, ten polls.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What was read of one thing during the stage: `name` in words, `value` at each of `t_ns`. `every_s`: the usual
    time between polls (0 if there was one only); `gap_s`: the longest, from and to the ends of the load, too.
    """

    name: str
    t_ns: Ints
    value: Floats
    every_s: float
    gap_s: float

    @property
    def peak(self) -> float:
        return float(self.value.max())


Own = tuple[Watched, Watched]


def gpus(view: StageView, metric: str) -> dict[str, Series]:
    """By GPU: NVML's readings, else Triton's own."""
    for source in GPU_SOURCES:
        found = {device: one for device, one in series(view, source, metric).items() if device != "server"}
        if found:
            return found
    return {}


def own_gpus(view: StageView, metric: str) -> Own | str:
    """What belongs to baseline and candidate alone; or why it cannot be told."""
    seen = gpus(view, metric)
    wanted = [view.evidence.gpus.get(arm, ()) for arm in ("baseline", "candidate")]
    if not seen:
        return f"no GPU gave readings ({metric}) in this stage"
    if not all(wanted):
        named = zip(view.names, wanted, strict=True)
        whose = " or ".join(name for name, own in named if not own)
        shared = ", ".join(sorted(seen))
        return (
            f"the scenario does not say which of the GPUs ({shared}) serves {whose} alone (as in candidate: "
            "{gpus: [1]}), and what both arms share cannot be told apart"
        )
    unseen = [gpu for own in wanted for gpu in own if gpu not in seen]
    if unseen:
        return f"{' and '.join(unseen)} gave no readings ({metric}) in this stage"
    one, two = (watched(view, " and ".join(own), {gpu: seen[gpu] for gpu in own}) for own in wanted)
    return one, two


def per_gpu(view: StageView) -> tuple[tuple[int, int], str] | str:
    """How many GPUs serve each arm alone, and the words for it; or why it cannot be told."""
    found = own_gpus(view, USED)  # of no interest is what they read, but that they are there
    if isinstance(found, str):
        return found
    one, two = (len(view.evidence.gpus[arm]) for arm in ("baseline", "candidate"))
    return (one, two), f" and GPU (on {two} against {one})"


def own_memory(view: StageView) -> Own | str:
    """The memory of each arm alone: of its GPUs, where there is no GPU of its processes; or why it cannot be told."""
    if gpus(view, USED):
        return own_gpus(view, USED)
    memory = series(view, "process", RSS)
    devices = [view.evidence.devices.get(arm, "") for arm in ("baseline", "candidate")]
    if not memory:
        return NO_MEMORY
    if devices[0] == devices[1] or not all(device in memory for device in devices):
        return "both arms are served by the same processes, whose memory cannot be told apart"
    one, two = (watched(view, f"the processes of {device}", {device: memory[device]}) for device in devices)
    return one, two


def limited_memory(view: StageView) -> list[Watched] | str:
    """What a limit is held against, each for itself: the candidate's own GPUs, else all GPUs; where there is none its
    own processes, else the server's.
    """
    seen = gpus(view, USED)
    if seen:
        own = view.evidence.gpus.get("candidate") or tuple(sorted(seen))
        unseen = [gpu for gpu in own if gpu not in seen]
        if unseen:
            return f"{' and '.join(unseen)} gave no readings ({USED}) in this stage"
        return [watched(view, gpu, {gpu: seen[gpu]}) for gpu in own]
    memory, devices = series(view, "process", RSS), view.evidence.devices
    mine = devices.get("candidate", "")
    if mine in memory and mine != devices.get("baseline"):
        return [watched(view, f"the processes of {mine}", {mine: memory[mine]})]
    return [watched(view, "the server's processes", {"server": memory["server"]})] if "server" in memory else NO_MEMORY


def watched(view: StageView, name: str, parts: Mapping[str, Series]) -> Watched:
    """The sum of several devices, at the moments at which the first was polled: they are read together."""
    t_ns = next(iter(parts.values())).t_ns
    value = np.sum([np.interp(t_ns, one.t_ns, one.value) for one in parts.values()], axis=0)
    gaps = [_gaps(view, one) for one in parts.values()]
    return Watched(name, t_ns, value, max(usual for usual, _ in gaps), max(longest for _, longest in gaps))


def _gaps(view: StageView, one: Series) -> tuple[float, float]:
    """The usual and the longest time (s) between readings."""
    begin, end = rates.span(view)
    between = np.diff(one.t_ns) / 1e9
    ends = ((int(one.t_ns[0]) - begin) / 1e9, (end - int(one.t_ns[-1])) / 1e9)
    usual = float(f"{np.median(between):.3g}") if len(between) else 0.0
    return usual, max(float(between.max(initial=0.0)), *ends)


def unwatched(seen: Iterable[Watched]) -> str | None:
    """Why the readings do not cover the stage; None if they do."""
    for each in seen:
        if each.gap_s > MOST_POLLS * each.every_s:
            usual = f"it is read every {words.time(each.every_s)}" if each.every_s else "it was read once"
            return f"nobody read {each.name} for {words.time(each.gap_s)} of the stage ({usual})"
    return None
