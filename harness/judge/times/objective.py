"""Times against an absolute objective: a gate's own limit in any stage, and in watch stages what v1 set.

Arms of unequal share carry unequal load, and comparing them would compare queues. So in a split stage each
arm is held against a number: the baseline's quantile of the last stage at equal load, times 1 + margin. And
only requests count that met no more company at their arm than requests did in that stage: waiting in a queue
is not slowness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import BASELINE, CANDIDATE, Columns, Floats, Ints
from harness.judge.metrics import quantile_of
from harness.judge.rule import Rule, settled
from harness.judge.statistics.blocks import statistic
from harness.judge.statistics.counts import p_more, rate_upper
from harness.judge.statistics.distributions import t_sf
from harness.judge.statistics.intervals import ALPHA_PASS
from harness.judge.times.derived import company, seconds, uncounted
from harness.judge.times.latency import least_requests
from harness.judge.view import StageView
from harness.types import Finding, FindingKind, Gate, Outcome

THIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """`n` requests held against a bar, `above` of them over it. `p_worse`: of "the statistic is at most the
    bar". `fine`: surely (95 %) under it. `value`: the statistic itself, None without requests.
    """

    n: int
    above: int
    p_worse: float
    fine: bool
    value: float | None


def held(values: Floats, due_ns: Ints, bar: float, quantile: float | None) -> Held:
    """A quantile by the exact binomial test that more than 1 - p exceed the bar; a mean by t on 12 batches or
    more.

    Requests of the same second share their weather, so together they count as one in the binomial test.
    """
    n = len(values)
    if n == 0:
        return Held(0, 0, 1.0, False, None)
    above = values > bar
    value = statistic(values, quantile)
    if quantile is None:
        p, fine = _mean(values[np.argsort(due_ns, kind="stable")], bar)
        return Held(n, int(above.sum()), p, fine, value)
    _, second = np.unique(due_ns // round(THIN_S * 1e9), return_inverse=True)
    shares = np.bincount(second, weights=above) / np.bincount(second)
    units, total = len(shares), float(shares.sum())
    p = p_more(math.floor(total + 1e-9), units, 1 - quantile)
    fine = rate_upper(math.ceil(total - 1e-9), units, ALPHA_PASS) <= 1 - quantile
    return Held(n, int(above.sum()), p, fine, value)


def _mean(ordered: Floats, bar: float) -> tuple[float, bool]:
    batches = min(30, len(ordered) // 5)
    return mean_of(np.array([part.mean() for part in np.array_split(ordered, max(batches, 1))]), bar)


def mean_of(means: Floats, bar: float) -> tuple[float, bool]:
    """Of means of batches: the p-value of "the mean is at most the bar", and whether it surely is."""
    batches = len(means)
    if batches < 12:
        return 1.0, False
    se = float(means.std(ddof=1)) / math.sqrt(batches)
    if se == 0:
        return float(means[0] <= bar), bool(means[0] < bar)
    t = (float(means.mean()) - bar) / se
    return t_sf(t, batches - 1), t_sf(-t, batches - 1) < ALPHA_PASS


def limit(view: StageView, gate: Gate) -> Rule:
    """The rule of a gate with a limit of its own: all requests to the candidate, whatever their company."""
    bar = gate.limit or 0.0
    quantile = quantile_of(gate.metric)
    first, second = (_held(arm, gate, bar, quantile) for arm in view.timed(gate.metric))
    return limited(view, gate, first, second, uncounted=uncounted(view.candidate, gate.metric))


def limited(view: StageView, gate: Gate, first: Held, second: Held, *, uncounted: bool) -> Rule:
    """The same, of what was seen. `uncounted`: nobody counted the candidate's tokens."""
    bar = gate.limit or 0.0
    kind: FindingKind = view.role
    what = gate.metric.replace(".", " ")
    v2 = view.names[1]
    if second.n == 0:
        return settled(_none(view, gate, kind, bar, _cure(uncounted)))

    def finding(failed: float | None) -> Finding:
        assert second.value is not None
        shown = f"{what} is {words.time(second.value)} on {v2}, limit {words.time(bar)}"
        counted = f"{second.above} of {words.count(second.n, 'request')} took longer"
        needs_s = None
        outcome: Outcome
        if failed is not None:
            outcome, reason = "fail", f"{shown}; {counted}, {words.confidence(failed)} sure that it is broken"
        elif view.role == "watch":
            outcome, reason = "pass", f"{shown}; {counted}: nothing speaks against it"
        elif second.fine and view.final:
            outcome, reason = "pass", f"{shown}; {counted}, 95 % sure that it holds"
        elif not view.final:
            outcome, reason = "inconclusive", f"{shown}; {counted}: no verdict yet, the stage is not over"
        else:
            least = least_requests(gate.metric)
            if second.value < bar:
                needs_s = view.elapsed_s * max(least / second.n - 1, 0.5)
            outcome, reason = (
                "inconclusive",
                f"{shown}; {counted}: not enough to be sure{words.needs(needs_s)}",
            )
        return Finding(
            metric=gate.metric,
            outcome=outcome,
            reason=reason,
            kind=kind,
            stage=view.index,
            unit="s",
            effect=second.value,
            margin=bar,
            baseline=first.value,
            candidate=second.value,
            n_baseline=first.n,
            n_candidate=second.n,
            needs_s=needs_s,
        )

    return Rule(view.looks.p(second.p_worse, max(second.n, 2)), finding)


