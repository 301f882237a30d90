"""A/B tests made by hand: users with habits of their own, dealt out to two arms whose difference is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge import judge_operation
from harness.recording.schema import SAMPLES, SCORES
from harness.types import Finding, Verdict
from tests.judge.loads import window

Facts = dict[str, Any]

METRICS = {
    "errors": {"metric": "errors", "margin": 0.01, "better": "lower", "in_points": True},
    "response_time.p50": {"metric": "response_time.p50", "margin": 0.1, "better": "lower", "in_points": False},
    "response_time.mean": {"metric": "response_time.mean", "margin": 0.1, "better": "lower", "in_points": False},
    "response_time.p95": {"metric": "response_time.p95", "margin": 0.1, "better": "lower", "in_points": False},
    "osl": {"metric": "osl", "margin": 0.1, "better": "", "in_points": False},
    "quality.score.right": {"metric": "quality.score.right", "margin": 0.05, "better": "higher", "in_points": True},
}


@dataclass
class Users:
    """`heavy`: the n-th most active sends 1/n^heavy of the first. `habit`: how unlike users are, `noise`: their
    requests (standard deviations of logarithms). `b`: times of B against A; `longer`: its answers. `fail`: the share of
    requests that fail, of A and B; `doomed`: of users all of whose requests do. `labelled`: those with a header.
    """

    units: int = 600
    requests: int = 6000
    heavy: float = 0.0
    habit: float = 0.3
    noise: float = 0.3
    b: float = 1.0
    longer: float = 1.0
    fail: tuple[float, float] = (0.0, 0.0)
    doomed: tuple[float, float] = (0.0, 0.0)
    right: tuple[float, float] = (0.8, 0.8)
    labelled: float = 0.0
    split: float = 0.5
    seed: int = 1
    columns: dict[str, Any] = field(default_factory=dict)

    def samples(self) -> pa.Table:
        rng = np.random.default_rng(self.seed)
        weight = np.arange(1, self.units + 1) ** -self.heavy
        unit = rng.choice(self.units, self.requests, p=weight / weight.sum())
        label = rng.random(self.units) < self.labelled
        in_b = np.where(label, rng.random(self.units) < 0.5, rng.random(self.units) < self.split)
        arm = in_b[unit].astype(int)
        habit = rng.normal(0, self.habit, self.units)
        took = 0.02 * np.exp(habit[unit] + rng.normal(0, self.noise, self.requests)) * np.where(arm, self.b, 1.0)
        lost = rng.random(self.units) < np.where(in_b, self.doomed[1], self.doomed[0])
        failed = lost[unit] | (rng.random(self.requests) < np.where(arm, self.fail[1], self.fail[0]))
        due = (1 + np.sort(rng.uniform(0, 20, self.requests))) * 1e9
        osl = np.round(
            100 * np.exp(0.3 * habit[unit] + rng.normal(0, 0.2, self.requests)) * np.where(arm, self.longer, 1)
        )
        size = self.requests
        columns = {
            "arm": np.array(["baseline", "candidate"])[arm], "stage": np.zeros(size, np.int32),
            "pair_id": np.arange(size), "request_id": [f"r{i}" for i in range(size)],
            "unit": [f"u{number:05d}" for number in unit], "assignment": np.where(label[unit], "header", "hash"),
            "due_ns": due.astype(np.int64), "sent_ns": due.astype(np.int64) + 10_000,
            "first_ns": (due + took * 5e8).astype(np.int64), "done_ns": (due + took * 1e9).astype(np.int64),
            "status": np.where(failed, "error", "ok"), "error": np.where(failed, "grpc", ""), "code": [""] * size,
            "finish_reason": [""] * size, "server": ["h:1"] * size, "model": ["m"] * size,
            "version": np.where(failed, "", np.where(arm, "2", "1")), "isl": np.full(size, 8, np.int32),
            "osl": osl.astype(np.int32), "worker": np.zeros(size, np.int16),
        }  # fmt: skip
        return pa.table({name: pa.array(list({**columns, **self.columns}[name])) for name in SAMPLES.names}).cast(
            SAMPLES
        )

    def scores(self, samples: pa.Table) -> pa.Table:
        """Of answers that are right or wrong."""
        rng = np.random.default_rng([self.seed, 7])
        chance = np.where(np.array(samples["arm"]) == "candidate", self.right[1], self.right[0])
        right = (rng.random(samples.num_rows) < chance).astype(float)
        rows = [
            {"stage": 0, "pair_id": pair, "arm": arm, "scorer": "right", "score": score, "error": ""}
            for pair, arm, score in zip(samples["pair_id"].to_pylist(), samples["arm"].to_pylist(), right, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=SCORES)


def facts(*metrics: str, **other: Any) -> Facts:
    """observations.json of an A/B test; `told` by version, as two versions of one model are."""
    return {
        "format": 1, "kind": "ab-test", "finished": True, "header": "x-experiment", "split": 0.5, "labelled": 0.0,
        "analyse": "hashed", "salt": "s", "seed": 1, "ingress": "", "warm_up_s": 0.0, "seconds": 20.0,
        "told": {"names": {}, "versions": {"1": "baseline", "2": "candidate"}, "address": False},
        "arms": {
            arm: {"model": "m", "version": number, "url": "http://one:8000", "api": "kserve"}
            for number, arm in enumerate("AB", 1)
        },
        "metrics": [METRICS[one] for one in metrics or ("errors", "response_time.p50")],
        "windows": [window("load", 0)], "seen": [], **other,
    }  # fmt: skip


def tables(samples: pa.Table | None, scores: pa.Table | None = None) -> Callable[[str], pa.Table | None]:
    return lambda name: {"samples": samples, "scores": scores}.get(name)


def judged(users: Users | pa.Table | None, observations: Facts | None = None, scored: bool = False) -> Verdict:
    samples = users.samples() if isinstance(users, Users) else users
    scores = users.scores(samples) if scored and isinstance(users, Users) else None
    return judge_operation(observations or facts(), tables(samples, scores))


def found(verdict: Verdict, metric: str) -> Finding:
    (one,) = [finding for finding in verdict.findings if finding.metric == metric]
    return one
