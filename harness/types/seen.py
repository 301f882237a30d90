"""What was seen: samples, outputs, scores, readings, stages as they ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.types.asked import StagePlan


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