def _held(arm: Columns, gate: Gate, bar: float, quantile: float | None) -> Held:
    values = seconds(arm, gate.metric)
    known = np.isfinite(values)
    return held(values[known], arm.due_ns[known], bar, quantile)


def watch(view: StageView, gate: Gate) -> Rule:
    """The rule of a relative gate in a watch stage: the objective that the baseline set at equal load."""
    quantile = quantile_of(gate.metric)
    earlier = view.reference
    values = np.empty(0)
    if earlier is not None:
        reference = view.so_far.take(
            (view.so_far.stage == earlier.plan.index) & (view.so_far.arm == BASELINE) & ~view.so_far.score
        )
        values = seconds(reference, gate.metric)
        known = np.isfinite(values)
        reference, values = reference.take(known), values[known]
    if earlier is None or not len(values):
        return settled(no_objective(view, gate))
    own = statistic(values, quantile)
    bar = own * (1 + (gate.margin or 0.0))
    most = _usual_company(view, reference, earlier.plan.in_flight)
    arms = tuple(_quiet(view, arm, gate, bar, quantile, most) for arm in (BASELINE, CANDIDATE))
    return _Watch(view, gate, arms[0], arms[1], own, bar, most).rule()


def _every(view: StageView, arm: int) -> Columns:
    return view.so_far.take(view.so_far.arm == arm)


def _usual_company(view: StageView, reference: Columns, in_flight: int | None) -> int:
    """How many others may be in flight: in a closed loop of n, n - 1; else as many as half of the requests
    met.
    """
    if in_flight is not None:
        return in_flight - 1
    return int(np.median(company(_every(view, BASELINE), reference)))


def _quiet(view: StageView, arm: int, gate: Gate, bar: float, quantile: float | None, most: int) -> Held:
    asked = view.arms[arm]
    quiet = asked.take(company(_every(view, arm), asked) <= most) if len(asked) else asked
    return _held(quiet, gate, bar, quantile)


