"""Synthetic recordings with known truth: what the judge is tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from harness.judge import Evidence
from harness.recording.schema import OUTPUTS, SAMPLES
from harness.types import Gate, Output, Sample, StagePlan, StageRecord

S = 1_000_000_000
VERSIONS = {"baseline": "1", "candidate": "2"}
COLUMNS = tuple(zip(SAMPLES.names, SAMPLES.types, strict=True))
VOCABULARY = 50
K = 5
GATES = (
    Gate("errors", margin=0.03, margin_kind="absolute"),
    Gate("ttft.p50", margin=0.10),
    Gate("tpot.p50", margin=0.10),
    Gate("quality.kl", limit=0.06),
)


def plan(index: int = 0, mode: str = "paired", seconds: float = 90.0, share: float = 0.5, **more: object) -> StagePlan:
    arrival = "closed" if more.get("in_flight") else "poisson"
    return StagePlan(index, mode, arrival, seconds, share, **more)  # type: ignore[arg-type]


def paired_plan(index: int = 0, seconds: float = 90.0) -> StagePlan:
    return plan(index, "paired", seconds, 0.5, in_flight=1)


def sample(arm: str, pair_id: int, due_s: float, latency_s: float, **more: object) -> Sample:
    due, done = round(due_s * S), round((due_s + latency_s) * S)
    fields: dict[str, object] = {name: -1 if kind != pa.string() else "" for name, kind in COLUMNS}
    fields |= {"arm": arm, "stage": 0, "pair_id": pair_id, "request_id": f"{arm}-{pair_id}", "worker": 0}
    fields |= {"assignment": "plan", "status": "ok", "version": VERSIONS.get(arm, "")}
    fields |= {"due_ns": due, "sent_ns": due, "done_ns": done}
    fields.update(more)
    return Sample(**fields)  # type: ignore[arg-type]


def table(rows: Sequence[tuple[object, ...]], schema: pa.Schema = SAMPLES) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(list(c), t) for c, t in zip(columns, schema.types, strict=True)], schema=schema)


def bulk(
    arm: str, due_s: np.ndarray, latency_s: np.ndarray, pair: np.ndarray | None = None, stage: int = 0
) -> pa.Table:
    """Many plain answered requests, without a Python loop."""
    n = len(due_s)
    due = np.round(due_s * S).astype(np.int64)
    text = {
        "arm": arm,
        "assignment": "plan",
        "status": "ok",
        "version": VERSIONS[arm],
    }
    known = {"due_ns": due, "sent_ns": due, "done_ns": due + np.round(latency_s * S).astype(np.int64)}
    known["pair_id"] = np.arange(n) if pair is None else pair
    arrays = []
    for name, kind in zip(SAMPLES.names, SAMPLES.types, strict=True):
        if name in known:
            arrays.append(pa.array(known[name], kind))
        elif kind == pa.string():
            arrays.append(pa.array([text.get(name, "")], kind).take(pa.array(np.zeros(n, np.int64))))
        else:
            value = {"stage": stage, "worker": 0}.get(name, -1)
            arrays.append(pa.array(np.full(n, value), kind))
    return pa.table(arrays, schema=SAMPLES)


def as_it_is(output: Output) -> Output | None:
    return output


@dataclass
class Llm:
    """A slow token model, one pair in flight: its timings are those of the embedded demonstration model."""

    seed: int = 0
    ttft: float = 0.18
    tpot: float = 0.048
    ttft_ratio: float = 1.0
    tpot_ratio: float = 1.0
    noise: float = 0.06
    candidate_errors: float = 0.0
    baseline_errors: float = 0.0
    kl: float = 0.0
    prompts: int = 40
    tokens: int = 8
    gates: tuple[Gate, ...] = GATES
    samples: list[Sample] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    stages: list[StageRecord] = field(default_factory=list)
    mangle: Callable[[Output], Output | None] = as_it_is

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.now = 0.0
        language = np.random.default_rng(99)
        self.logits = language.normal(0, 2, (self.prompts, self.tokens, VOCABULARY))
        self.shift = language.normal(0, 1, (self.prompts, self.tokens, VOCABULARY))

    def request(self, arm: str, pair_id: int, due: float, prompt: int, shared: float, stage: int) -> Sample:
        slow = arm == "candidate"
        noise = np.exp(self.rng.normal(0, self.noise, 2) + shared)
        first = self.ttft * (self.ttft_ratio if slow else 1) * float(noise[0])
        gap = self.tpot * (self.tpot_ratio if slow else 1) * float(noise[1])
        broken = self.rng.random() < (self.candidate_errors if slow else self.baseline_errors)
        if broken:
            return sample(arm, pair_id, due, first, stage=stage, status="error", error="StatusCode.INTERNAL", osl=0)
        latency = first + gap * (self.tokens - 1)
        first_ns = round((due + first) * S)
        return sample(arm, pair_id, due, latency, stage=stage, first_ns=first_ns, osl=self.tokens, isl=37)

    def answer(self, stage: int, pair_id: int, arm: str, kind: str, prompt: int) -> None:
        logits = self.logits[prompt] + (self.shift[prompt] * np.sqrt(2 * self.kl) if arm == "candidate" else 0)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        order = np.argsort(-logprobs, axis=1)[:, :K]
        own = kind == "generated" and arm == "candidate"
        tokens = (order[:, 0] if own else np.argmax(self.logits[prompt], axis=1)) + 1000 * prompt
        text = " ".join(map(str, tokens))
        output = self.mangle(
            Output(stage, pair_id, arm, kind, text, "", "length", tokens.tolist(), K, order.ravel().tolist(),
                   np.take_along_axis(logprobs, order, 1).ravel().tolist())
        )  # fmt: skip
        if output is not None:
            self.outputs.append(output)

    def score(self, stage: int, arm: str, pair_id: int, reference: int, at: float, prompt: int) -> None:
        """The sample carries the pair of the request that led to it, the output that of the reference."""
        failing = self.candidate_errors if arm == "candidate" else self.baseline_errors
        failed = self.rng.random() < failing
        more = {"status": "error", "error": "StatusCode.INTERNAL"} if failed else {}
        self.samples.append(sample(arm, pair_id, at, 0.2, stage=stage, assignment="score", **more))
        if not failed:
            self.answer(stage, reference, arm, "scored", prompt)

    def paired(self, seconds: float = 90.0) -> Llm:
        stage, begin, number = len(self.stages), self.now, 0
        while self.now < begin + seconds:
            prompt, pair_id = int(self.rng.integers(self.prompts)), (stage << 32) | number
            shared = float(self.rng.normal(0, 0.05))
            pair = [self.request(arm, pair_id, self.now, prompt, shared, stage) for arm in ("baseline", "candidate")]
            self.samples += pair
            self.now = max(s.done_ns for s in pair) / S
            for s in pair:
                if s.status == "ok":
                    self.answer(stage, pair_id, s.arm, "generated", prompt)
            if all(s.status == "ok" for s in pair):
                for arm in ("baseline", "candidate"):
                    self.score(stage, arm, pair_id, pair_id, self.now, prompt)
                self.now += 0.2
            number += 1
        self._end(paired_plan(stage, seconds), begin)
        return self

    def split(self, share: float, seconds: float = 20.0, rate: float = 1.0) -> Llm:
        stage, begin = len(self.stages), self.now
        reference = {
            o.token_ids[0] // 1000: o.pair_id for o in self.outputs if o.kind == "generated" and o.arm == "baseline"
        }
        for number in range(round(seconds * rate)):
            due = begin + number / rate
            arm = "candidate" if (number * share) % 1 + share >= 1 else "baseline"
            prompt, pair_id = int(self.rng.integers(self.prompts)), (stage << 32) | number
            seen = self.request(arm, pair_id, due, prompt, 0.0, stage)
            self.samples.append(seen)
            if seen.status != "ok":
                continue
            self.answer(stage, pair_id, arm, "generated", prompt)
            if arm == "candidate" and prompt in reference:
                self.score(stage, arm, pair_id, reference[prompt], seen.done_ns / S, prompt)
        self.now = begin + seconds + 1
        self._end(plan(stage, "split", seconds, share, rate=rate), begin)
        return self

    def _end(self, stage_plan: StagePlan, begin: float) -> None:
        end = max([round(self.now * S), *(s.done_ns for s in self.samples)])
        self.stages.append(StageRecord(stage_plan, round(begin * S), end_ns=end, decided_ns=end))
        self.now = end / S

    def evidence(self, **more: object) -> Evidence:
        known: dict[str, object] = {
            "stages": self.stages, "gates": self.gates, "finished": True, "seed": self.seed,
            "planned": len(self.stages),
            "versions": VERSIONS,
        }  # fmt: skip
        known.update(more)
        return Evidence.from_tables(table(self.samples), table(self.outputs, OUTPUTS), **known)  # type: ignore[arg-type]


def pairs_world(
    seed: int,
    n: int = 150,
    ratio: float = 1.0,
    *,
    own: float = 0.1,
    shared: float = 0.2,
    gates: tuple[Gate, ...] = (),
) -> Evidence:
    """One finished paired stage of a plain model: latencies share a prompt's variance and have their own."""
    rng = np.random.default_rng(seed)
    due = np.arange(n) * 0.6
    common = rng.normal(0, shared, n)
    first, second = (0.4 * np.exp(common + rng.normal(0, own, n)) for _ in range(2))
    whole = pa.concat_tables([bulk("baseline", due, first), bulk("candidate", due, second * ratio)])
    end = round((n * 0.6 + 1) * S)
    record = StageRecord(plan(0, "paired", n * 0.6, rate=1 / 0.6), 0, end_ns=end, decided_ns=end)
    return Evidence.from_tables(whole, stages=[record], gates=gates, seed=seed)
