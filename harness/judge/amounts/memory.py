"""Peaks of memory: against the baseline's, or against a limit in bytes or as a share of what there is.

Whose memory that is: `amounts.whose`. A peak between two polls is not seen, unless the driver or the kernel keeps a
high-water mark; every sentence tells which. A limit is broken by one reading above it, or a mark, and kept only where
the readings cover the span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.judge import words
from harness.judge.amounts import rates
from harness.judge.amounts.relative import LEAST_BLOCKS, Relative, missing, too_few
from harness.judge.amounts.watched import Own, Scene, Watched, unwatched
from harness.judge.amounts.whose import Whose, limited_memory, own_memory
from harness.judge.columns import Floats, Ints
from harness.judge.rule import Rule, settled
from harness.judge.statistics.intervals import spread
from harness.judge.statistics.resample import RESAMPLES, generator
from harness.judge.view import StageView
from harness.types import Finding, Gate, LimitKind, Outcome

GIB = 2**30


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule of a margin: the peaks of the blocks, both arms' at the same moments, and the highest of all."""
    for name, answers in zip(view.names, view.answered, strict=True):
        if not answers:
            return settled(missing(view, gate, f"{name} answered nothing: what it needs to answer was not measured"))
    found = own_memory(view)
    if isinstance(found, str):
        return settled(missing(view, gate, found))
    if (gap := unwatched(found)) is not None:
        return settled(missing(view, gate, gap))
    begin, end = rates.span(view)
    at = rates.blocks_of_time(begin, end)
    peaks = None if at is None else _peaks(found, at)
    if peaks is None:
        least_s, have_s = LEAST_BLOCKS * rates.SHORTEST_BLOCK_S, (end - begin) / 1e9
        reason = f"peak memory needs {words.duration(least_s)} of readings, there are {words.duration(have_s)}"
        return settled(too_few(view, gate, reason, max(least_s - have_s, 1.0)))
    logs = np.log(np.maximum(peaks, 1.0))
    blocks = logs.shape[1]
    drawn = generator(view.evidence.seed, gate.metric, view.index).integers(blocks, size=(RESAMPLES, blocks))
    tops = logs[:, drawn].max(axis=2)
    top = logs.max(axis=1)
    worse = spread(float(top[1] - top[0]), logs[1] - logs[0], tops[1] - tops[0], ordered=True)
    one, two = found
    values = f"{size(two.peak)} of {two.name} against {size(one.peak)} of {one.name}; {_polls(*found)}"
    return Relative(view, gate, worse, one.peak, two.peak, values).rule()


