"""Whether an arm served again after failures that may have ended it: what the run found when it asked the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from harness.failures import SUSPECT
from harness.judge import words
from harness.judge.columns import ARMS, BASELINE, CANDIDATE
from harness.judge.errors.failures import tally_of
from harness.judge.view import APART, StageView
from harness.types import Finding, Outcome

METRICS = ("recovery", "recovery.baseline")
RECOVERED = "recovered"
"""The reading, of the device `baseline` or `candidate`: 1 where it answered when asked after a stage, else 0."""
RECOVERED_LIVE, RECOVERED_READY = f"{RECOVERED}.live", f"{RECOVERED}.ready"
"""How far it came: the server said that it is up; the version said that it is READY."""
RECOVERED_AFTER = f"{RECOVERED}.after"
"""Seconds from the first question to the answer; where there was none, for how long it was asked."""
UNASKED = (*APART, "deploy")
"""The purposes of stages after which nobody asks: nothing of them is judged, or one failure decides already."""


def judge(view: StageView) -> Iterator[Finding]:
    """`recovery` of the candidate, and `recovery.baseline`, in a stage that is over and in which requests failed so
    that the version may have gone with them.

    The candidate fails where it did not come back, unless the baseline did not either: then nobody knows whose doing
    that is. One that came back is told for information. Nobody was to ask: nothing is said.
    """
    if view.plan.purpose in UNASKED or view.record.end_ns is None:
        return
    found = {arm: _answer(view, arm) for arm in (CANDIDATE, BASELINE)}
    for arm, answer in found.items():
        suspects = [(name, count) for name, count in tally_of(view, arm).classes if name in SUSPECT]
        if answer is not None:
            both = all(one is not None and not one.recovered for one in found.values())
            yield _finding(view, arm, *_told(view, arm, answer, both), suspects, answer)
        elif suspects and ARMS[arm] in view.evidence.asked:
            yield _finding(view, arm, "no data", "nobody knows whether {name} still serves", suspects, None)


@dataclass(frozen=True, slots=True)
class _Answer:
    """`after_s`: see RECOVERED_AFTER."""

    recovered: bool
    live: bool
    ready: bool
    after_s: float


def _answer(view: StageView, arm: int) -> _Answer | None:
    """What was found between the begin of this stage and that of the next; None where nobody asked."""
    table = view.evidence.readings
    if table is None:
        return None
    later = [record.begin_ns for record in view.evidence.stages if record.plan.index > view.index]
    wanted = pc.and_(pc.equal(table["device"], ARMS[arm]), pc.greater_equal(table["t_ns"], view.record.begin_ns))
    if later:
        wanted = pc.and_(wanted, pc.less(table["t_ns"], min(later)))
    rows = table.filter(pc.and_(wanted, pc.starts_with(table["metric"], RECOVERED)))
    order = np.argsort(rows["t_ns"].to_numpy(), kind="stable")
    last = dict(zip(rows["metric"].take(order).to_pylist(), rows["value"].take(order).to_pylist(), strict=True))
    if RECOVERED not in last:
        return None
    live, ready = (bool(last.get(name, 0.0)) for name in (RECOVERED_LIVE, RECOVERED_READY))
    return _Answer(bool(last[RECOVERED]), live, ready, float(last.get(RECOVERED_AFTER, 0.0)))


def _told(view: StageView, arm: int, answer: _Answer, both: bool) -> tuple[Outcome, str]:
    took = words.time(answer.after_s)
    if answer.recovered:
        return "pass", f"{{name}} served again: it answered {took} after it was first asked"
    if answer.ready:
        how = f"was READY and did not answer, however often it was asked for {took}"
    elif answer.live:
        how = f"was not READY any more for {took}, on a server that is up"
    else:
        how = f"did not serve any more: its server did not answer for {took}"
    if both:
        return "inconclusive", f"{{name}} {how}; nor did {view.names[1 - arm]}, so it is not known whose doing that is"
    return "fail" if arm == CANDIDATE else "inconclusive", f"{{name}} {how}"


def _finding(
    view: StageView, arm: int, outcome: Outcome, text: str, suspects: list[tuple[str, int]], answer: _Answer | None
) -> Finding:
    name = view.names[arm]
    before = " and ".join(f"{words.count(count, 'request')} failed with {error}" for error, count in suspects)
    reason = text.format(name=name) + (f" ({before} before)" if before else "")
    return Finding(
        metric=METRICS[0] if arm == CANDIDATE else METRICS[1],
        outcome=outcome,
        reason=f"for information: {reason}" if outcome == "pass" else reason,
        kind=view.role,
        stage=view.index,
        unit="s",
        effect=answer.after_s if answer is not None and answer.recovered else None,
        n_baseline=view.asked(BASELINE),
        n_candidate=view.asked(CANDIDATE),
    )
