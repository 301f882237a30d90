"""Recordings and verdicts by recipe: what a run of `fp8-canary` leaves, made in milliseconds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.recording import Recording
from harness.recording.schema import CHUNKS, OUTPUTS, READINGS, SAMPLES
from harness.types import (
    Finding,
    Gate,
    Output,
    Reading,
    Sample,
    StagePlan,
    StageRecord,
    StageVerdict,
    Verdict,
)

NS = 1_000_000_000
GATES = (
    Gate("errors", 0.03, "absolute"),
    Gate("ttft.p50", 0.10),
    Gate("tpot.p50", 0.10),
    Gate("quality.kl", limit=0.06),
)
PLANS = (
    StagePlan(0, "paired", "closed", 90.0, 0.5, in_flight=1),
    StagePlan(1, "split", "poisson", 20.0, 0.10, rate=1.0),
    StagePlan(2, "split", "poisson", 30.0, 0.50, rate=1.0),
    StagePlan(3, "split", "poisson", 20.0, 1.00, rate=1.0),
    StagePlan(4, "split", "poisson", 10.0, 1.00, rate=1.0, purpose="soak"),
)
ANSWER = ["The", " sky", " is", " blue", " because", " of", " Rayleigh", " scattering"]
VOCABULARY = 40
K = 5


def table(rows: list[Any], schema: pa.Schema) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema]
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema)


def stage_records(begin_s: float = 8.0, plans: tuple[StagePlan, ...] = PLANS, cut: bool = False) -> list[StageRecord]:
    found, now = [], begin_s
    for plan in plans:
        end = now + plan.duration_s
        found.append(StageRecord(plan, int(now * NS), int(end * NS), int(end * NS)))
        now = end + 1.0
    if cut:
        last = found[-1]
        found[-1] = StageRecord(last.plan, last.begin_ns)
    return found


def meta(stages: list[StageRecord], build: str, finished: bool = True) -> dict[str, Any]:
    return {
        "format": 1,
        "scenario": {
            "name": "fp8-canary",
            "baseline": {"model": "smollm2", "version": 1},
            "candidate": {"model": "smollm2", "version": 2, "build": build},
            "load": {"prompts": "prompts/questions.jsonl", "max_tokens": 8},
        },
        "seed": 7,
        "started_utc": "2026-01-01T12:00:00+00:00",
        "software": {"triton-canary": "0.1.0", "python": "3.11.9", "tritonclient": "2.73.0"},
        "host": {"cpu": "Some CPU @ 2.0 GHz", "cores": 2, "memory_bytes": 8 << 30},
        "gpus": [{"name": "NVIDIA H100", "driver": "570.1", "memory_bytes": 80 << 30}],
        "arms": {
            arm: {"url": "grpc://127.0.0.1:8001", "model": "smollm2", "version": version}
            for arm, version in (("baseline", 1), ("candidate", 2))
        },
        "gates": [asdict(gate) for gate in GATES],
        "stages": [asdict(stage) for stage in stages],
        "finished": finished,
        "files": {"samples.parquet": "0" * 64},
    }


class World:
    """Samples and outputs of a candidate: `slower` a factor, `failing` a probability, `drifts` in logits."""

    def __init__(self, seed: int = 1, slower: float = 1.0, failing: float = 0.0, drifts: float = 0.15) -> None:
        self.random = np.random.default_rng(seed)
        self.slower, self.failing, self.drifts = slower, failing, drifts
        self.samples: list[Sample] = []
        self.outputs: list[Output] = []

    def request(self, arm: str, stage: int, pair: int, at_s: float, score: bool = False) -> float:
        """One request; returns when it was done, in seconds."""
        bad = arm == "candidate"
        factor = self.slower if bad else 1.0
        ttft = 0.18 * self.random.lognormal(0, 0.06)
        total = ttft + 0.0 if score else ttft + 7 * 0.048 * factor * self.random.lognormal(0, 0.05)
        failed = bad and self.random.random() < self.failing
        done = at_s + (0.05 if failed else total)
        at, end = int(at_s * NS), int(done * NS)
        self.samples.append(
            Sample(
                arm, stage, pair, f"{pair}-{arm}", "", "score" if score else "plan", at, at + 100_000,
                -1 if failed else at + int(ttft * NS), end, "error" if failed else "ok",
                "InferenceServerException" if failed else "", "UNAVAILABLE" if failed else "OK",
                "" if failed else "length", "127.0.0.1:8001", "smollm2", "2" if bad else "1", 37,
                -1 if failed else 8, 0,
            )
        )  # fmt: skip
        return -1.0 if failed else done

    def output(
        self, kind: str, arm: str, pair: int, logits: np.ndarray, text: str, tokens: list[int] | None = None
    ) -> list[int]:
        """One output; `tokens` are the forced ones, else the likeliest. Returns them."""
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        ids = np.argsort(-logs, axis=1)[:, :K]
        tokens = ids[:, 0].tolist() if tokens is None else tokens
        self.outputs.append(
            Output(
                pair >> 32, pair, arm, kind, text, "", "length", tokens, K, ids.ravel().tolist(),
                np.take_along_axis(logs, ids, 1).ravel().tolist(),
            )
        )  # fmt: skip
        return tokens

    def pair(self, stage: int, number: int, at_s: float) -> float:
        """A pair of generations, then both arms' scores of the baseline's answer."""
        pair = stage << 32 | number
        done = [self.request(arm, stage, pair, at_s) for arm in ("baseline", "candidate")]
        logits = self.random.normal(0, 2.5, (8, VOCABULARY))
        moved = logits + self.drifts * self.random.normal(0, 1, logits.shape)
        again = logits + 1e-4 * self.random.normal(0, 1, logits.shape)
        same = bool((moved.argmax(1) == logits.argmax(1)).all())
        tokens = self.output("generated", "baseline", pair, logits, "".join(ANSWER))
        if done[1] < 0:
            return max(done[0], at_s + 0.05)
        text = "".join(ANSWER if same else [*ANSWER[:4], " and", " calm"])
        self.output("generated", "candidate", pair, moved, text)
        at_s = max(done)
        ends = [self.request(arm, stage, pair, at_s, score=True) for arm in ("baseline", "candidate")]
        self.output("scored", "baseline", pair, again, "", tokens)
        if ends[1] >= 0:
            self.output("scored", "candidate", pair, moved, "", tokens)
        return max(ends)

    def run(self, stages: list[StageRecord]) -> None:
        for stage in stages:
            now, number = stage.begin_ns / NS, 0
            end = stage.end_ns / NS if stage.end_ns else now + stage.plan.duration_s / 2
            while now < end:
                if stage.plan.mode == "paired":
                    now = self.pair(stage.plan.index, number, now) + 0.01
                else:
                    arm = "candidate" if self.random.random() < stage.plan.candidate_share else "baseline"
                    self.request(arm, stage.plan.index, stage.plan.index << 32 | number, now)
                    now += self.random.exponential(1 / (stage.plan.rate or 1.0))
                number += 1


def readings(end_s: float, every_s: float = 1.0, gpu: bool = True) -> pa.Table:
    random = np.random.default_rng(3)
    rows: list[Reading] = []
    for number, t in enumerate(np.arange(0, end_s, every_s)):
        loaded = 2 if t > 5 else 1
        at = int(t * NS)
        busy = 0.55 + 0.1 * random.random() if t > 8 else 0.05
        rows += [
            Reading(at, "process", "server", "memory.rss", (0.6 + 0.55 * loaded) * 2**30, "bytes"),
            Reading(at, "process", "server", "cpu.time", 1.2 * number + busy, "s"),
            Reading(at, "host", "host", "memory.used", (2.4 + 0.55 * loaded) * 2**30, "bytes"),
            Reading(at, "host", "host", "cpu.utilization", busy, "ratio"),
        ]
        for version in (1, 2)[:loaded]:
            model = f"smollm2/{version}"
            rows += [
                Reading(at, "process", model, "memory.rss", 0.55 * 2**30, "bytes"),
                Reading(at, "triton", model, "inference.request_success", float(number), "1"),
                Reading(at, "triton", model, "inference.queue_duration", 0.002 * number * version, "s"),
                Reading(at, "triton", model, "inference.pending_requests", float(random.integers(0, 2)), "1"),
            ]
        if gpu:
            rows += [
                Reading(at, "nvml", "gpu0", "gpu.memory.used", (3.1 + 1.1 * loaded) * 2**30, "bytes"),
                Reading(at, "nvml", "gpu0", "gpu.utilization", busy, "ratio"),
                Reading(at, "nvml", "gpu0", "gpu.power", 90 + 200 * busy, "W"),
            ]
    return table(rows, READINGS)


def recording(
    folder: Path = Path("run"), *, build: str = "fp8", plans: tuple[StagePlan, ...] = PLANS,
    finished: bool = True, gpu: bool = True, **world: float,
) -> Recording:  # fmt: skip
    stages = stage_records(plans=plans, cut=not finished)
    drawn = World(**world)  # type: ignore[arg-type]
    drawn.run(stages)
    end = (stages[-1].end_ns or stages[-1].begin_ns + 5 * NS) / NS
    return Recording(
        folder, meta(stages, build, finished), table(drawn.samples, SAMPLES), table(drawn.outputs, OUTPUTS),
        readings(end, gpu=gpu), CHUNKS.empty_table(),
    )  # fmt: skip


def nothing() -> Recording:
    return Recording(Path("run"), {}, SAMPLES.empty_table())


def big(requests: int) -> Recording:
    """Many requests of a model without tokens, in two stages."""
    random = np.random.default_rng(5)
    at = np.sort(random.uniform(0, 600 * NS, requests)).astype(np.int64)
    latency = (2e6 * random.lognormal(0, 0.4, requests)).astype(np.int64)
    failed = random.random(requests) < 0.001
    words = {
        "arm": np.where(random.random(requests) < 0.5, "baseline", "candidate"),
        "status": np.where(failed, "timeout", "ok"),
        "error": np.where(failed, "Deadline", ""),
        "assignment": "plan",
    }
    numbers = {
        "due_ns": at,
        "sent_ns": at,
        "first_ns": at + latency,
        "done_ns": at + latency,
        "stage": at // (300 * NS),
    }
    columns = []
    for field in SAMPLES:
        if pa.types.is_string(field.type):
            columns.append(pa.array(np.broadcast_to(np.asarray(words.get(field.name, "")), requests).tolist()))
        else:
            columns.append(pa.array(np.broadcast_to(np.asarray(numbers.get(field.name, -1)), requests).astype(
                field.type.to_pandas_dtype())))  # fmt: skip
    plans = tuple(StagePlan(i, "interleaved", "poisson", 299.0, 0.5, rate=1000.0) for i in range(2))
    stages = stage_records(0.0, plans)
    return Recording(Path("run"), meta(stages, "same"), pa.table(columns, schema=SAMPLES), None, readings(600, 0.5))


# ------------------------------------------------------------------------------------------------ verdicts


def finding(metric: str, outcome: Any = "pass", effect: float = 1.01, **more: Any) -> Finding:
    words = {
        "pass": "stays within its margin",
        "fail": "is beyond its margin: look at the build",
        "inconclusive": "could be either",
    }
    reason = more.pop("reason", f"{metric} of the candidate {words.get(outcome, 'has no requests to judge')}.")
    defaults: dict[str, Any] = {
        "interval": (effect - 0.02, effect + 0.02), "margin": 1.10,
        "baseline": 0.180, "candidate": 0.180 * effect,
        "n_baseline": 110, "n_candidate": 110,
    }  # fmt: skip
    return Finding(metric, outcome, reason, effect=effect, **(defaults | more))


def errors_finding(outcome: Any = "pass", effect: float = 0.0, high: float = 0.021, **more: Any) -> Finding:
    return finding(
        "errors", outcome, effect, unit="pp", interval=(min(effect, 0.0), high), margin=0.03, baseline=0.0,
        candidate=effect, **more,
    )  # fmt: skip


def kl_finding(outcome: Any = "pass", effect: float = 0.018, **more: Any) -> Finding:
    return finding(
        "quality.kl", outcome, effect, unit="nats", interval=(effect * 0.8, effect * 1.3), margin=0.06,
        baseline=1e-7, candidate=effect, **more,
    )  # fmt: skip


def watch(stage: int, outcome: Any = "pass") -> tuple[Finding, ...]:
    return (
        errors_finding(outcome, kind="watch", stage=stage, high=0.09),
        Finding("ttft.p50", "no data", "Too few requests here to judge the objective.", kind="watch", stage=stage),
    )


def promote() -> Verdict:
    first = StageVerdict(
        0, "promote", "Every gate holds.",
        (
            errors_finding(), finding("ttft.p50"), kl_finding(),
            finding("tpot.p50", effect=0.97, baseline=0.048, candidate=0.0466),
            Finding("validity.pairs", "pass", "110 of 110 pairs are complete.", kind="validity"),
        ),
    )  # fmt: skip
    rest = [StageVerdict(n, "promote", "No error, and the objectives hold.", watch(n)) for n in (1, 2, 3, 4)]
    return Verdict("promote", "Every gate holds in all 5 stages.", (first, *rest))


def rollback(metric: str = "tpot.p50") -> Verdict:
    bad = {
        "tpot.p50": finding("tpot.p50", "fail", 1.302, baseline=0.048, candidate=0.0625),
        "errors": errors_finding("fail", 0.31, 0.42),
        "quality.kl": kl_finding("fail", 0.41),
    }[metric]
    held = [
        errors_finding(),
        finding("ttft.p50"),
        finding("tpot.p50", effect=0.99, baseline=0.048, candidate=0.0475),
        kl_finding(),
    ]
    findings = tuple(bad if one.metric == metric else one for one in held)
    return Verdict("rollback", bad.reason, (StageVerdict(0, "rollback", bad.reason, findings),))


def inconclusive() -> Verdict:
    open_ = finding(
        "tpot.p50",
        "inconclusive",
        1.08,
        interval=(1.01, None),
        needs_s=140.0,
        baseline=0.048,
        candidate=0.0518,
    )
    dead = Finding("quality.kl", "no data", "The candidate gave no log-probabilities.", margin=0.06, unit="nats")
    broken = Finding("validity.pairs", "fail", "31 of 110 pairs lack an arm.", kind="validity")
    stage = StageVerdict(
        0,
        "inconclusive",
        "tpot.p50 could be either side of its margin.",
        (errors_finding(), open_, dead, broken),
    )
    return Verdict("inconclusive", stage.reason, (stage,), needs="About 140 s more of the paired stage.")


def empty_verdict() -> Verdict:
    return Verdict("inconclusive", "Nothing was recorded.", (), needs="A run that sends requests.")
