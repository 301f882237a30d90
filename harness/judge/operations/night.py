"""night-batch: what the night's setting gains and costs, and that the day's setting is back.

Promote: batch jobs gain, real-time requests pay no more than they may, no request failed in a switch, and the day's
setting was read from the servers at the end. With two deployments (option B) the same is asked of the second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.judge.intervals import ALPHA_FAIL
from harness.judge.operations.blocks import rates, times
from harness.judge.operations.facts import fact, failed
from harness.judge.operations.loads import (
    as_asked,
    at_least,
    at_most,
    blocks_of,
    errors,
    none_failed,
    shown,
    windows_of,
)
from harness.types import Finding

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings"]

REALTIME, BATCH = "realtime", "batch"
DAY, DUSK, SWITCH_DUSK, NIGHT, PAID, SWITCH_DAWN, DAWN = range(7)
SHARED, SHARED_DUSK, SHARED_NIGHT, SHARED_DAWN, SEPARATE = range(5)
"""Stages: of one deployment that is switched, and of the comparison with two."""


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`switch.dusk`, `switch.dawn`, `setting.night`, `setting.day`, `errors`, `load.*` and what was gained and paid."""
    if observations.get("separate"):
        return (*_compare(observations), *_settings(observations), *_loads(observations, SHARED_DUSK, SHARED_DAWN))
    return (*_switched(observations), *_settings(observations), *_loads(observations, SWITCH_DUSK, SWITCH_DAWN))


def done(observations: Facts) -> str:
    if observations.get("separate"):
        back = "" if not observations["switches"] else ", and the first has the day's setting again"
        return f"Two deployments, one for each load: batch jobs gain and real-time requests do not pay for it{back}"
    return "Batch jobs gain by night, and the day's setting is back: read from the server, and in the latency"


def _switched(observations: Facts) -> list[Finding]:
    limits = observations["limits"]
    day, paid, dawn = (blocks_of(observations, REALTIME, [stage]) for stage in (DAY, PAID, DAWN))
    dusk, night = (blocks_of(observations, BATCH, [stage]) for stage in (DUSK, NIGHT))
    gain = rates(dusk, night, "done", "gain")
    words = "batch jobs, the night's setting against the day's"
    found = [at_least("gain.request_throughput", gain, 1 + limits["gain"], words, ALPHA_FAIL)]
    words = "real-time requests, the night's setting against the day's"
    found.append(shown("paid.response_time.p50", times(day, paid, "response_time", 0.5, "paid"), words))
    p95 = times(day, paid, "response_time", 0.95, "paid")
    if limits["latency"] is None:
        found.append(shown("paid.response_time.p95", p95, words))
    else:
        found.append(at_most("paid.response_time.p95", p95, limits["latency"], words, ALPHA_FAIL))
    for q, name in ((0.5, "p50"), (0.95, "p95")):
        pair = times(day, dawn, "response_time", q, "back")
        words = "real-time requests, after dawn against before dusk"
        found.append(at_most(f"back.response_time.{name}", pair, 1 + limits["back"], words, ALPHA_FAIL / 2))
    return found


def _compare(observations: Facts) -> list[Finding]:
    limits = observations["limits"]
    shared, night, separate = (
        {load: blocks_of(observations, load, [stage]) for load in (REALTIME, BATCH)}
        for stage in (SHARED, SHARED_NIGHT, SEPARATE)
    )
    against = "one deployment with the day's setting"
    b_done = rates(shared[BATCH], separate[BATCH], "done", "b")
    b_waits = times(shared[REALTIME], separate[REALTIME], "response_time", 0.95, "b")
    found = [
        at_least("b.request_throughput", b_done, 1 + limits["gain"], f"batch jobs, B against {against}", ALPHA_FAIL)
    ]
    words = f"real-time requests, B against {against}"
    if limits["latency"] is None:
        found.append(shown("b.response_time.p95", b_waits, words))
    else:
        found.append(at_most("b.response_time.p95", b_waits, limits["latency"], words, ALPHA_FAIL))
    if observations.get("no_batches"):
        return found
    a_done = rates(shared[BATCH], night[BATCH], "done", "a")
    a_waits = times(shared[REALTIME], night[REALTIME], "response_time", 0.95, "a")
    found.append(shown("a.request_throughput", a_done, f"batch jobs, A against {against}", seconds=False))
    found.append(shown("a.response_time.p95", a_waits, f"real-time requests, A against {against}"))
    trade_done = rates(night[BATCH], separate[BATCH], "done", "trade")
    trade_waits = times(night[REALTIME], separate[REALTIME], "response_time", 0.95, "trade")
    found.append(shown("trade.request_throughput", trade_done, "batch jobs, B against A", seconds=False))
    found.append(shown("trade.response_time.p95", trade_waits, "real-time requests, B against A"))
    return found


def _settings(observations: Facts) -> list[Finding]:
    """What the servers themselves said, by server and version."""
    if observations.get("no_batches"):
        return []
    return [_setting(observations, "night", "night"), _setting(observations, "day", "dawn")]


def _setting(observations: Facts, which: str, moment: str) -> Finding:
    metric = f"setting.{which}"
    wanted, seen = (observations.get("wanted") or {}).get(which), (observations.get("seen") or {}).get(moment)
    if not wanted or not seen:
        return fact(metric, "no data", f"Which setting the servers had after {moment} was not seen")
    wrong = [
        f"{url} version {version} has {setting['words']}"
        for url, versions in seen.items()
        for version, setting in versions.items()
        if setting["section"] != wanted[url]["section"]
    ]
    missing = [url for url in wanted if not seen.get(url)]
    if wrong or missing:
        said = "; ".join([*wrong, *(f"{url} serves nothing" for url in missing)])
        words = next(iter(wanted.values()))["words"]
        return fact(metric, "fail", f"Not the {which}'s setting ({words}): {said}")
    words = next(iter(wanted.values()))["words"]
    number = sum(len(versions) for versions in seen.values())
    return fact(metric, "pass", f"{words}, read from the served configuration of {number} version(s)")


def _loads(observations: Facts, dusk: int, dawn: int) -> list[Finding]:
    every = [window for load in (REALTIME, BATCH) for window in windows_of(observations, load)]
    outside = [window for window in every if window["stage"] not in (dusk, dawn)]
    found = []
    if not observations.get("no_batches"):
        for name, stage in (("dusk", dusk), ("dawn", dawn)):
            took = next((f" in {s['took_s']:.1f} s" for s in observations["switches"] if s["when"] == name), "")
            windows = [window for window in every if window["stage"] == stage]
            found.append(none_failed(f"switch.{name}", f"The switch at {name}{took}", windows))
    found.append(errors("errors", outside, observations["limits"]["errors"]))
    for load in (REALTIME, BATCH):
        found.append(as_asked(f"load.{load}", [window for window in outside if window["load"] == load]))
    return found
