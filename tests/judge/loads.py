"""Windows of loads, made by hand: what operations that send requests have seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.judge.operations import night
from harness.recording.sketches import bins_of, log_of

Facts = dict[str, Any]


def bins(seconds: Any) -> list[list[int]]:
    found, counts = np.unique(bins_of(log_of(np.asarray(seconds, np.float64))), return_counts=True)
    return [found.tolist(), counts.tolist()]


def generator(seconds: int = 3, *, cpu: float = 0.2, stall_s: float = 1e-3, **other: Any) -> Facts:
    """Of one worker that has room, a reading a second."""
    figures = {"cpu": [cpu] * seconds, "stall_max": [stall_s] * seconds, "unsent": [0] * seconds}
    return {"workers": {"worker0": figures}, "host_cpu": [0.5] * seconds, "steal": [0.0] * seconds, **other}


def window(
    load: str, stage: int, *, took_s: float = 0.02, rate: float | None = 20.0, seconds: int = 20, part: str = "loads",
    spread: float = 0.2, tokens: int = 0, failed: int = 0, lag_s: float = 1e-4, seed: int = 0,
) -> Facts:  # fmt: skip
    """Lognormal times around `took_s`, a block a second; in a closed loop one request is under way."""
    rng = np.random.default_rng([seed, stage, len(load)])
    blocks = []
    for number in range(seconds):
        n = int(rate or round(1 / took_s))
        took = took_s * np.exp(spread * rng.standard_normal(n))
        times: Facts = {"response_time": bins(took)}
        if rate is not None:
            times["send_lag"] = bins(lag_s * np.exp(0.1 * rng.standard_normal(n)))
        if tokens:
            times |= {"ttft": bins(took / 3), "tpot": bins(took / tokens)}
        done = n if rate is None or rate * took_s < 50 else int(n * 0.5)
        blocks.append(
            {
                "seconds": 1.0, "due": n, "failed": failed if number == 0 else 0, "done": done, "tokens": tokens * done,
                "times": times,
            }
        )  # fmt: skip
    return {
        "part": part, "load": load, "rate": rate, "in_flight": None if rate else 1, "stage": stage, "begin_s": 1.0,
        "seconds": float(seconds), "blocks": blocks, "errors": {"refused": failed} if failed else {}, "cancelled": {},
        "held": took_s * (rate or 1 / took_s), "generator": generator(seconds),
    }  # fmt: skip


LIMIT = {"limit": 0.9, "limit_kind": "share"}
TOTAL = 80 * 2.0**30


def peak(name: str, used: float, **other: Any) -> Facts:
    """Of a GPU of 80 GiB, read throughout."""
    good = {
        "name": name, "used": used, "began": used / 2, "capacity": TOTAL, "of": "its", "every_s": 0.1, "longest_s": 0.1,
        "marked_by": "", "gap": "", "blocks": [used * (1 - 0.001 * n) for n in range(20)],
    }  # fmt: skip
    return {**good, **other}


def multi_model_server(*, together: float = 1.3, alone_again: float = 1.0, memory: float = 0.5, **other: Any) -> Facts:
    """Times grow by the factor `together` while both are asked."""
    order = [["embedding"], ["llm"], ["embedding", "llm"], ["llm"], ["embedding"]]
    windows = []
    for stage, names in enumerate(order):
        slower = together if len(names) == 2 else alone_again if stage > 2 else 1.0
        seconds = 20 * len(names)
        if "embedding" in names:
            windows.append(window("embedding", stage, took_s=0.02 * slower, seconds=seconds))
        if "llm" in names:
            windows.append(window("llm", stage, took_s=0.1 * min(slower, 1.2), rate=None, seconds=seconds, tokens=8))
    good = {
        "format": 1, "kind": "multi-model-server", "finished": True,
        "models": {
            name: {
                "model": name, "version": 1, "url": "grpc://one:8001", "api": "kserve", "load": "20/s",
                "token_model": name == "llm", "max_tokens": 8,
            }
            for name in ("embedding", "llm")
        },
        "limits": {"latency": 2.0, "throughput": 0.2, "memory": LIMIT, "errors": 0.01, "drift": 0.25},
        "phases": [
            {"index": stage, "models": names, "seconds": 20.0 * len(names)} for stage, names in enumerate(order)
        ],
        "windows": windows,
        "memory": [{"peaks": [peak("gpu0", memory * TOTAL)]} for _ in order],
    }  # fmt: skip
    return {**good, **other}


def setting(delay_us: int) -> Facts:
    section = {"max_queue_delay_microseconds": delay_us} if delay_us else {}
    return {"section": section, "words": f"max_queue_delay {delay_us / 1000:g} ms"}


URL = "grpc://one:8001"


def night_batch(
    *, gain: float = 1.6, paid: float = 3.0, back: float = 1.0, again: float = 1.0, in_switch: int = 0,
    day_us: int = 0, **other: Any,
) -> Facts:  # fmt: skip
    """`day_us`: what the server has after dawn. `in_switch`: requests that fail during the switch at dusk. `again`: how
    much more batch jobs get done with the day's setting after dawn than before.
    """
    windows = [
        window("realtime", night.DAY, part="day"),
        window("batch", night.DUSK, took_s=0.01, rate=None, part="night"),
        window("batch", night.SWITCH_DUSK, took_s=0.02, rate=None, seconds=3, failed=in_switch, part="night"),
        window("batch", night.NIGHT, took_s=0.01 / gain, rate=None, part="night"),
        window("realtime", night.PAID, took_s=0.02 * paid, part="night"),
        window("realtime", night.SWITCH_DAWN, took_s=0.05, seconds=3, part="dawn"),
        window("realtime", night.DAWN, took_s=0.02 * back, part="dawn"),
        window("batch", night.AGAIN, took_s=0.01 / again, rate=None, part="dawn"),
    ]
    good = {
        "format": 1, "kind": "night-batch", "finished": True, "model": "m",
        "limits": {"gain": 0.2, "latency": 5.0, "drift": 0.25, "back": 0.25, "errors": 0.01},
        "switches": [{"when": when, "took_s": 2.0, "called": [URL]} for when in ("dusk", "dawn")],
        "wanted": {"day": {URL: setting(0)}, "night": {URL: setting(20_000)}},
        "seen": {"night": {URL: {"1": setting(20_000)}}, "dawn": {URL: {"1": setting(day_us)}}},
        "windows": windows,
    }  # fmt: skip
    return {**good, **other}


def two_deployments(
    *, a: float = 1.5, b: float = 1.4, a_waits: float = 4.0, b_waits: float = 1.1, again: float = 1.0
) -> Facts:
    """What batch jobs get done, and how long real-time requests wait, each against one deployment by day; `again`: what
    that one gets done at the end.
    """
    stages = {
        night.SHARED: (1.0, 1.0), night.SHARED_NIGHT: (a, a_waits), night.SEPARATE: (b, b_waits),
        night.SHARED_AGAIN: (again, 1.0),
    }  # fmt: skip
    windows = []
    for stage, (done, waits) in stages.items():
        windows.append(window("batch", stage, took_s=0.01 / done, rate=None))
        windows.append(window("realtime", stage, took_s=0.02 * waits))
    for stage in (night.SHARED_DUSK, night.SHARED_DAWN):
        windows += [window("batch", stage, took_s=0.02, rate=None, seconds=3), window("realtime", stage, seconds=3)]
    return night_batch(separate="m-batch", windows=windows)
