"""This run, or its repeats, against what the history says of runs that measured the same on the same machine. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.errors import UsageError
from harness.history import saying
from harness.history.arrow import Ints
from harness.history.changes import change_points, scale_of
from harness.history.checking import FEWEST, check
from harness.history.entry import Entry, Measure
from harness.history.fingerprint import changed, without
from harness.history.runs import Floats, Series
from harness.history.scales import none_of, size_of
from harness.history.timelines import Of, called, direction, shift_of, short, unit_of
from harness.types import Finding, StageVerdict, Verdict
from harness.types.history import Change, Scale
from harness.types.timeline import Shift
from harness.types.words import Decision

RECENT = 512
"""Runs of the history that are looked at: twice what the last segment is judged by at the most."""
AGAINST = " against the baseline"
"""Behind the name of a metric: its effect, not the candidate's own value."""


def same_measurement(runs: Sequence[Entry], ignored: Collection[str]) -> None:
    """Raises UsageError where they are no repeats of each other."""
    first = runs[0]
    for other in runs[1:]:
        if other.series != first.series:
            raise UsageError(f"{other.name} does not measure what {first.name} does: check them one by one")
        if told := changed(without(first.fingerprint, ignored), without(other.fingerprint, ignored)):
            raise UsageError(f"{other.name} ran on something else than {first.name} ({told}): check them one by one")
        if first.commit and other.commit and other.commit != first.commit:
            raise UsageError(
                f"{other.name} is of commit {short(other.commit)}, {first.name} of {short(first.commit)}: check them "
                "one by one, or name the commit of all with --commit"
            )


@dataclass(frozen=True, slots=True)
class Review:
    """`since`: the commit, or the run, after which it became worse: that was measured last before these, or before a
    change that only now can be told; "" where there is none. `runs`: of how many of the history it was held against.
    `known`: what became worse before, and is the level now: metric and change.
    """

    verdict: Verdict
    since: str = ""
    runs: int = 0
    known: tuple[tuple[str, Shift], ...] = ()


def review(
    runs: Sequence[Entry], history: Series | None, *, smallest: float, points: float, alpha: float,
    ignored: Collection[str] = (), metrics: Collection[str] = (),
) -> Review:  # fmt: skip
    """`smallest`: the least effect that matters, as a share (0.05); of shares such as errors it is `points`.

    promote: nothing became worse; rollback: something did; inconclusive: it cannot be told of what is gated, or of
    anything. `metrics`: only these, by name; () for all. Raises UsageError for one that the runs do not have.
    """
    same_measurement(runs, ignored)
    if unfit := next((run for run in runs if run.unfit), None):
        return Review(_verdict("inconclusive", f"{unfit.name} says nothing: {unfit.unfit}", ()))
    if history is None:
        return Review(_verdict("inconclusive", "No run of the history measures the same", (), _ADD))
    mine = without(runs[0].fingerprint, ignored)
    track = next((one for one in history.tracks if dict(one.fingerprint) == mine), None)
    if track is None:
        told = changed(history.tracks[-1].fingerprint, mine)
        reason = f"The first run on something new, where a new segment begins: {told}"
        return Review(_verdict("inconclusive", reason, (), _ADD))
    ours = {run.run for run in runs}
    others = [run not in ours for run in history.said["run"][track.begin : track.end].to_pylist()]
    fit = (track.begin + np.flatnonzero(history.fit[track.begin : track.end] & others))[-RECENT:]
    jobs = _jobs(runs, metrics)
    findings: list[Finding] = []
    known: list[tuple[str, Shift]] = []
    begun: dict[str, str] = {}
    for measure, of, now in jobs:
        before, places = _before(history, measure, of, fit)
        unit, name = unit_of(measure, of), measure.name if of == "candidate" else measure.name + AGAINST
        scale = scale_of(unit, np.concatenate([before, now]))
        changes, new = _changes(before, now, scale)
        worse = [change for change in changes[-1:] if direction(measure, change) == "worse"]
        known += [(name, shift_of(history, measure, change, places)) for change in worse]
        # Differences of shares may be negative; they are in points all the same.
        plain = points if unit == "pp" else smallest * size_of(before)
        least = {"ratio": smallest, "share": points, "difference": plain}[scale]
        found = check(
            name, unit, before, now,
            worse=measure.worse, smallest=least, alpha=alpha, metrics=len(jobs), changes=changes,
        )  # fmt: skip
        if found.outcome != "fail" and new is not None:
            between = _between(history, new, places, runs)
            if (lasting := _lasting(found, measure, unit, new, least, between)) is not None:
                found, begun[name] = lasting, between[0]
        findings.append(found)
    verdict = _decide(findings, [measure.gated and of == "candidate" for measure, of, _ in jobs])
    last = called(history, int(fit[-1])) if len(fit) else ""
    first_worse = next((one.metric for one in findings if one.outcome == "fail"), "")
    return Review(verdict, begun.get(first_worse, last), len(fit), tuple(known))


