"""Servers that are simulated request by request, under the trials of find-max-load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge.operations.search import Answer, Ask, Search, judged
from harness.judge.operations.trials import Judged
from harness.run.operations.find import trial_facts
from harness.run.operations.windows import window
from tests.judge.loads import generator

Facts = dict[str, Any]
World = Callable[[np.random.Generator, Ask], Facts]

WARM_UP_S = 1.0


def facts(limit_s: float = 0.1, **other: Any) -> Facts:
    """Of a search for the highest rate with p99 under the limit."""
    objective = {
        "metric": "response_time.p99", "words": f"response_time.p99 < {limit_s * 1e3:g}ms", "allowed": 0.01,
        "within": {"response_time": limit_s},
    }  # fmt: skip
    good: Facts = {
        "format": 1, "kind": "find-max-load", "finished": True, "model": "m", "version": None, "open_loop": True,
        "between": [50.0, 800.0], "trial_s": 5.0, "warm_up_s": WARM_UP_S, "precision": 0.05, "confidence": 0.95,
        "repeats": 2, "objectives": [objective], "trials": [],
    }  # fmt: skip
    return {**good, **other}


def trial(
    ask: Ask, due_s: Any, took_s: Any, objectives: list[Facts], *, failed: Any = None, lag_s: float = 1e-5,
    status: str = "error", seen: Facts | None = None, open_loop: bool = True,
) -> Facts:  # fmt: skip
    """What a run notes of requests that were due then, from the beginning of its warm-up on. `status` of those that
    `failed`; `seen` of the generator.
    """
    due = np.round(due_s * 1e9).astype(np.int64)
    done = due + np.round(took_s * 1e9).astype(np.int64)
    count = len(due)
    became = np.where(np.zeros(count, bool) if failed is None else failed, status, "ok")
    rows = pa.table(
        {
            "stage": np.zeros(count, np.int64), "due_ns": due, "sent_ns": due + round(lag_s * 1e9),
            "first_ns": done, "done_ns": done, "status": became.tolist(), "osl": np.zeros(count, np.int64),
            "error": ["" if word == "ok" else "some error" for word in became],
        }
    )  # fmt: skip
    begin_ns = round(WARM_UP_S * 1e9)
    return {
        "purpose": ask.purpose, "level": ask.level, "seconds": ask.seconds,
        "window": {
            "load": "load", "part": "loads", "rate": ask.level if open_loop else None,
            "in_flight": None if open_loop else int(ask.level),
            **window(rows, 0, begin_ns, ask.seconds, open_loop=open_loop),
            "generator": seen or generator(),
        },
        **trial_facts(rows, begin_ns, ask.seconds, objectives),
    }  # fmt: skip


def single_server(capacity: float, objectives: list[Facts]) -> World:
    """M/M/1, empty at first. The share of requests that take longer than t is exp((rate - capacity) t) in the end."""

    def send(rng: np.random.Generator, ask: Ask) -> Facts:
        length_s = WARM_UP_S + ask.seconds
        due = np.sort(rng.uniform(0, length_s, rng.poisson(ask.level * length_s)))
        service = rng.exponential(1 / capacity, len(due))
        # Lindley: a request waits for the work that had come before it and is not yet done.
        steps = np.concatenate([[0.0], service[:-1] - np.diff(due)])
        walk = np.cumsum(steps)
        waits = walk - np.minimum.accumulate(walk)
        return trial(ask, due, waits + service, objectives)

    return send


def find(world: World, of: Facts, seed: int) -> tuple[Facts, list[Judged], Answer]:
    """The search on that world: the facts with its trials, and what came out."""
    rng = np.random.default_rng(seed)
    search, trials = Search(of), []
    steps = search.run()
    ask = next(steps)
    while True:
        trials.append(world(rng, ask))
        found = judged(of, trials[-1])
        bounds = [[share.low, share.high] for share in found.shares]
        trials[-1]["found"] = {"outcome": found.outcome, "reason": found.reason, "bounds": bounds}
        try:
            ask = steps.send(found)
        except StopIteration as ended:
            return {**of, "trials": trials}, search.outcomes, ended.value
