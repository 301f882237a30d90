"""Why Kayenta's label and our finding agree or do not: one sentence a gate, from what both were given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.judge import words
from harness.judge.columns import Floats
from harness.judge.kayenta.mann_whitney import z_score
from harness.judge.kayenta.points import Series
from harness.judge.kayenta.rules import ENOUGH_Z, Classified
from harness.judge.metrics import is_latency, quantile_of
from harness.types import Finding, Outcome

FEW = 50
"""Points a metric should have, by Spinnaker's guide to canaries."""
TOGETHER = 0.3
_SEVERITY: dict[Outcome, int] = {"fail": 0, "inconclusive": 1, "no data": 2, "pass": 3}


@dataclass(frozen=True)
class Case:
    """One gate before both judges. `findings`: ours of it, in all stages; `shown`: the stages of which Kayenta has
    points; `shares`: baseline's and candidate's part of the load, where these differ most.
    """

    metric: str
    points: Series
    found: Classified
    findings: Sequence[Finding]
    shown: frozenset[int]
    shares: tuple[float, float]

    @cached_property
    def ours(self) -> Finding | None:
        """The finding that weighs most: one that failed, else one that is open, else a comparison that passed."""
        return min(self.findings, key=lambda f: (_SEVERITY[f.outcome], f.kind != "comparison"), default=None)

    @property
    def outcome(self) -> Outcome:
        return self.ours.outcome if self.ours else "no data"

    @property
    def flagged(self) -> bool:
        return self.found.label in ("High", "Low")

    @property
    def agrees(self) -> bool:
        expected = {"pass": ("Pass",), "fail": ("High", "Low"), "no data": ("Nodata", "NodataFailMetric")}
        return self.found.label in expected.get(self.outcome, ())

    @cached_property
    def known(self) -> tuple[Floats, Floats]:
        one, two = self.points.baseline, self.points.candidate
        return one[np.isfinite(one)], two[np.isfinite(two)]

    @cached_property
    def z(self) -> float:
        try:
            return z_score(self.known[1], self.known[0])
        except ValueError:
            return 0.0

    @cached_property
    def equal(self) -> float:
        """The share of all pairs of points, one of each arm, that are equal."""
        one, two = (np.unique(points, return_counts=True) for points in self.known)
        _, first, second = np.intersect1d(one[0], two[0], return_indices=True)
        return float((one[1][first] * two[1][second]).sum()) / (len(self.known[0]) * len(self.known[1]))

    @cached_property
    def together(self) -> float:
        """The correlation of both arms' points of the same moments; 0 where there is none."""
        both = np.isfinite(self.points.baseline) & np.isfinite(self.points.candidate)
        return _correlation(self.points.baseline[both], self.points.candidate[both])

    @cached_property
    def lag1(self) -> float:
        """How far neighbouring points of an arm resemble each other: the mean of both arms'."""
        return sum(_correlation(points[1:], points[:-1]) for points in self.known) / 2


def _correlation(one: Floats, two: Floats) -> float:
    if len(one) < 8 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])


def reason(case: Case) -> str:
    """One sentence, without a full stop."""
    if case.found.label == "Error":
        return f"Kayenta's test has no answer ({case.found.reason}), and an error counts nowhere there; {_ours(case)}"
    if case.found.shift is None:
        return _untested(case)
    if case.agrees:
        return f"both {'see a difference' if case.flagged else 'see nothing against it'}: {_test(case)}; {_ours(case)}"
    if case.flagged:
        return f"Kayenta sees a difference: {_test(case)}; {_ours(case)}; {_why_flagged(case)}"
    return f"Kayenta passes it: {_test(case)}; {_ours(case)}; {_why_missed(case)}"


def _untested(case: Case) -> str:
    one, two = (len(points) for points in case.known)
    if case.found.label in ("Nodata", "NodataFailMetric"):
        return f"Kayenta has {one} points of the baseline and {two} of the candidate, so no data; {_ours(case)}"
    who = "both pass it" if case.agrees else "Kayenta passes it"
    return f"{who}: {case.found.reason}, so Kayenta makes no test; {_ours(case)}"


def _test(case: Case) -> str:
    one, two = (len(points) for points in case.known)
    many = f"{one}" if one == two else f"{one} and {two}"
    few = f" (few: {FEW} are recommended)" if min(one, two) < FEW else ""
    return f"{many} points an arm{few} differ by z = {case.z:.1f} where it takes {ENOUGH_Z:.1f}"


