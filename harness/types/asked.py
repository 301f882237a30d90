"""What is asked for: arms, gates, stages, requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.types.words import Api, ArmName, Arrival, Assignment, LimitKind, Mode, Purpose


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

    `margin_kind`: "relative" (0.10 is 10 % worse) or "absolute" (0.03 is 3 percentage points for errors). `limit_kind`:
    of memory.peak, "absolute" is in bytes, "share" (0.90) is of what there is of it where it is used: of the GPU's, of
    the instance's where it has a hard limit of its own, of the host's. `within`: of goodput, the most that each of a
    request's times may be, in seconds; its `limit` is the share that may miss them.
    """

    metric: str
    margin: float | None = None
    margin_kind: Literal["relative", "absolute"] = "relative"
    limit: float | None = None
    limit_kind: LimitKind = "absolute"
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
    `routed`: its requests go to the ingress, which decides who gets them, and not to an arm.
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
    routed: bool = False

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
    `unit`: whose request it is in an A/B test, and `assignment`: how that unit came to its arm.
    """

    pair_id: int
    due_ns: int
    prompt: int
    arms: tuple[ArmName, ...]
    unit: str = ""
    assignment: Assignment = "plan"
