"""Goodput: answers a second that keep every limit of the gate's `within` (vLLM's and GenAI-Perf's sense of the word).

A failed request is never good, nor is a time-out. A limit on a time that an answer does not have (tpot of one token)
holds; where no answer of an arm has it, nothing can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from harness.judge import words
from harness.judge.amounts import throughput
from harness.judge.amounts.relative import missing
from harness.judge.columns import CANCELLED, OK, Bools, Columns
from harness.judge.rule import Rule, settled
from harness.judge.times.derived import seconds, uncounted
from harness.judge.times.objective import held
from harness.judge.view import StageView
from harness.types import Finding, Gate, Outcome


def good(arm: Columns, within: Mapping[str, float]) -> Bools:
    """Whether each request was answered and kept every limit (seconds)."""
    fine = arm.status == OK
    for time, limit in within.items():
        fine &= ~(seconds(arm, time) > limit)
    return np.asarray(fine, np.bool_)


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule of a margin: how far the candidate's goodput may be below the baseline's."""
    unknown = _unknown(view, gate, zip(view.names, view.arms, strict=True))
    if unknown is not None:
        return settled(unknown)
    one, two = (good(arm, gate.within).astype(np.float64) for arm in view.arms)
    if not one.any():
        v1 = view.names[0]
        return settled(missing(view, gate, f"no answer of {v1} is good ({limits(gate)}): nothing to compare with"))
    return throughput.judged(view, gate, (one, two), "answers", per=f" with {limits(gate)}")


def share(view: StageView, gate: Gate) -> Rule:
    """The rule of a limit: the share of the candidate's requests that may miss, by the test of a quantile's limit."""
    assert gate.limit is not None
    v2, allowed = view.names[1], gate.limit
    asked = view.candidate.take(view.candidate.status != CANCELLED)
    if not len(asked):
        outcome: Outcome = "no data" if view.candidate_expected else "pass"
        return settled(_finding(view, gate, outcome, f"{v2} was asked nothing", None))
    unknown = _unknown(view, gate, [(v2, view.candidate)])
    if unknown is not None:
        return settled(unknown)
    fine = good(asked, gate.within)
    seen = held((~fine).astype(np.float64), asked.due_ns, 0.5, 1 - allowed)
    value = float(fine.mean())
    shown = (
        f"{words.percent(value)} of {words.count(seen.n, 'request')} to {v2} kept {limits(gate)}"
        f"{_baseline(view, gate)}; at least {words.margin(1 - allowed)} have to"
    )

    def finding(failed: float | None) -> Finding:
        outcome: Outcome = "inconclusive"
        if failed is not None:
            outcome, tail = "fail", f"{words.confidence(failed)} sure that too few do"
        elif view.role == "watch":
            outcome, tail = "pass", "nothing speaks against it"
        elif seen.fine and view.final:  # at a level that looks have not spent, as other limits
            outcome, tail = "pass", "95 % sure that enough do"
        elif not view.final:
            tail = "no verdict yet, the stage is not over"
        else:
            tail = "not enough to be sure"
        return _finding(view, gate, outcome, f"{shown}, {tail}", value)

    return Rule(view.looks.p(seen.p_worse, max(seen.n, 2)), finding)


def _baseline(view: StageView, gate: Gate) -> str:
    fine = good(view.baseline, gate.within)
    return f", {words.percent(float(fine.mean()))} of those to {view.names[0]}" if len(fine) else ""


def limits(gate: Gate) -> str:
    """`ttft within 500 ms, tpot within 50 ms`."""
    shown = {time: f"{limit * 1e3:g} ms" if limit < 1 else f"{limit:g} s" for time, limit in gate.within.items()}
    return ", ".join(f"{time.replace('_', ' ')} within {limit}" for time, limit in shown.items())


def _unknown(view: StageView, gate: Gate, arms: Iterable[tuple[str, Columns]]) -> Finding | None:
    """An arm that answered, and of which no answer has one of the times."""
    for name, arm in arms:
        answered = arm.take(arm.status == OK)
        for time in gate.within:
            if len(answered) and not np.isfinite(seconds(answered, time)).any():
                cure = ": nobody counted its tokens, load.tokenizer would" if uncounted(arm, time) else ""
                return missing(view, gate, f"no answer of {name} has a {time}{cure}")
    return None


def _finding(view: StageView, gate: Gate, outcome: Outcome, reason: str, value: float | None) -> Finding:
    return Finding(
        metric=gate.metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        unit="rate",
        effect=value,
        margin=1 - (gate.limit or 0.0),
        n_baseline=len(view.baseline),
        n_candidate=len(view.candidate),
    )