def _ours(case: Case) -> str:
    found = case.ours
    if found is None:
        return "ours has no finding of it"
    where = "" if found.stage in case.shown else f" in stage {found.stage + 1}"
    if found.outcome == "no data":
        return f"ours has no data{where}"
    if found.outcome == "fail":
        return f"ours fails it{where}{_bound(found, 0, ', sure that it is at least ')}"
    if found.outcome == "pass":
        return f"ours passes it{where}{_bound(found, 1, ', sure that it is at most ')}"
    return f"ours leaves it open{where}{_range(found)}"


def _range(found: Finding) -> str:
    """`, for it may be anything from 1.0 % lower to 14.2 % higher (margin 10 %)`."""
    if _within(found):
        return f", within its margin so far{_bound(found, 1, ': at most ')}"
    high = _bound(found, 1, " to ")
    low = _end(found, 0)
    if not high or low is None:
        return ""
    return f", for it may be anything from {words.apart(low) if found.unit == 'ratio' else words.points(low)}{high}"


def _end(found: Finding, end: int) -> float | None:
    """The better (0) or the worse (1) end of the interval. Where less is worse, the margin is below 1."""
    if found.interval is None:
        return None
    return found.interval[1 - end if found.unit == "ratio" and (found.margin or 1.0) < 1 else end]


def _within(found: Finding) -> bool:
    """Open only because its stage was not over."""
    high = found.interval[1] if found.interval else None
    return high is not None and found.margin is not None and found.margin >= 1 and high < found.margin


def _bound(found: Finding, end: int, before: str) -> str:
    """`, sure that it is at most 3.1 % higher (margin 10 %)`; nothing where no interval says it."""
    value = _end(found, end)
    if value is None or found.margin is None or found.kind != "comparison":
        return ""
    if found.unit == "ratio":
        return f"{before}{words.apart(value)} (margin {words.margin(abs(found.margin - 1))})"
    if found.unit == "pp":
        return f"{before}{words.points(value)} more (margin {words.points(found.margin)})"
    return ""


def _why_missed(case: Case) -> str:
    """Kayenta passes what ours fails or leaves open."""
    found = case.ours
    if found is not None and found.stage not in case.shown:
        return "not both arms get requests there, so Kayenta has nothing to compare"
    if found is not None and case.outcome == "inconclusive" and _within(found):
        return "ours lets nothing pass before its stage is over"
    why = _blind(case)
    if case.outcome != "inconclusive":
        return why or "Kayenta's points scatter too much, and each counts the same, however many requests are in it"
    return f"{why}, and what Kayenta cannot see it passes" if why else "what Kayenta cannot see it passes"


def _blind(case: Case) -> str:
    """What keeps the difference from Kayenta; nothing if nothing stands out."""
    if (case.metric == "errors" and case.equal > 0.1) or (case.z > ENOUGH_Z and case.equal > 0):
        return f"{words.percent(case.equal)} of its comparisons are of two equal points, which holds the shift at 0"
    quantile = quantile_of(case.metric) if is_latency(case.metric) else None
    if quantile is not None and case.points.requests * (1 - quantile) < 1:
        slowest = (
            f"the p{quantile * 100:g} of the {case.points.requests} requests in a point is hardly more than the slowest"
        )
        return f"{slowest}, so rare slow ones move few points"
    if case.together > TOGETHER:
        return f"both arms' points rise and fall together (r = {case.together:.2f}), which Kayenta does not cancel"
    return ""


def _why_flagged(case: Case) -> str:
    """Kayenta flags what ours passes or leaves open."""
    found = case.ours
    if abs(case.shares[0] - case.shares[1]) > 0.01:
        one, two = (words.margin(share) for share in case.shares)
        return f"the arms had {one} and {two} of the load, and Kayenta compares their queues"
    if case.lag1 > 2 / math.sqrt(min(len(points) for points in case.known)):
        return f"neighbouring points resemble each other (r = {case.lag1:.2f}), and Kayenta takes them for independent"
    limit = "the margin"
    if found is not None and found.margin is not None and found.unit in ("ratio", "pp"):
        limit = words.margin(abs(found.margin - 1)) if found.unit == "ratio" else words.points(found.margin)
    return f"Kayenta asks whether there is any difference, ours whether it is beyond {limit}"
