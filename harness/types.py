"""The words everyone uses. Frozen, standard library only, no behaviour beyond arithmetic on their own fields.

Times ending in `_ns` are int64 nanoseconds on the monotonic clock, counted from the start of the run.
Derived times, used with exactly these meanings everywhere:

    response_time    done - due     free of coordinated omission
    request_latency  done - sent
    ttft             first - sent   to the first non-empty token
    tpot             (request_latency - ttft) / (osl - 1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

ArmName = Literal["stable", "baseline", "candidate"]
Mode = Literal["paired", "interleaved", "split", "sequential"]
Arrival = Literal["poisson", "constant", "gamma", "trace", "closed"]
Purpose = Literal["compare", "deploy", "soak", "warm-up", "alone"]
Status = Literal["ok", "error", "timeout", "oom", "refused", "cancelled"]
Assignment = Literal["plan", "header", "hash", "observed", "score"]
Api = Literal["kserve", "generate", "openai"]
Wire = Literal["grpc", "grpc-stream", "http", "generate", "generate-stream", "openai", "openai-stream"]
Outcome = Literal["pass", "fail", "inconclusive", "no data"]
FindingKind = Literal["comparison", "watch", "validity"]
Decision = Literal["promote", "rollback", "inconclusive"]
CanaryLabel = Literal["Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error"]
CanaryClass = Literal["pass", "marginal", "fail"]

# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files; `server_name` where the certificate names another host than the address."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison: `url` is grpc, grpcs, http or https://host:port.

    `api`: how requests are worded. "kserve" is the v2 protocol, "generate" Triton's generate extension (HTTP),
    "openai" the OpenAI-compatible front end (HTTP). `stream`: tokens as they come, where the api and model can.
    """

    url: str
    model: str
    version: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    api: Api = "kserve"
    stream: bool = True
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one request asks: `max_tokens` None is the load's own. A trace has one for each of its rows.

    `tokens`: the text's length as the scenario's tokenizer counts it, None without one. `expected`: what a scorer holds
    the answer against, any JSON value; None where there is nothing to expect.
    """

    text: str
    max_tokens: int | None = None
    tokens: int | None = None
    expected: Any = None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    name: str
    datatype: str  # KServe v2 name: FP32, INT64, BYTES, ...
    shape: tuple[int, ...]  # without the batch dimension; -1 is free
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a Triton says of a model; `max_batch_size` 0 means that shapes have no batch dimension."""

    name: str
    platform: str
    versions: tuple[int, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    decoupled: bool

    @property
    def is_token_model(self) -> bool:
        """Text in, tokens out, by the names that Triton's LLM backends share."""
        return any(t.name == "text_input" for t in self.inputs)


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule. Either `margin` (against the baseline) or `limit` (absolute, never above it).

    `margin_kind`: "relative" (0.10 is 10 % worse) or "absolute" (0.03 is 3 percentage points for errors). `within`: of
    goodput, the most that each of a request's times may be, in seconds; its `limit` is the share that may miss them.
    """

    metric: str
    margin: float | None = None
    margin_kind: Literal["relative", "absolute"] = "relative"
    limit: float | None = None
    within: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage as planned. Closed loop: `in_flight` is set. Open loop: `rate` (requests or pairs a second).

    `rate_to`, `in_flight_to`: a ramp, linear from the one to the other over the stage. `burstiness`: the shape of gamma
    gaps (1 is Poisson, below it bursts). `arrival` "trace": due times come from the load's trace; `rate` is then its
    mean. `candidate_share`: 0.5 for paired and interleaved; `baseline_share`: None is the rest, less leaves the
    difference to the stable arm. `purpose`: the scenario's own stages compare; the planner puts "deploy" before them,
    which lasts until the candidate is loaded and `duration_s` at most, before a stage its "warm-up", of which nothing
    is judged, and "alone", in which the baseline gets the load that both arms get together in the next stage; and
    behind them "soak", in which the baseline is kept after the last stage. `series`: how many stages a sweep or steps
    were made into; they share one budget of false rollbacks. `together`: so many requests leave at the same moment, all
    for the baseline: it is beside itself as the candidate is beside it in the pairs of the next stage. `period` of
    `periods`, from 1 (0: none): a sequential stage is carried out as periods in which one arm gets everything, in the
    order A-B-B-A, each a stage of its own here. `until_decided`: the judge may end it before its time, either way.
    """

    index: int
    mode: Mode
    arrival: Arrival
    duration_s: float
    candidate_share: float
    in_flight: int | None = None
    rate: float | None = None
    purpose: Purpose = "compare"
    rate_to: float | None = None
    in_flight_to: int | None = None
    burstiness: float = 1.0
    baseline_share: float | None = None
    series: int = 1
    together: int = 1
    period: int = 0
    periods: int = 0
    until_decided: bool = False

    @property
    def shares(self) -> dict[ArmName, float]:
        """Each arm's part of the requests, half and half in paired mode; arms that get none are left out."""
        candidate = self.candidate_share
        baseline = 1 - candidate if self.baseline_share is None else self.baseline_share
        parts: dict[ArmName, float] = {
            "baseline": baseline,
            "candidate": candidate,
            "stable": 1 - candidate - baseline,
        }
        # Shares come from percentages: 100 % - 10 % - 90 % is not exactly nothing.
        return {arm: part for arm, part in parts.items() if part > 1e-9}


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request, or in paired mode one pair: sent to each of `arms` in this order, at the same due time.

    `due_ns` counts from the start of the stage; -1 in a closed loop (due when a slot is free).
    `prompt` is an index into the prompts. `pair_id` is unique within the run: stage << 32 | number. Where requests
    leave `together`, all of `arms` are the baseline, and the others have the numbers that follow.
    """

    pair_id: int
    due_ns: int
    prompt: int
    arms: tuple[ArmName, ...]


# ---------------------------------------------------------------- what was seen


class Sample(NamedTuple):
    """One request, whatever became of it. -1 is unknown. `version` is what the response said.

    `assignment` "score" marks a request that scores given tokens (quality): its errors count, its times do not.
    """

    arm: str
    stage: int
    pair_id: int
    request_id: str
    unit: str
    assignment: str
    due_ns: int
    sent_ns: int
    first_ns: int
    done_ns: int
    status: str
    error: str
    code: str
    finish_reason: str
    server: str
    model: str
    version: str
    isl: int
    osl: int
    worker: int


class Output(NamedTuple):
    """What a request answered, kept where outputs are compared. `kind`: "generated", or "scored" (forced tokens).

    A generated baseline answer is the reference; `scored` rows of the same `pair_id` are the distributions that
    each arm gives to the reference's tokens. `topk_ids` and `topk_logprobs` are row-major, `k` a token.
    `prompt`: the number of what was asked, -1 unknown. `logprob`: the sum of the log-probabilities (nats) that the
    engine gave its own `logprob_tokens` tokens, which are -1 where it gave none. `tool_calls`: a JSON list of
    {"name", "arguments"}, "" without any. Of an answer in tensors: `shape`, as "vector FP32 [384]"; `bad`, how many of
    its numbers are NaN or infinite; `vector`, its numbers where they are few and wanted.
    """

    stage: int
    pair_id: int
    arm: str
    kind: str
    text: str
    digest: str
    finish_reason: str
    token_ids: list[int]
    k: int
    topk_ids: list[int]
    topk_logprobs: list[float]
    prompt: int = -1
    logprob: float = 0.0
    logprob_tokens: int = -1
    tool_calls: str = ""
    shape: str = ""
    bad: int = 0
    vector: Sequence[float] = ()


class Score(NamedTuple):
    """What a scorer of the scenario gave a generated answer: 0 (wrong) to 1 (right).

    Where a scorer failed there is one row with its `error`, an `arm` of "", a `pair_id` of -1 and a score of 0, and no
    other of that scorer and stage counts.
    """

    stage: int
    pair_id: int
    arm: str
    scorer: str
    score: float
    error: str = ""


class Reading(NamedTuple):
    """One measurement beside the requests. Metric names carry no unit; `unit` does: bytes, ratio, W, J, C, 1, s."""

    t_ns: int
    source: str  # nvml, triton, host, process, generator
    device: str  # gpu0, model/version, host, server, worker0
    metric: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage as it ran. `decided_ns`: samples done later than this had no part in the decision."""

    plan: StagePlan
    begin_ns: int
    end_ns: int | None = None
    decided_ns: int | None = None


# ---------------------------------------------------------------- what follows from it


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's answer.

    `effect`, `interval` and `margin` share a unit: "ratio" (1.0 is equal, 1.10 is 10 % more; a margin below 1 is of a
    metric of which less is worse), "pp" (difference of rates; 0.03 is three percentage points), or the metric's own
    (nats for quality.kl). `baseline` and `candidate`
    are the two values in the metric's unit (seconds, rate, nats). `needs_s`: further seconds of this load after
    which the rule could answer; None where time alone would not help. `reason` is a sentence to act on.
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

    `live`: the run itself stopped there; `end`: nothing of the stage was left to come.
    """

    after_s: float
    planned_s: float
    verdict: StageVerdict
    decides: bool = False
    live: bool = False
    end: bool = False


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
