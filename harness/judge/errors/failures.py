"""Errors: a two-arm sequential test that may be looked at after every request, and absolute limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import BASELINE, CANCELLED, CANDIDATE, Columns, Floats, Ints
from harness.judge.rule import Rule, settled
from harness.judge.sketched.view import CountedView
from harness.judge.statistics.boundary import Looks
from harness.judge.statistics.counts import (
    difference_bound,
    log_e_value,
    p_more,
    rate_lower,
    rate_upper,
    requests_for,
)
from harness.judge.statistics.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.judge.view import StageView
from harness.types import Finding, Gate, Outcome

# A burst is one event, not many: in each block and class an arm's failures count up to CAP, and less where blocks
# differ more than chance would have it.
CAP = 5
BURST_S = 5.0
BURST_REQUESTS = 10
# A short stage is cut finer, or a build that fails throughout could never be told from two bursts.
BURST_BLOCKS = 20
HASTE = 0.2
# In a watch stage: evidence at which "nothing speaks against it" can no longer be said.
SUSPICION = 20.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one arm: requests (cancelled ones left out), failures, failures with bursts capped, the same as far as they
    are independent of each other, and failures by class.
    """

    requests: int = 0
    failures: int = 0
    capped: int = 0
    alone: float = 0.0
    classes: tuple[tuple[str, int], ...] = ()

    @property
    def rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0

    def __add__(self, other: Tally) -> Tally:
        classes = Counter(dict(self.classes))
        classes.update(dict(other.classes))
        return Tally(
            self.requests + other.requests,
            self.failures + other.failures,
            self.capped + other.capped,
            self.alone + other.alone,
            ranked(classes),
        )


def ranked(classes: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(classes.items(), key=lambda item: (-item[1], item[0])))


def tally(columns: Columns, arm: int, planned_s: Mapping[int, float]) -> Tally:
    """Of all requests to `arm`, those that score among them. Bursts are capped per stage and block.

    `planned_s`: duration of each stage. Blocks follow from the plan, not from how far a stage has come, so that
    what counted at one look counts at the next.
    """
    mine = columns.take((columns.arm == arm) & (columns.status != CANCELLED))
    failed = mine.take(mine.failed)
    if not len(failed):
        return Tally(len(mine))
    kinds = failed.error.astype(np.int64) * 8 + failed.status
    capped, alone = 0, 0.0
    for stage in np.unique(failed.stage).tolist():
        of_stage = mine.done_ns[mine.stage == stage]
        here, ends = failed.stage == stage, (int(of_stage.min()), int(of_stage.max()))
        counted = bursts(failed.done_ns[here], kinds[here], ends, len(of_stage), planned_s.get(stage, math.inf))
        capped += int(counted.sum())
        alone += float(counted.sum()) / clumped(counted)
    _, rows, sizes = np.unique(kinds, return_index=True, return_counts=True)
    classes: Counter[str] = Counter()
    for row, size in zip(rows.tolist(), sizes.tolist(), strict=True):
        classes[failed.failure_class(row)] += size
    return Tally(len(mine), len(failed), capped, alone, ranked(classes))


def tally_of(view: StageView, arm: int, *, so_far: bool = False) -> Tally:
    """Of one arm in this stage, or in this and all stages before it."""
    if isinstance(view, CountedView):
        return sum((counts.tallies[arm] for counts in view.stages(so_far=so_far)), Tally())
    return tally(view.so_far if so_far else view.samples, arm, view.planned_s)


def bursts(done_ns: Ints, kinds: Ints, ends_ns: tuple[int, int], requests: int, planned_s: float) -> Floats:
    """The failures of one stage by block, each class capped. `ends_ns`: when the first and the last of the arm's
    `requests` ended.
    """
    begin, span_s = ends_ns[0], max((ends_ns[1] - ends_ns[0]) / 1e9, 1e-9)
    block_s = max(min(BURST_S, planned_s / BURST_BLOCKS), BURST_REQUESTS * span_s / requests)
    block = ((done_ns - begin) / (block_s * 1e9)).astype(np.int64)
    (blocks, _), sizes = np.unique(np.stack([block, kinds]), axis=1, return_counts=True)
    counted = np.bincount(blocks, np.minimum(sizes, CAP), minlength=int(span_s / block_s) + 1)
    return np.asarray(counted, np.float64)