def _peaks(found: Own, at: Ints) -> Floats | None:
    """The highest reading of each block, shape (2, blocks); None if too few blocks have readings of both."""
    peaks = np.full((2, len(at) - 1), -np.inf)
    for row, each in zip(peaks, found, strict=True):
        block = np.searchsorted(at, each.t_ns, side="right") - 1
        inside = (block >= 0) & (block < len(row))
        np.maximum.at(row, block[inside], each.value[inside])
    known = np.isfinite(peaks).all(axis=0)
    return np.asarray(peaks[:, known], np.float64) if int(known.sum()) >= LEAST_BLOCKS else None


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that was used of one thing in a span of time, as it stands in files: all that a limit is held against.

    `used` in bytes. `capacity`: how much there is, None where that is not known; `of`: whose that is. `every_s`: how
    often it was read, `longest_s`: the longest time between. `marked_by`: who keeps a high-water mark of it, "" if
    nobody does. `gap`: why the readings do not cover the span, "" if they do. `began`: what was used at first.
    `blocks`: the most in each of so many equal parts of the span, those without a reading left out; () unless asked
    for.
    """

    name: str
    used: float
    began: float
    capacity: float | None
    of: str
    every_s: float
    longest_s: float
    marked_by: str
    gap: str
    blocks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """`top`: the peak that comes nearest to the limit, or went furthest beyond it; `fill`: how far, in bytes or as a
    share. `from_begin`: the limit was broken when the span began. `unknown`: why it cannot be said that the limit was
    kept, "" if it can.
    """

    top: Peak
    fill: float
    broken: bool
    from_begin: bool
    said: str
    unknown: str


def peaks(scene: Scene, whose: Whose, kind: LimitKind, blocks: int = 0) -> list[Peak] | str:
    """Of everything that a limit is held against; or why there is nothing."""
    found = limited_memory(scene, whose, kind)
    return found if isinstance(found, str) else [_peak(scene, each, blocks) for each in found]


def _peak(scene: Scene, seen: Watched, blocks: int) -> Peak:
    gap = "" if seen.gap is None else str(seen.gap)
    edges = np.linspace(scene.begin_ns, scene.end_ns, blocks + 1)
    block = np.searchsorted(edges, seen.t_ns, side="right") - 1
    highest = tuple(float(seen.value[block == one].max()) for one in range(blocks) if (block == one).any())
    return Peak(
        name=seen.name,
        used=seen.peak,
        began=float(seen.value[0]),
        capacity=seen.capacity,
        of=seen.of,
        every_s=seen.every_s,
        longest_s=seen.longest_s,
        marked_by=seen.marked_by,
        gap=gap,
        blocks=highest,
    )


def facts(scene: Scene, whose: Whose, kind: LimitKind, blocks: int = 0) -> dict[str, Any]:
    """`peaks` as JSON has them: what `of_facts` reads."""
    found = peaks(scene, whose, kind, blocks)
    return {"missing": found} if isinstance(found, str) else {"peaks": [asdict(each) for each in found]}


def of_facts(read: Mapping[str, Any]) -> list[Peak] | str:
    return str(read["missing"]) if "missing" in read else [Peak(**each) for each in read["peaks"]]


def held(found: Sequence[Peak], gate: Gate) -> Held | str:
    """Each peak against the limit; or why there is nothing to hold against it."""
    assert gate.limit is not None
    most, share = gate.limit, gate.limit_kind == "share"
    known = [each for each in found if each.capacity or not share]
    unknown = [f"it is not known how much memory there is for {each.name}" for each in found if each not in known]
    if not known:
        return "; ".join(unknown)

    def fill(each: Peak, used: float) -> float:
        return used / each.capacity if share and each.capacity else used

    top = max(known, key=lambda each: fill(each, each.used))
    filled = fill(top, top.used)
    used = size(top.used)
    if share and top.capacity:
        used += f", {words.percent(filled)} of {top.of} {size(top.capacity)}"
    how = _how(top.every_s, top.longest_s, top.marked_by)
    said = f"peak memory of {top.name} was {used}, limit {limit_text(gate)}; {how}"
    unknown += [each.gap for each in found if each.gap]
    return Held(top, filled, filled > most, fill(top, top.began) > most, said, "; ".join(unknown))


def limit_text(gate: Gate) -> str:
    return words.margin(gate.limit or 0.0) if gate.limit_kind == "share" else size(gate.limit or 0.0)


def limit(view: StageView, gate: Gate) -> Rule:
    """The rule of a limit, in any stage."""
    found = peaks(Scene.of(view), Whose.of(view), gate.limit_kind)
    seen = found if isinstance(found, str) else held(found, gate)
    if isinstance(seen, str):
        return settled(_finding(view, gate, "no data", seen, None))
    unknown = seen.unknown or _idle(view)

    def finding(failed: float | None) -> Finding:
        if failed is not None:
            return _finding(view, gate, "fail", seen.said, seen)
        if unknown and view.may_pass:
            return _finding(view, gate, "no data", f"{seen.said}; but {unknown}", seen)
        if view.may_pass:
            return _finding(view, gate, "pass", seen.said, seen)
        open_yet = f"{seen.said}; within it so far, but the stage is not over"
        return _finding(view, gate, "inconclusive", open_yet, seen)

    return Rule(0.0 if seen.broken else 1.0, finding)


def _idle(view: StageView) -> str:
    """A candidate that was to answer and never did needed no memory to do so."""
    return f"{view.names[1]} answered nothing" if view.candidate_expected and not view.answered[1] else ""


def _finding(view: StageView, gate: Gate, outcome: Outcome, reason: str, seen: Held | None) -> Finding:
    return Finding(
        metric=gate.metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        n_baseline=view.answered[0],
        n_candidate=view.answered[1],
        **figures(gate, seen),
    )


def figures(gate: Gate, seen: Held | None) -> dict[str, Any]:
    """What a finding on a limit has in numbers."""
    return {
        "unit": "rate" if gate.limit_kind == "share" else "bytes",
        "effect": None if seen is None else seen.fill,
        "margin": gate.limit,
        "candidate": None if seen is None else seen.top.used,
    }


def _polls(*found: Watched) -> str:
    return _how(max(each.every_s for each in found), max(each.longest_s for each in found), "")


def _how(every_s: float, longest_s: float, marked_by: str) -> str:
    """How it was read, and what that misses."""
    if marked_by:
        return f"by {marked_by}'s high-water mark since it started, which misses nothing"
    if not every_s:
        return "read once"
    late = f", once {words.time(longest_s)} apart" if longest_s > 2 * every_s else ""
    return f"read every {words.time(every_s)}{late}, what rose and fell in between is not seen"


def size(value: float) -> str:
    return f"{value / GIB:.3g} GiB" if value >= GIB else f"{value / 2**20:.4g} MiB"