_ADD = f"{FEWEST} runs of this kind on this machine in the history: triton-canary history add"


def _changes(before: Floats, now: Floats, scale: Scale) -> tuple[Sequence[Change], Change | None]:
    """Those that were known before this run, and one that could not be told before it. Repeats are one run: they share
    what their day was like.
    """
    now = now[np.isfinite(now)]
    found = change_points(np.append(before, np.median(now)) if len(now) else before, scale=scale)
    if not found or found[-1].found < len(before):
        return found, None
    return change_points(before, scale=scale), found[-1]


def _lasting(
    found: Finding, measure: Measure, unit: str, change: Change, least: float, between: tuple[str, str]
) -> Finding | None:
    """The finding where a change is for the worse, and of what matters: one run alone seldom tells a small one."""
    apart = change.effect - none_of(change.scale)
    if direction(measure, change) == "better" or abs(apart) <= least:
        return None
    reason = saying.lasting(found.metric, unit, change, between)
    margin = none_of(change.scale) + math.copysign(least, apart)
    return replace(
        found, outcome="fail", reason=reason, unit=saying.effect_unit(change.scale, unit), effect=change.effect,
        interval=change.interval, margin=margin, baseline=change.before, candidate=change.after,
    )  # fmt: skip


def _between(history: Series, change: Change, places: Ints, runs: Sequence[Entry]) -> tuple[str, str]:
    """The commits, or the runs, between which it began. `places`: of the runs before this one, in the series."""
    this = short(runs[-1].commit) or runs[-1].name
    until = called(history, int(places[change.high])) if change.high < len(places) else this
    return called(history, int(places[max(change.low - 1, 0)])), until


def _same(one: Measure, other: Measure) -> bool:
    return (one.metric, one.stage) == (other.metric, other.stage)


def _jobs(runs: Sequence[Entry], metrics: Collection[str]) -> list[tuple[Measure, Of, Floats]]:
    found: list[tuple[Measure, Of, Floats]] = []
    for measure in runs[0].measures:
        known = [
            figure for run in runs for one, figure in zip(run.measures, run.figures, strict=True) if _same(one, measure)
        ]
        found.append((measure, "candidate", np.asarray([figure.value for figure in known])))
        if measure.effect_unit:
            found.append((measure, "effect", np.asarray([figure.effect for figure in known])))
    names = {measure.metric for measure, _, _ in found}
    if unknown := [name for name in metrics if name not in names]:
        raise UsageError(f"--metric {unknown[0]}: this run has {', '.join(sorted(names)) or 'no figures'}")
    return [job for job in found if not metrics or job[0].metric in metrics]


def _before(history: Series, measure: Measure, of: Of, fit: Ints) -> tuple[Floats, Ints]:
    """What was measured before, and in which runs of the series."""
    column = next((place for place, one in enumerate(history.measures) if _same(one, measure)), None)
    if column is None:
        return np.empty(0), np.empty(0, np.int64)
    values = (history.values if of == "candidate" else history.effects)[fit, column]
    return values[np.isfinite(values)], fit[np.isfinite(values)]


def _decide(findings: Sequence[Finding], primary: Sequence[bool]) -> Verdict:
    worse = [one for one in findings if one.outcome == "fail"]
    if worse:
        return _verdict("rollback", worse[0].reason, findings)
    matters = [one for one, first in zip(findings, primary, strict=True) if first] or list(findings)
    unclear = [one for one in matters if one.outcome != "pass"]
    if unclear or not findings:
        reason = unclear[0].reason if unclear else "The run has no figures"
        return _verdict("inconclusive", reason, findings)
    told = sum(one.outcome == "pass" for one in findings)
    left = f"; {len(findings) - told} could not be told" if told < len(findings) else ""
    return _verdict(
        "promote", f"Nothing became worse, of {told} {'figure' if told == 1 else 'figures'}{left}", findings
    )


def _verdict(decision: Decision, reason: str, findings: Sequence[Finding], needs: str = "") -> Verdict:
    kept = tuple(replace(one, kind="watch") for one in findings)
    return Verdict(decision, reason, (StageVerdict(0, decision, reason, kept),), needs)