def clumped(counted: Floats) -> float:
    """By how much the failures of blocks vary more than independent ones would (variance over mean, 1 at least): so
    many of them are worth one.
    """
    mean = float(counted.mean())
    return max(1.0, float(counted.var(ddof=1)) / mean) if len(counted) > 1 and mean > 0 else 1.0


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule for `errors`: against the baseline, or against a limit; in stages of either role."""
    first = tally_of(view, BASELINE, so_far=view.role == "watch")
    second = tally_of(view, CANDIDATE)
    here = tally_of(view, BASELINE)
    if second.requests == 0:
        return settled(_nothing(view, gate, first))
    if gate.limit is not None:
        return _Limit(view, gate, first, second).rule()
    if first.requests == 0:
        return settled(_nothing(view, gate, first))
    return Difference(view, gate.metric, gate.margin or 0.0, first, second, here).rule()


@dataclass(frozen=True, slots=True)
class Difference:
    """Failures of both arms. `here`: the baseline's in this stage alone, where `first` pools earlier ones."""

    view: StageView
    metric: str
    margin: float
    first: Tally
    second: Tally
    here: Tally
    noun: str = "requests fail"

    @property
    def log_e(self) -> float:
        share = self.second.requests / (self.first.requests + self.second.requests)
        # The candidate's failures count as far as they are independent; the baseline's, which excuse them, all.
        return log_e_value(self.second.alone, self.first.capped, share)

    def bound(self, alpha: float, side: str) -> float:
        one, two = self.first, self.second
        return difference_bound(two.failures, two.requests, one.failures, one.requests, alpha=alpha, side=side)

    @property
    def shared(self) -> bool:
        """In this stage the baseline fails about as often: then the machine is to blame, not the build."""
        return self.here.requests >= 20 and self.second.rate - self.here.rate <= self.margin

    @property
    def look_level(self) -> float:
        """At which the bound of this look has to lie beyond the margin. Most of the 1 % is for a stage of the planned
        length, a fifth for looks that cannot wait for its end: a build that fails half of its requests.
        """
        units = max(self.first.requests + self.second.requests, 2)
        planned = self.view.looks.level(ALPHA_FAIL * (1 - HASTE), units)
        return max(planned, Looks(None).level(ALPHA_FAIL * HASTE, units))

    @property
    def sure(self) -> float:
        return self.view.pass_level(max(self.second.requests, 2))

    def rule(self) -> Rule:
        beyond = self.bound(self.look_level, "lower") > self.margin and not self.shared
        return Rule(min(1.0, math.exp(-self.log_e)) if beyond else 1.0, self.finding)

    def finding(self, failed: float | None) -> Finding:
        low, high = self.bound(self.look_level, "lower"), self.bound(self.sure, "upper")
        outcome, reason, needs_s = self._answer(failed, low, high)
        return Finding(
            metric=self.metric,
            outcome=outcome,
            reason=reason,
            kind=self.view.role,
            stage=self.view.index,
            unit="pp",
            effect=self.second.rate - self.first.rate,
            interval=(low, high),
            margin=self.margin,
            baseline=self.first.rate,
            candidate=self.second.rate,
            n_baseline=self.first.requests,
            n_candidate=self.second.requests,
            needs_s=needs_s,
        )

    def _answer(self, failed: float | None, low: float, high: float) -> tuple[Outcome, str, float | None]:
        limit = f"margin {words.points(self.margin)}"
        if failed is not None:
            sure = f"{words.confidence(ALPHA_FAIL)} sure it is at least {words.points(low)} more"
            return "fail", f"{self._what()}; {sure}, {limit}{self._classes()}", None
        if self.view.role == "watch":
            return self._watched()
        if not self.view.may_pass:
            return "inconclusive", f"{self._what()}: no verdict yet, the stage is not over", None
        wanted = requests_for(self.margin, self.sure)
        if high < self.margin and self.second.requests >= wanted:
            sure = f"95 % sure it is at most {words.points(max(high, 0.0))} more"
            return "pass", f"{self._what()}; {sure}, {limit}", None
        needs_s = self._needs(wanted)
        short = f"{self._what()}: up to {words.points(high)} more is possible, {limit}"
        if self.second.requests < wanted:
            short = f"{self._what()}: {wanted} requests without a failure would bound it by the {limit}"
        return "inconclusive", f"{short}{words.needs(needs_s)}{self._classes()}", needs_s

    def _watched(self) -> tuple[Outcome, str, float | None]:
        if self.second.failures == self.second.requests:
            text = f"{self.view.names[1]} failed all of its {words.count(self.second.requests, 'request')}"
            return "inconclusive", f"{text}, too few to be sure of the cause{self._classes()}", None
        if self.shared and self.log_e > math.log(SUSPICION):
            also = f"{self.view.names[0]} fails in this stage as well ({self._of(self.here)})"
            return "inconclusive", f"{self._what()}, but {also}: look at the surroundings first", None
        if self.log_e > math.log(SUSPICION):
            return (
                "inconclusive",
                f"{self._what()}: suspicious, but not enough to be sure{self._classes()}",
                None,
            )
        return "pass", f"{self._what()}: nothing speaks against it", None

    def _needs(self, wanted: int) -> float | None:
        n = self.second.requests
        gap = self.margin - (self.second.rate - self.first.rate)
        if n < wanted:
            return self.view.elapsed_s * (wanted / n - 1)
        if gap <= 0:
            return None
        wide = self.bound(ALPHA_PASS, "upper") - (self.second.rate - self.first.rate)
        return self.view.elapsed_s * max((wide * 1.5 / gap) ** 2 - 1, 0.1)

    @staticmethod
    def _of(arm: Tally) -> str:
        return f"{words.percent(arm.rate)}, {arm.failures} of {arm.requests}"

    def _what(self) -> str:
        v1, v2 = self.view.names
        one, two = self.first, self.second
        if not one.failures and not two.failures:
            return f"none of {two.requests} {self.noun} on {v2}, none of {one.requests} on {v1}"
        return f"{words.percent(two.rate)} of {self.noun} on {v2} ({two.failures} of {two.requests}) " + (
            f"against {words.percent(one.rate)} on {v1} ({one.failures} of {one.requests})"
        )

    def _classes(self) -> str:
        return most_frequent(self.second.classes)


