"""Where a run under way is, as far as its files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from harness.recording import stage_plans, stage_records
from harness.report import words

if TYPE_CHECKING:
    from harness.recording import Recording

_MOST_STEPS = 30


@dataclass(frozen=True, slots=True)
class Step:
    """What a run does beside its requests: one action of its journal. `state`: begun, done or failed."""

    action: str
    target: str
    state: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`sentence`: for people. `undecided`: the stage of which the run has made no decision yet, counted from 0; -1 if
    there is none. `steps`: newest first.
    """

    sentence: str
    undecided: int = -1
    steps: tuple[Step, ...] = ()


def of_run(recording: Recording, steps: Sequence[Step]) -> Progress:
    """Of a run that compares. Time is that of the last thing on disk: no clock is read."""
    records, planned = stage_records(recording.meta), len(stage_plans(recording.meta))
    if not records:
        return Progress(f"No load yet. {_now(steps)}".rstrip(), steps=_newest(steps))
    last = max(records, key=lambda record: record.plan.index)
    name = f"Stage {last.plan.index + 1} of {max(planned, len(records))}, {words.stage_kind(last.plan)}"
    undecided = last.plan.index if last.decided_ns is None else -1
    if last.end_ns is not None:
        return Progress(f"{name}, is over. {_now(steps)}".rstrip(), undecided, _newest(steps))
    gone_s = max(_seen_ns(recording) - last.begin_ns, 0) / 1e9
    most = " at most" if last.plan.until_decided or last.plan.purpose == "deploy" else ""
    return Progress(f"{name}: {gone_s:.0f} s of {words.span(last.plan.duration_s)}{most}.", undecided, _newest(steps))


def of_operation(steps: Sequence[Step]) -> Progress:
    """Of a scenario that is a sequence of actions."""
    return Progress(_now(steps) or "It has just begun.", steps=_newest(steps))


def _now(steps: Sequence[Step]) -> str:
    """What is being done at this moment, "" if nothing is."""
    begun = [step for step in steps if step.state == "begun"]
    return f"Under way: {begun[-1].action} ({begun[-1].target})." if begun else ""


def _newest(steps: Sequence[Step]) -> tuple[Step, ...]:
    return tuple(steps[: -_MOST_STEPS - 1 : -1])


def _seen_ns(recording: Recording) -> int:
    tables = ((recording.samples, "done_ns"), (recording.readings, "t_ns"))
    return max((pc.max(table[name]).as_py() or 0 for table, name in tables if table is not None), default=0)
