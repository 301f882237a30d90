"""What follows from it: findings, audits, verdicts, and where a run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.types.asked import StagePlan
from harness.types.words import ArmName, CanaryClass, CanaryLabel, Decision, FindingKind, Outcome


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's answer.

    `effect`, `interval` and `margin` share a unit: "ratio" (1.0 is equal, 1.10 is 10 % more; a margin below 1 is of a
    metric of which less is worse), "pp" (difference of rates; 0.03 is three percentage points), or the metric's own
    (nats for quality.kl). `baseline` and `candidate` are the two values in the metric's unit (seconds, rate, nats).
    `needs_s`: further seconds of this load after which the rule could answer; None where time alone would not help.
    `reason` is a sentence to act on.
    """

    metric: str
    outcome: Outcome
    reason: str
    kind: FindingKind = "comparison"
    stage: int = 0
    unit: str = "ratio"
    effect: float | None = None
    interval: tuple[float | None, float | None] | None = None
    margin: float | None = None
    baseline: float | None = None
    candidate: float | None = None
    n_baseline: int = 0
    n_candidate: int = 0
    needs_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerAudit:
    """One load worker in one stage. `cpu` in cores, mean; `stall_s`: the longest turn of its event loop."""

    worker: int
    requests: int
    lag_p99_s: float | None = None
    cpu: float | None = None
    stall_s: float | None = None


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The share of look-ups in one cache that hit, for either arm. `cache`: response, prefix, kv or prompt."""

    cache: str
    baseline: float | None = None
    candidate: float | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What the measurement of one stage was like itself; computed for every stage, sound or not. None is unknown.

    `lag`: sent - due, open loop only; `late` is the share of requests sent more than `lag_limit_s` after they were due.
    `planned` and `sent` count requests, or pairs in paired mode. `served`: what each arm's server got through (1/s) in
    the second half. `in_flight`: the mean of requests or pairs, by Little's law. `cpu`: of the busiest worker, in
    cores; `standing`: the share of the stage in which an event loop stood still for longer than the limit. `unsent`:
    most requests that waited to be sent. `steal`: of this host, mean. `warm_up_s`: until both arms' times were steady.
    `overloaded`: arms whose server did not keep up.
    """

    lag_p50_s: float | None = None
    lag_p99_s: float | None = None
    lag_limit_s: float | None = None
    late: float | None = None
    planned: int | None = None
    sent: int = 0
    in_flight_planned: float | None = None
    in_flight: float | None = None
    cpu: float | None = None
    stall_s: float | None = None
    standing: float | None = None
    unsent: int | None = None
    clock_error_s: float | None = None
    host_cpu: float | None = None
    steal: float | None = None
    warm_up_s: float | None = None
    served_baseline: float | None = None
    served_candidate: float | None = None
    overloaded: tuple[str, ...] = ()
    caches: tuple[CacheUse, ...] = ()
    workers: tuple[WorkerAudit, ...] = ()


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """`promote` here means: go on to the next stage. `audit` is None where nothing was measured by requests."""

    stage: int
    verdict: Decision
    reason: str
    findings: tuple[Finding, ...]
    audit: Audit | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    verdict: Decision
    reason: str
    stages: tuple[StageVerdict, ...]
    needs: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for stage in self.stages for finding in stage.findings)

    @property
    def exit_code(self) -> int:
        return {"promote": 0, "rollback": 1, "inconclusive": 3}[self.verdict]


@dataclass(frozen=True, slots=True)
class Look:
    """The judge's answer at one moment of a stage, `after_s` of `planned_s`. `decides`: it ended the stage.

    `live`: the run itself stopped there; `end`: nothing of the stage was left to come. `begin_s`: of the stage, from
    the run's start.
    """

    after_s: float
    planned_s: float
    verdict: StageVerdict
    decides: bool = False
    live: bool = False
    end: bool = False
    begin_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MetricOpinion:
    """What another judge says of one gate. `unit` (ms, %, tokens) is that of `estimate` and `interval`, the shift.

    `ratio`: of the mean points, candidate to baseline. `points`: how many of baseline and candidate; `z`: by how many
    standard errors they differ. `ours`: what the gate's own findings come to; `reason`: why the two agree or do not.
    """

    metric: str
    label: CanaryLabel
    ours: Outcome
    agrees: bool
    reason: str
    group: str = ""
    critical: bool = False
    points: tuple[int, int] = (0, 0)
    unit: str = ""
    z: float | None = None
    ratio: float | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """Another judge on the same recording; it changes nothing. `score`, `pass_from`, `marginal_from`: of 100.

    `groups`: their scores, None where nothing counted. `left_out`: gates of which it can know nothing. `point_s`: what
    one point is of.
    """

    judge: str
    verdict: CanaryClass
    score: float
    agrees: bool
    reason: str
    metrics: tuple[MetricOpinion, ...]
    groups: Mapping[str, float | None]
    left_out: tuple[str, ...]
    point_s: float
    pass_from: float
    marginal_from: float


@dataclass(frozen=True, slots=True)
class ArmStatus:
    """An arm's last few seconds, for the live view. Times in seconds."""

    sent: int = 0
    failed: int = 0
    rate: float = 0.0
    ttft_p50: float | None = None
    tpot_p50: float | None = None
    response_p50: float | None = None
    response_p90: float | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What the live view shows; made by `run`, drawn by `report`, printed by `cli`."""

    scenario: str
    step: str
    stage: StagePlan | None
    stages: tuple[StagePlan, ...]
    elapsed_s: float
    stage_elapsed_s: float
    left_s: float
    candidate_share: float
    arms: Mapping[ArmName, ArmStatus]
    leaning: StageVerdict | None
    done: tuple[StageVerdict, ...]