def most_frequent(classes: Iterable[tuple[str, int]]) -> str:
    for name, size in classes:
        return f"; most often {name} ({'once' if size == 1 else f'{size} times'})"
    return ""


@dataclass(frozen=True, slots=True)
class _Limit:
    """The candidate's rate of failure against an absolute limit. Bursts are not capped: whatever they come from, so
    many requests failed, and this is what stops a run in an emergency.
    """

    view: StageView
    gate: Gate
    first: Tally
    second: Tally

    def rule(self) -> Rule:
        limit = self.gate.limit or 0.0
        two = self.second
        if limit > 0:
            p = math.exp(-max(log_e_value(two.failures, two.requests - two.failures, limit), 0.0))
        else:
            p = 0.0 if two.failures else 1.0  # a limit of 0 is broken by the first failure
        return Rule(p, self.finding)

    def finding(self, failed: float | None) -> Finding:
        two, limit = self.second, self.gate.limit or 0.0
        low = rate_lower(two.failures, two.requests, failed or ALPHA_FAIL)
        high = rate_upper(two.failures, two.requests, self.view.pass_level(max(two.requests, 2)))
        v2 = self.view.names[1]
        what = f"{words.percent(two.rate)} of requests fail on {v2} ({two.failures} of {two.requests})"
        allowed = f"limit {words.percent(limit)}"
        needs_s = None
        outcome: Outcome = "inconclusive"
        if failed is not None:
            outcome, reason = "fail", f"{what}, {allowed}{most_frequent(two.classes)}"
        elif self.view.role == "watch":
            likely = p_more(two.failures, two.requests, limit)
            outcome = "pass" if likely > 1 / SUSPICION and two.failures < two.requests else "inconclusive"
            rest = "nothing speaks against it" if outcome == "pass" else "suspicious, but not enough to be sure"
            reason = f"{what}, {allowed}: {rest}"
        elif not self.view.may_pass:
            reason = f"{what}, {allowed}: no verdict yet, the stage is not over"
        elif high < limit or (limit == 0 and two.failures == 0):
            outcome, reason = "pass", f"{what}; 95 % sure it is at most {words.percent(high)}, {allowed}"
        else:
            if limit > 0 and two.rate < limit:
                needs_s = self.view.elapsed_s * max(requests_for(limit) / two.requests - 1, 0.5)
            reason = f"{what}: up to {words.percent(high)} is possible, {allowed}{words.needs(needs_s)}"
        return Finding(
            metric=self.gate.metric,
            outcome=outcome,
            reason=reason,
            kind=self.view.role,
            stage=self.view.index,
            unit="pp",
            effect=two.rate,
            interval=(low, high),
            margin=limit,
            baseline=self.first.rate if self.first.requests else None,
            candidate=two.rate,
            n_baseline=self.first.requests,
            n_candidate=two.requests,
            needs_s=needs_s,
        )


def _nothing(view: StageView, gate: Gate, first: Tally) -> Finding:
    v1, v2 = view.names
    asked = view.asked(CANDIDATE)
    due = view.candidate_due
    if first.requests and view.role == "watch" and due < 1:
        outcome: Outcome = "pass"
        reason = f"{v2} was due no request so far: nothing speaks against it, and nothing for it"
    elif asked:
        outcome, reason = "no data", f"no request to {v2} came to an end ({asked} were cancelled)"
    elif not first.requests:
        outcome, reason = "no data", f"neither {v1} nor {v2} got a request that came to an end"
    else:
        outcome, reason = "no data", f"{v2} got no request, {v1} got {first.requests}"
    if not first.requests and asked:
        reason = f"{v1} got no request: nothing to compare {v2} with"
    return Finding(
        metric=gate.metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        unit="pp",
        margin=gate.limit if gate.limit is not None else gate.margin,
        n_baseline=first.requests,
    )


def busy_baseline(first: Tally) -> bool:
    """The baseline itself fails so often that a comparison with it says little: surely over 5 %."""
    return rate_lower(first.failures, first.requests, ALPHA_FAIL) > 0.05
