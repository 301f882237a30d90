"""One stage as it is judged at one moment: which samples count, how much of the stage has passed, by what
role.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from harness.errors import UsageError
from harness.judge.columns import ARMS, BASELINE, CANCELLED, CANDIDATE, OK, TIMEOUT, Columns
from harness.judge.evidence import Evidence
from harness.judge.quality.outputs import Answer, seen
from harness.judge.statistics.boundary import Looks
from harness.judge.statistics.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.judge.times.gaps import ICL
from harness.types import StagePlan, StageRecord

Role = Literal["comparison", "watch"]
# A stage that ended this close to its planned end was not cut short.
WHOLE = 0.9
SHARE_TOLERANCE = 1e-6
WARM_UP = "warm-up"
"""The purpose of a stage of which nothing is judged."""
ALONE = "alone"
"""The purpose of a stage in which the baseline has what both arms have together in the next."""
APART = (WARM_UP, ALONE)
"""Stages that neither compare nor watch: no gate of another stage counts their samples."""
COMPARING = ("paired", "interleaved", "sequential")


@dataclass(frozen=True)
class StageView:
    """`so_far`: all samples of this and earlier stages, those of APART left out, up to the moment `until_ns` (None:
    there is no end yet).

    `final`: the stage is over and whole, so it may pass; otherwise this is a look, at which a gate may fail, and pass
    only in a stage that lasts until it is decided (see `may_pass`). `fraction`: of the planned duration, in (0, 1].
    `alpha`: the stage's false-rollback budget.
    """

    evidence: Evidence
    record: StageRecord
    so_far: Columns
    outputs: tuple[Answer, ...]
    until_ns: int | None
    final: bool
    fraction: float
    role: Role
    alpha: float

    @classmethod
    def of(cls, evidence: Evidence, index: int, now_ns: int | None) -> StageView:
        """Raises UsageError where no stage has that index."""
        records, record = record_of(evidence, index)
        horizon = record.begin_ns + round(record.plan.duration_s * 1e9)
        cut, final = moment(record, horizon, now_ns)
        until = cut
        samples = evidence.samples
        rows = samples.stage <= index
        for other in records:
            if _apart(other, record):
                rows &= samples.stage != other.plan.index
        if cut is not None:
            rows &= samples.done_ns <= cut
        so_far = samples.take(rows)
        if cut is None:
            mine = so_far.done_ns[so_far.stage == index]
            cut = int(mine.max()) if len(mine) else record.begin_ns
        passed = (cut - record.begin_ns) / max(horizon - record.begin_ns, 1)
        role, alpha = role_of(records, record)
        return cls(
            evidence=evidence,
            record=record,
            so_far=so_far,
            outputs=seen(tuple(a for a in evidence.outputs if a.stage <= index), so_far),
            until_ns=until if until is not None else record.end_ns,
            final=final,
            fraction=1.0 if final else min(max(passed, 1e-3), 1.0),
            role=role,
            alpha=alpha,
        )

    def sets_apart(self, other: StageRecord) -> bool:
        """Whether this stage has nothing to do with what was seen in another."""
        return _apart(other, self.record)

    @property
    def planned_s(self) -> dict[int, float]:
        """The planned duration of each stage that was begun, by index."""
        return {record.plan.index: record.plan.duration_s for record in self.evidence.stages}

    @property
    def looks(self) -> Looks:
        """What this look may claim: a stage that ends when it is decided has no planned length."""
        return Looks(None if self.early else self.fraction)

    @property
    def early(self) -> bool:
        """The stage lasts until it is decided, so any look may let it pass, too."""
        return self.plan.until_decided and self.role == "comparison"

    @property
    def may_pass(self) -> bool:
        return self.final or self.early

    def pass_level(self, units: int) -> float:
        """The level of the bound that has to lie within a margin. A stage of planned length passes at its end only, and
        so spends nothing on looks.
        """
        return self.looks.level(ALPHA_PASS, units) if self.early else ALPHA_PASS

    @property
    def plan(self) -> StagePlan:
        return self.record.plan

    @property
    def index(self) -> int:
        return self.record.plan.index

    @cached_property
    def kept(self) -> dict[str, Any]:
        """What was worked out of this view and is needed again, by name."""
        return {}

    @cached_property
    def samples(self) -> Columns:
        """This stage's samples."""
        return self.so_far.take(self.so_far.stage == self.index)

    @cached_property
    def baseline(self) -> Columns:
        """This stage's requests to the baseline, without those that score."""
        return self.samples.take((self.samples.arm == BASELINE) & ~self.samples.score)

    @cached_property
    def candidate(self) -> Columns:
        return self.samples.take((self.samples.arm == CANDIDATE) & ~self.samples.score)

    def timed(self, metric: str) -> tuple[Columns, Columns]:
        """The rows of this stage, baseline's and candidate's, that have the time `metric`: requests, or gaps."""
        if not metric.startswith(ICL):
            return self.arms
        found = self.evidence.gaps
        rows = self.samples.take(np.zeros(len(self.samples), np.bool_)) if found is None else found
        rows = rows.take(rows.stage == self.index)
        if self.until_ns is not None:
            rows = rows.take(rows.done_ns <= self.until_ns)
        return rows.take(rows.arm == BASELINE), rows.take(rows.arm == CANDIDATE)

    @property
    def arms(self) -> tuple[Columns, Columns]:
        return self.baseline, self.candidate

    @cached_property
    def answered(self) -> tuple[int, int]:
        """How many requests each arm answered."""
        return int((self.baseline.status == OK).sum()), int((self.candidate.status == OK).sum())

    def asked(self, arm: int) -> int:
        """This stage's requests to one arm, without those that score."""
        return int(((self.samples.arm == arm) & ~self.samples.score).sum())

    def failed(self, arm: int) -> tuple[int, int]:
        """This stage's requests to one arm that failed, those that score among them; and how many of them timed out."""
        mine = self.samples.arm == arm
        return int((mine & self.samples.failed).sum()), int((mine & (self.samples.status == TIMEOUT)).sum())

    @cached_property
    def total(self) -> int:
        """All requests of this stage, to whomever and for whatever."""
        return len(self.samples)

    def called(self, error: str) -> int:
        """How many requests of this stage ended with that class of error."""
        names = self.samples.error_names
        return int((self.samples.error == names.index(error)).sum()) if error in names else 0

    @cached_property
    def sent_by(self) -> dict[int, int]:
        """How many of this stage's requests each load worker sent, as far as it is known."""
        numbers, counts = np.unique(self.samples.worker, return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def scored(self, arm: int) -> tuple[int, int]:
        """Requests of this stage that score and came to an end; and how many of them failed."""
        mine = self.samples.score & (self.samples.arm == arm)
        return int((mine & (self.samples.status != CANCELLED)).sum()), int((mine & self.samples.failed).sum())

    def tokens(self, arm: int) -> tuple[int, int]:
        """Of one arm's answers that say their length: how many, and their tokens together."""
        columns = self.arms[arm]
        known = (columns.status == OK) & (columns.osl >= 0)
        return int(known.sum()), int(columns.osl[known].sum(dtype=np.int64))

    @cached_property
    def last_ns(self) -> int | None:
        """When the last request that was seen ended; None if none did."""
        done = self.samples.done_ns
        return int(done.max()) if len(done) else None

    @cached_property
    def elapsed_s(self) -> float:
        """Of the stage, up to the last thing that was seen."""
        last = self.last_ns
        return 1e-3 if last is None else max((last - self.record.begin_ns) / 1e9, 1e-3)

    @property
    def names(self) -> tuple[str, str]:
        return self.evidence.names

    @cached_property
    def reference(self) -> StageRecord | None:
        """The last stage before this one that compared arms of equal load: it sets the objectives. No ramp does: what
        the baseline took at its end says nothing of the load that is watched.
        """
        records = sorted(self.evidence.stages, key=lambda record: record.plan.index)
        found = [
            r
            for r in records
            if r.plan.index < self.index
            and r.plan.purpose not in APART
            and r.plan.rate_to is None
            and r.plan.in_flight_to is None
            and role_of(records, r)[0] == "comparison"
        ]
        return found[-1] if found else None

    @property
    def candidate_due(self) -> float:
        """How many requests the plan gives the candidate, as far as the plan says; else what was sent."""
        plan = self.plan
        if plan.rate is not None:
            share = 1.0 if plan.mode == "paired" else plan.candidate_share
            now = plan.rate if plan.rate_to is None else plan.rate + (plan.rate_to - plan.rate) * self.fraction
            return (plan.rate + now) / 2 * plan.duration_s * share * self.fraction
        return max(float(self.total) * self.plan.candidate_share, float(self.plan.candidate_share > 0))

    @property
    def candidate_expected(self) -> bool:
        """Whether a candidate that gave nothing lacks something."""
        return self.role == "comparison" or self.candidate_due >= 1

    def arm_name(self, arm: int) -> str:
        return self.names[arm] if arm < 2 else ARMS[arm]


def record_of(evidence: Evidence, index: int) -> tuple[list[StageRecord], StageRecord]:
    """All stages in order, and the one of that index. Raises UsageError where no stage has it."""
    records = sorted(evidence.stages, key=lambda record: record.plan.index)
    record = next((r for r in records if r.plan.index == index), None)
    if record is None:
        raise UsageError(f"stage {index}: the recording has no such stage")
    return records, record


def moment(record: StageRecord, horizon: int, now_ns: int | None) -> tuple[int | None, bool]:
    """Up to when samples count (None: all), and whether the stage is over and whole."""
    if now_ns is not None:
        return now_ns, False
    end, decided = record.end_ns, record.decided_ns
    if decided is not None and decided < min(horizon, end if end is not None else horizon):
        return decided, False
    if end is None:
        return decided, False
    if record.plan.purpose == "deploy":
        return decided, decided is None  # it is over when the candidate is loaded
    return decided, end - record.begin_ns >= WHOLE * (horizon - record.begin_ns)


def _apart(other: StageRecord, record: StageRecord) -> bool:
    return other.plan.purpose in APART and other is not record


def equal_load(plan: StagePlan) -> bool:
    if plan.mode in COMPARING:
        return True
    baseline, candidate = plan.shares.get("baseline", 0.0), plan.shares.get("candidate", 0.0)
    return abs(candidate - baseline) < SHARE_TOLERANCE and plan.purpose == "compare"


def role_of(records: list[StageRecord], record: StageRecord) -> tuple[Role, float]:
    """A paired or interleaved stage compares. So does a 50/50 split, unless an earlier stage has compared:
    then it is watched like any split, because a short one could only add noise to an answer that is there.

    Watch stages share one budget of 1 %: the j-th gets 1/(j (j + 1)) of it, which needs no knowledge of how
    many are to come and sums to 1. A comparison has one of its own, which the stages of a sweep share. A deploy, in
    which the candidate gets no request, takes none of it, nor does a stage of APART, which neither compares nor
    watches.
    """
    compared, watched = False, 0
    role: Role = "watch"
    for other in records:
        if _apart(other, record):
            continue
        paired = other.plan.mode in COMPARING
        role = "comparison" if paired or (equal_load(other.plan) and not compared) else "watch"
        compared |= role == "comparison"
        watched += role == "watch" and other.plan.purpose not in ("deploy", ALONE)
        if other is record:
            break
    return role, ALPHA_FAIL / (record.plan.series if role == "comparison" else max(watched * (watched + 1), 1))