@dataclass(frozen=True, slots=True)
class _Watch:
    view: StageView
    gate: Gate
    first: Held
    second: Held
    own: float
    bar: float
    most: int

    @property
    def slowed(self) -> bool:
        """The baseline breaks its own objective here: by the same test, at the level of a mere suspicion."""
        return self.first.p_worse < ALPHA_PASS

    def rule(self) -> Rule:
        if self.second.n == 0:
            return settled(self._unseen())
        p = 1.0 if self.slowed else self.view.looks.p(self.second.p_worse, max(self.second.n, 2))
        return Rule(p, self.finding)

    def finding(self, failed: float | None) -> Finding:
        v1, v2 = self.view.names
        outcome: Outcome
        if failed is not None:
            outcome = "fail"
            reason = f"{self._what()}; {words.confidence(failed)} sure that {v2} does not keep the objective"
        elif self.slowed and self.second.p_worse < ALPHA_PASS:
            outcome = "inconclusive"
            reason = (
                f"{self._what()}, but the machine slowed: {v1} breaks its own objective as well "
                f"({self.first.above} of {self.first.n})"
            )
        else:
            outcome, reason = "pass", f"{self._what()}: nothing speaks against it"
        return self._finding(outcome, reason)

    def _what(self) -> str:
        v1, v2 = self.view.names
        name = self.gate.metric.replace(".", " ")
        quantile = quantile_of(self.gate.metric)
        usual = "" if quantile is None else f" (at most {words.margin(1 - quantile)} should)"
        alone = "that had the arm to themselves" if self.most == 0 else f"with at most {self.most} others in flight"
        return (
            f"{name}: {self.second.above} of {words.count(self.second.n, 'request')} to {v2} {alone} took "
            f"longer than {words.time(self.bar)}{usual}, which is {v1}'s {words.time(self.own)} at equal "
            f"load plus {words.margin(self.gate.margin or 0.0)}"
        )

    def _unseen(self) -> Finding:
        view = self.view
        v2 = view.names[1]
        asked = len(view.candidate)
        if asked == 0 and view.candidate_due < 1:
            return self._finding("pass", f"{v2} was due no request so far: nothing speaks against it, nothing for it")
        if asked == 0 and not view.final:
            return self._finding("inconclusive", f"{v2} has not answered a request yet")
        known = int(np.isfinite(seconds(view.candidate, self.gate.metric)).sum())
        if known:
            return self._finding(
                "inconclusive",
                f"all {words.count(known, 'request')} to {v2} met more company than requests at equal load "
                "did: their times say nothing of the build",
            )
        name = self.gate.metric.split(".", 1)[0]
        text = f"{v2} got no request" if asked == 0 else f"none of {words.count(asked, 'request')} to {v2} has a {name}"
        return self._finding("no data", text + _cure(uncounted(view.candidate, self.gate.metric)))

    def _finding(self, outcome: Outcome, reason: str) -> Finding:
        return Finding(
            metric=self.gate.metric,
            outcome=outcome,
            reason=reason,
            kind="watch",
            stage=self.view.index,
            unit="s",
            effect=self.second.value,
            margin=self.bar,
            baseline=self.own,
            candidate=self.second.value,
            n_baseline=self.first.n,
            n_candidate=self.second.n,
        )


def no_objective(view: StageView, gate: Gate) -> Finding:
    v1 = view.names[0]
    if view.reference is None:
        why = (
            "no earlier stage compares both arms at equal load (a ramp sets none), "
            "and arms of unequal share cannot be compared"
        )
    else:
        time = gate.metric.split(".", 1)[0]
        why = f"{v1} has no {time} in stage {view.reference.plan.index + 1}, which should set it"
    return Finding(
        metric=gate.metric,
        outcome="no data",
        reason=f"{gate.metric.replace('.', ' ')} has no objective: {why}",
        kind="watch",
        stage=view.index,
        unit="s",
    )


def _cure(uncounted: bool) -> str:
    return ": nobody counted its tokens, load.tokenizer would" if uncounted else ""


def _none(view: StageView, gate: Gate, kind: FindingKind, bar: float, cure: str) -> Finding:
    v2 = view.names[1]
    due = view.candidate_expected
    asked = words.count(view.asked(CANDIDATE), "request")
    time = gate.metric.split(".", 1)[0]
    missing = f"none of {asked} to {v2} has a {time}{cure}"
    return Finding(
        metric=gate.metric,
        outcome="no data" if due else "pass",
        reason=missing if due else f"{v2} was due no request",
        kind=kind,
        stage=view.index,
        unit="s",
        margin=bar,
    )
