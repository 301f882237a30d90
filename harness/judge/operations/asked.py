"""Whether a load was as asked, or its generator the bottleneck: what is measured has to be the server.

With the limits that `judge.validity` has for a canary. A request leaves when it is due: at each quantile that is judged
the lag (sent - due) may be a tenth of the response time. In a closed loop nothing is due before it is sent, so there it
is asked whether the generator's core was full, its slots in use, and a connection free. Whatever the loop, its event
loop may not have stood still for longer than there is room above the highest quantile, no more than a tenth of that
room may have found no socket, and other guests may not have taken a tenth of the machine. A figure that is missing
never passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.judge import words
from harness.judge.operations.blocks import pooled
from harness.judge.operations.facts import fact, names
from harness.judge.validity.delivery import FAILED_TOO_OFTEN, MIN_HELD
from harness.judge.validity.fault import MAX_SPOILT
from harness.judge.validity.generator import (
    FULL_CORE,
    FULL_HOST,
    MAX_UNSENT,
    MIN_STALL_S,
    MUCH_STEAL,
    OUT_OF_SOCKETS,
    STALL_SHARE,
    SUSTAINED,
    Machine,
    Worker,
    cause,
)
from harness.judge.validity.lag import LAG_SHARE, MIN_LAG_S
from harness.types import Finding

Facts = Mapping[str, Any]

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def as_asked(
    metric: str, windows: Sequence[Facts], judged: Mapping[str, float] = QUANTILES, remark: str = "",
    *, least_s: float = MIN_LAG_S,
) -> Finding:  # fmt: skip
    """`judged`: quantiles by name. `least_s`: a lag that is allowed in any case."""
    sent = [window for window in windows if _due(window)]
    if not sent:
        return fact(metric, "no data", "No request was seen")
    room = min(MAX_SPOILT, 1 - max(judged.values()))
    for window in sent:
        if missing := _missing(window):
            return fact(metric, "no data", f"{missing}: the load generator may have been what was slow")
        if problem := _late(window, judged, least_s) or _problem(window, room, least_s):
            return fact(metric, "inconclusive", f"{problem}{remark}")
        if window["rate"] is not None and pooled(window["blocks"], "send_lag", 0.5) is None:
            return fact(metric, "no data", "When its requests left is not known")
    _, said = max(_lags(window, judged, least_s) for window in sent)
    if sent[0]["rate"] is None:
        cores = max(np.mean(worker["cpu"]) for window in sent for worker in window["generator"]["workers"].values())
        said = f"{sent[0]['in_flight']} in flight, and {words.percent(float(cores))} of a core for it"
    return fact(metric, "pass", f"The load generator kept up: {said}{remark}")


def unless_late(load: Finding, found: Iterable[Finding]) -> list[Finding]:
    """Comparisons of a load whose generator fell behind are neither for nor against anything."""
    if load.outcome == "pass":
        return list(found)
    return [
        replace(one, outcome="inconclusive", reason=f"{one.reason}; it does not count, because of {load.metric}")
        if one.outcome in ("pass", "fail")
        else one
        for one in found
    ]


def _due(window: Facts, what: str = "due") -> int:
    return sum(block[what] for block in window["blocks"])


def _missing(window: Facts) -> str:
    """What is not known of its generator, "" if nothing is missing."""
    workers = (window.get("generator") or {}).get("workers")
    if not workers or not all(figures["cpu"] and figures["stall_max"] for figures in workers.values()):
        return "No reading tells of the generator's own CPU and pauses"
    if window["rate"] is None and window.get("held") is None:
        return "How many requests were in flight is not known"
    return ""


def _lags(window: Facts, judged: Mapping[str, float], least_s: float) -> tuple[float, str]:
    """The largest lag, as a share of what is allowed, and the sentence on it; (0, "") in a closed loop."""
    if window["rate"] is None:
        return 0.0, ""
    found = []
    for name, q in judged.items():
        lag, took = (pooled(window["blocks"], each, q) or 0.0 for each in ("send_lag", "response_time"))
        said = f"{name} of its lag was {words.time(lag)}, of the response time {words.time(took)}"
        found.append((lag / max(least_s, LAG_SHARE * took), said))
    return max(found)


def _late(window: Facts, judged: Mapping[str, float], least_s: float) -> str:
    used, said = _lags(window, judged, least_s)
    if used <= 1:
        return ""
    return f"The load generator fell behind its own schedule: {said}; {cause(_machine(window, least_s), None)}"


def _problem(window: Facts, room: float, least_s: float) -> str:
    """What else made the load another one than was asked for; "" if nothing."""
    due, cancelled = _due(window), window.get("cancelled") or {}
    lost = sum(cancelled.values())
    if lost > min(MAX_UNSENT, room / 10) * due:
        hint = ": raise its limit of open files, or give connections" if OUT_OF_SOCKETS in cancelled else ""
        return f"{lost} of {due} requests were given up by the load generator ({names(cancelled)}){hint}"
    machine = _machine(window, least_s)
    number, worker = max(machine.workers.items(), key=lambda item: item[1].standing_s)
    if machine.standing > room and worker.standing_s > (worker.stall_s or 0.0):  # one pause is an accident
        return (
            f"The load generator's event loop (worker {number}) stood still for {words.percent(machine.standing)} of "
            f"the time, up to {words.time(worker.stall_s or 0.0)} at once: nothing was sent and no answer stamped then"
        )
    if machine.steal is not None and machine.steal >= MUCH_STEAL:
        return f"Other guests of the same host took {words.percent(machine.steal)} of its CPU"
    return _closed(window, machine) if window["rate"] is None else ""


def _closed(window: Facts, machine: Machine) -> str:
    number, worker = max(machine.workers.items(), key=lambda item: item[1].full)
    if worker.full >= SUSTAINED:
        used = words.percent(worker.cpu or 0.0)
        return f"Load worker {number} used {used} of a core, so the generator is the bottleneck: give it more workers"
    asked, held = window["in_flight"], window["held"]
    if held < MIN_HELD * asked and _due(window, "failed") <= FAILED_TOO_OFTEN * _due(window):
        return (
            f"{words.number(held)} requests were in flight on average, asked for were {asked}: the load generator is "
            "slower than the server"
        )
    waiting = [np.mean(np.array(one["unsent"]) > 0) for one in window["generator"]["workers"].values() if one["unsent"]]
    if max(waiting, default=0.0) >= SUSTAINED:
        return f"Of {asked} in flight some always waited for a free connection: the limit of connections holds them"
    return ""


def _machine(window: Facts, least_s: float) -> Machine:
    """The readings, in the words of `judge.validity`."""
    seen = window["generator"]
    latency_s = pooled(window["blocks"], "response_time", 0.5) or 0.0
    limit_s = max(MIN_STALL_S, STALL_SHARE * latency_s, least_s)
    workers = {}
    for name, figures in seen["workers"].items():
        cpu, stalls = (np.array(figures[one], np.float64) for one in ("cpu", "stall_max"))
        workers[int(name.removeprefix("worker"))] = Worker(
            cpu=float(cpu.mean()),
            full=float((cpu >= FULL_CORE).mean()),
            stall_s=float(stalls.max()),
            standing_s=float(stalls[stalls > limit_s].sum()),
            unsent=max(map(int, figures["unsent"]), default=0),
        )
    host = np.array(seen["host_cpu"], np.float64)
    return Machine(
        workers=workers,
        passed_s=window["seconds"],
        stall_limit_s=limit_s,
        host_cpu=float(host.mean()) if len(host) else None,
        host_full=float((host >= FULL_HOST).mean()) if len(host) else 0.0,
        steal=float(np.mean(seen["steal"])) if seen["steal"] else None,
    )
