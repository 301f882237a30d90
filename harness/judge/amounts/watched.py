"""What was read of a device in a span of time, and whether the readings cover it.

A span is a stage as far as it is judged, or a trial of an operation. Nothing that was not read counts as read: a device
that stopped answering leaves a gap, and one that answered earlier in the run and is silent now is a gap as long as the
span.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from harness.judge import words
from harness.judge.amounts import rates
from harness.judge.columns import Floats, Ints
from harness.judge.validity.signals import Series, between, span
from harness.judge.view import StageView

GPU_SOURCES = ("nvml", "dcgm", "triton")
MOST_POLLS, LEAST_GAP_S = 6, 2.0
"""A time of more polls than this, and longer than that, is a part of the span that nobody watched. A source that failed
is asked again after 5 s; a machine that is busy for a second is no reason to know nothing, and sentences tell of it.
"""
LOST = "gpu.lost"
"""NVML's at every poll at which a GPU did not answer."""
NOTHING_READ = Series(np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """`table`: all readings of the run so far. Of a load from `begin_ns` to `end_ns`; what was read up to `until_ns`
    counts. `where`: what sentences call the span.
    """

    table: pa.Table | None
    begin_ns: int
    end_ns: int
    until_ns: int
    where: str = "stage"

    @classmethod
    def of(cls, view: StageView) -> Scene:
        return cls(view.evidence.readings, *rates.span(view), span(view)[1])

    def series(self, source: str, metric: str) -> dict[str, Series]:
        """By device; of one that was read earlier in the run and not in this span, a Series without readings."""
        every = between(self.table, source, metric, None, self.until_ns)
        return {device: self._since_begin(one) for device, one in every.items()}

    def last(self, source: str, metric: str, device: str) -> float | None:
        """What was last read of it, in this span or before."""
        found = between(self.table, source, metric, None, self.until_ns).get(device)
        return float(found.value[-1]) if found else None

    def _since_begin(self, one: Series) -> Series:
        first = int(np.searchsorted(one.t_ns, self.begin_ns, side="right"))
        return Series(one.t_ns[first:], one.value[first:])


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of the span, in seconds from its begin, in which nobody read `name`. `every_s`: how often it is read
    (0 if it was read once). `until_end`: it was not read again.
    """

    name: str
    from_s: float
    to_s: float
    every_s: float
    until_end: bool
    where: str

    def __str__(self) -> str:
        usual = f"it is read every {words.time(self.every_s)}" if self.every_s else "it was read once"
        lasted, begin = words.time(self.to_s - self.from_s), words.time(self.from_s)
        when = f"from {begin} on" if self.until_end else f"from {begin} to {words.time(self.to_s)}"
        return f"nobody read {self.name} for {lasted} of the {self.where} ({usual}): {when}"


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What was read of one thing during the span: `name` in words, `value` at each of `t_ns`. `every_s`: the usual
    time between polls (0 if there was one only), `longest_s`: the longest. `gap`: why the readings do not cover the
    span, None if they do.

    `capacity`: how much there is of it, None where that was not read; `of`: whose that is. `mark`: the highest that it
    ever was, kept by whom `marked_by` names, so that nothing between two polls is missed; None where nobody keeps one.
    """

    name: str
    t_ns: Ints
    value: Floats
    every_s: float
    longest_s: float = 0.0
    gap: Gap | None = None
    capacity: float | None = None
    of: str = "its"
    mark: float | None = None
    marked_by: str = ""

    @property
    def peak(self) -> float:
        return max(float(self.value.max()), self.mark or 0.0)


Own = tuple[Watched, Watched]


def gpus(scene: Scene, metric: str, wanted: Collection[str] = ()) -> dict[str, Series]:
    """By GPU: the readings of the first source that knows any in this run (NVML, then pages), or all that are `wanted`.
    One that was lost or silent throughout the span is there without readings.
    """
    known = []
    for source in GPU_SOURCES:
        found = {device: one for device, one in scene.series(source, metric).items() if device != "server"}
        known.append({**dict.fromkeys(scene.series(source, LOST), NOTHING_READ), **found})
    known = [found for found in known if found]
    return next((found for found in known if set(wanted) <= set(found)), known[0] if known else {})


def own_gpus(view: StageView, metric: str) -> Own | str:
    """What belongs to baseline and candidate alone; or why it cannot be told."""
    scene = Scene.of(view)
    wanted = [view.evidence.gpus.get(arm, ()) for arm in ("baseline", "candidate")]
    seen = gpus(scene, metric, [gpu for own in wanted for gpu in own])
    if not any(map(len, seen.values())):
        return f"no GPU gave readings ({metric}) in this stage"
    if not all(wanted):
        named = zip(view.names, wanted, strict=True)
        whose = " or ".join(name for name, own in named if not own)
        shared = ", ".join(sorted(seen))
        return (
            f"the scenario does not say which of the GPUs ({shared}) serves {whose} alone (as in candidate: "
            "{gpus: [1]}), and what both arms share cannot be told apart"
        )
    unseen = [gpu for own in wanted for gpu in own if not len(seen.get(gpu, NOTHING_READ))]
    if unseen:
        return f"{' and '.join(unseen)} gave no readings ({metric}) in this stage"
    one, two = (watched(scene, " and ".join(own), {gpu: seen[gpu] for gpu in own}) for own in wanted)
    return one, two


def per_gpu(view: StageView) -> tuple[tuple[int, int], str] | str:
    """How many GPUs serve each arm alone, and the words for it; or why it cannot be told."""
    found = own_gpus(view, "gpu.memory.used")  # of no interest is what they read, but that they are there
    if isinstance(found, str):
        return found
    one, two = (len(view.evidence.gpus[arm]) for arm in ("baseline", "candidate"))
    return (one, two), f" and GPU (on {two} against {one})"


def watched(scene: Scene, name: str, parts: Mapping[str, Series]) -> Watched:
    """The sum of several devices, at the moments at which the first was polled: they are read together. Each of them
    has to cover the span. None of `parts` is without readings.
    """
    t_ns = next(iter(parts.values())).t_ns
    value = np.sum([np.interp(t_ns, one.t_ns, one.value) for one in parts.values()], axis=0)
    named = [(name, one) for one in parts.values()] if len(parts) == 1 else parts.items()
    gaps = [longest_gap(scene, part, one) for part, one in named]
    gap = next(filter(_too_long, gaps), None) or next(
        filter(None, (_lost(scene, *each) for each in parts.items())), None
    )
    longest_s = max(each.to_s - each.from_s for each in gaps)
    return Watched(name, t_ns, value, max(each.every_s for each in gaps), longest_s, gap)


def longest_gap(scene: Scene, name: str, one: Series) -> Gap:
    """The longest time without a reading, from and to the ends of the load, too."""
    moments = np.unique(one.t_ns)
    ends = np.array([scene.begin_ns, *moments, max(scene.end_ns, scene.begin_ns)])
    lengths = np.diff(ends)
    at = int(lengths.argmax())
    steps = np.diff(moments) / 1e9
    every_s = float(f"{np.median(steps):.3g}") if len(steps) else 0.0
    from_s, to_s = ((int(ends[edge]) - scene.begin_ns) / 1e9 for edge in (at, at + 1))
    return Gap(name, from_s, to_s, every_s, at == len(lengths) - 1, scene.where)


def _lost(scene: Scene, gpu: str, one: Series) -> Gap | None:
    """Between which readings it did not answer, however short that was: what was on it then is not known."""
    moments = scene.series("nvml", LOST).get(gpu, NOTHING_READ).t_ns
    if not len(moments):
        return None
    at = int(np.searchsorted(one.t_ns, moments[0]))
    ends = np.array([scene.begin_ns, *one.t_ns, max(scene.end_ns, scene.begin_ns)])
    usual = longest_gap(scene, gpu, one)
    from_s, to_s = ((int(ends[edge]) - scene.begin_ns) / 1e9 for edge in (at, at + 1))
    return Gap(gpu, from_s, max(to_s, from_s), usual.every_s, at == len(one.t_ns), scene.where)


def _too_long(gap: Gap) -> bool:
    lasted_s = gap.to_s - gap.from_s
    return gap.every_s == 0 or lasted_s > max(MOST_POLLS * gap.every_s, LEAST_GAP_S)


def unwatched(seen: Iterable[Watched]) -> str | None:
    """Why the readings do not cover the stage; None if they do."""
    return next((str(each.gap) for each in seen if each.gap is not None), None)


def together(one: Series, how: Callable[[Floats], float] = np.sum) -> Series:
    """Several readings of one moment (of the processes of one model) as one."""
    moments, first = np.unique(one.t_ns, return_index=True)
    if len(moments) == len(one):
        return one
    return Series(moments, np.array([how(part) for part in np.split(one.value, first[1:])]))
