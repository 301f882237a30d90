"""Folders of runs as they lie after `gate` or `run`: run.json and verdict.json, made in a millisecond each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from harness.judge import verdict_json
from harness.types import Finding, Gate, StagePlan, StageRecord, StageVerdict, Verdict

FIRST = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
GATES = (Gate("errors", 0.01, "absolute"), Gate("ttft.p50", 0.10), Gate("ttft.p99", 0.10), Gate("tpot.p50", 0.10))
PLANS = (
    StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=4.0),
    StagePlan(1, "split", "poisson", 20.0, 0.10, rate=2.0),
)
GPU = {"index": 0, "name": "NVIDIA H200", "memory_bytes": 150 * 10**9, "driver": "550.54.15", "cuda": "12.4"}
LEVELS = {"errors": 0.0, "ttft.p50": 0.080, "ttft.p99": 0.200, "tpot.p50": 0.012, "request_throughput": 4.0}


def commit(number: int) -> str:
    return f"{number + 1:04x}" * 10


def started(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat(timespec="seconds")


def meta(number: int, **changed: Any) -> dict[str, Any]:
    """run.json of night `number`; `changed` replaces its keys."""
    records = [
        StageRecord(plan, int(at * 1e9), int((at + plan.duration_s) * 1e9))
        for at, plan in zip((5, 70), PLANS, strict=True)
    ]
    about = {
        "format": 1,
        "started_utc": started(number),
        "scenario": {
            "name": "nightly",
            "target": {"server": None, "url": "grpc://gpu-box:8001"},
            "baseline": {"model": "llm", "version": 1, "api": "kserve", "stream": True},
            "candidate": {"model": "llm", "version": 2 + number, "api": "kserve", "stream": True},
            "load": {"prompts": "prompts.jsonl", "max_tokens": 64, "cache": "as-is", "workers": 1},
        },
        "seed": number,
        "prompts": {"count": 200, "sha256": "ab" * 32},
        "software": {"triton-canary": "0.1.0", "python": "3.11.7", "tritonclient": "2.73.0"},
        "host": {
            "cpu": "AMD EPYC 9654", "cores": 96, "threads": 192, "memory_bytes": 1 << 40, "kernel": "Linux 6.8.0-1",
            "machine": "x86_64", "gpus": [GPU],
        },
        "server": {"name": "triton", "version": "2.51.0", "extensions": []},
        "gates": [asdict(gate) for gate in GATES],
        "plans": [asdict(plan) for plan in PLANS],
        "stages": [asdict(record) for record in records],
        "finished": True,
    }  # fmt: skip
    return about | changed


def findings(values: dict[str, float], baseline: dict[str, float] | None = None) -> tuple[Finding, ...]:
    against = LEVELS if baseline is None else baseline
    margins = {gate.metric: gate.margin for gate in GATES}
    found = []
    for metric, value in values.items():
        unit = "pp" if metric == "errors" else "ratio"
        effect = value - against[metric] if unit == "pp" else value / against[metric]
        margin = margins.get(metric)
        edge = None if margin is None else margin + (unit == "ratio")
        said = Finding(metric, "pass", f"{metric} as it is", unit=unit, effect=effect, margin=edge)
        around = (effect * 0.98, effect * 1.02)
        found.append(replace(said, interval=around, baseline=against[metric], candidate=value))
    found.append(Finding("ttft.p50", "pass", "watched", "watch", 1, "s", margin=0.1, candidate=0.3, effect=0.3))
    return tuple(found)


def run_folder(
    parent: Path, number: int, values: dict[str, float], *, extra: Sequence[Finding] = (), name: str = "",
    baseline: dict[str, float] | None = None, **changed: Any,
) -> Path:  # fmt: skip
    """The folder of night `number`. `extra`: findings beside those of `values`."""
    about = meta(number, **{"files": {"samples.parquet": f"{number:064x}"}, **changed})
    folder = parent / (name or f"{FIRST + timedelta(days=number):%Y%m%dT%H%M%SZ}-nightly")
    folder.mkdir(parents=True)
    kept = (*findings(values, baseline), *extra)
    verdict = Verdict("promote", "as good", (StageVerdict(0, "promote", "as good", kept),))
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "verdict.json").write_text(verdict_json(verdict, about))
    return folder


def nights(
    parent: Path, numbers: Iterable[int], *, noise: float = 0.03, step_at: int | None = None, step: float = 1.1,
    seed: int = 1, **changed: Any,
) -> list[Path]:  # fmt: skip
    """A night each, of a commit of its own, with multiplicative noise; from `step_at` on times to the first token are
    `step` times as long.
    """
    found = []
    for number in numbers:
        random = np.random.default_rng((seed, number))
        values = {name: level * float(np.exp(noise * random.normal())) for name, level in LEVELS.items()}
        if step_at is not None and number >= step_at:
            values = {name: value * (step if name.startswith("ttft") else 1.0) for name, value in values.items()}
        found.append(run_folder(parent, number, values, **{"git": {"head": commit(number)}, **changed}))
    return found
