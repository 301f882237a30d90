"""Recordings with known truth, as samples, as their sketches, and counted in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge import Evidence
from harness.judge.sketched import evidence as sketched
from harness.judge.sketched.view import CountedEvidence
from harness.recording import Recording, sketch
from harness.recording.schema import SAMPLES
from harness.types import Gate, StagePlan, StageRecord
from tests.judge.worlds import VERSIONS, S, plan

GATES = (
    Gate("errors", margin=0.02, margin_kind="absolute"),
    Gate("ttft.p50", margin=0.15),
    Gate("tpot.mean", margin=0.15),
    Gate("response_time.p90", margin=0.15),
    Gate("osl", margin=0.15),
)


@dataclass(frozen=True)
class World:
    """`slow`: of the candidate's times; `fails`: its share of failures (the baseline's is 0.2 %); `longer`: its
    answers.
    """

    mode: str = "paired"
    slow: float = 1.0
    fails: float = 0.002
    longer: float = 1.0
    seed: int = 0
    seconds: float = 90.0
    rate: float = 60.0
    begin_s: float = 0.0
    gates: tuple[Gate, ...] = GATES
    timeouts: float = 0.0

    @property
    def stage(self) -> StagePlan:
        return plan(0, self.mode, self.seconds, rate=self.rate if self.mode == "paired" else 2 * self.rate)

    def samples(self) -> pa.Table:
        """Times share a slow weather of both arms and the prompt's own share."""
        rng = np.random.default_rng(self.seed)
        n = rng.poisson(self.rate * self.seconds)
        due_s = np.sort(rng.uniform(0, self.seconds, n))
        weather = 0.1 * np.sin(due_s / 7)
        prompt = rng.normal(0, 0.3, n)
        tables = []
        for number, arm in enumerate(("baseline", "candidate")):
            due = due_s if self.mode == "paired" else np.sort(rng.uniform(0, self.seconds, n))
            slow = self.slow if arm == "candidate" else 1.0
            shared = weather + prompt if self.mode == "paired" else 0.1 * np.sin(due / 7) + rng.normal(0, 0.3, n)
            first_s = 0.02 * slow * np.exp(shared + rng.normal(0, 0.2, n))
            osl = rng.poisson(20 * (self.longer if arm == "candidate" else 1.0), n) + 2
            gap_s = 0.003 * slow * np.exp(rng.normal(0, 0.2, n))
            lag_s = rng.exponential(3e-5, n)
            chance = rng.random(n)
            share = self.fails if arm == "candidate" else 0.002
            status = np.select([chance < share, chance < share + self.timeouts], ["error", "timeout"], "ok")
            due_ns = np.round((self.begin_s + due) * S).astype(np.int64)
            sent_ns = due_ns + np.round(lag_s * S).astype(np.int64)
            first_ns = sent_ns + np.round(first_s * S).astype(np.int64)
            done_ns = first_ns + np.round(gap_s * (osl - 1) * S).astype(np.int64)
            ok = status == "ok"
            numbers = np.arange(n) if self.mode == "paired" else 2 * np.arange(n) + number
            known: dict[str, Any] = {
                "arm": np.full(n, arm), "stage": np.zeros(n), "pair_id": numbers, "assignment": np.full(n, "plan"),
                "due_ns": due_ns, "sent_ns": sent_ns, "first_ns": np.where(ok, first_ns, -1), "done_ns": done_ns,
                "status": status, "error": np.where(status == "error", "unavailable", ""),
                "version": np.where(ok, VERSIONS[arm], ""), "osl": np.where(ok, osl, -1), "worker": np.zeros(n),
            }  # fmt: skip
            columns = [
                pa.array(known.get(name, np.full(n, "" if kind == pa.string() else -1)), kind)
                if kind == pa.string()
                else pa.array(np.asarray(known.get(name, np.full(n, -1))).astype(kind.to_pandas_dtype()), kind)
                for name, kind in zip(SAMPLES.names, SAMPLES.types, strict=True)
            ]
            tables.append(pa.table(columns, schema=SAMPLES))
        return pa.concat_tables(tables).sort_by("done_ns")

    @property
    def record(self) -> StageRecord:
        end = round((self.begin_s + self.seconds + 2) * S)
        return StageRecord(self.stage, round(self.begin_s * S), end_ns=end)

    def meta(self) -> dict[str, Any]:
        """run.json, as far as the judge reads it."""
        record = self.record
        return {
            "format": 1,
            "finished": True,
            "seed": self.seed,
            "planned": 1,
            "arms": {arm: {"version": int(version)} for arm, version in VERSIONS.items()},
            "gates": [asdict(gate) for gate in self.gates],
            "stages": [{"plan": asdict(record.plan), "begin_ns": record.begin_ns, "end_ns": record.end_ns}],
        }

    def recording(self) -> Recording:
        return Recording(Path(), self.meta(), self.samples())

    def as_sketches(self, recording: Recording | None = None, stages: Sequence[StageRecord] = ()) -> Recording:
        """What its workers would have shipped in place of the samples."""
        whole = recording or self.recording()
        sketches, sums = sketch(whole.samples, stages or [self.record])
        return replace(whole, samples=SAMPLES.empty_table(), sketches=sketches, sums=sums)


def counted(recording: Recording) -> CountedEvidence:
    """In one pass, as of a recording of very many samples."""
    found = sketched._of_many(recording, Evidence.of(replace(recording, samples=recording.samples.slice(0, 0))))
    assert isinstance(found, CountedEvidence)
    return found
