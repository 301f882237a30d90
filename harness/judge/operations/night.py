"""night-batch: what the night's setting gains and costs, and that the day's setting is back.

Promote: batch jobs gain, real-time requests pay no more than they may, no request failed in a switch, and the day's
setting was read from the servers at the end. With two deployments (option B) the same is asked of the second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.judge.intervals import ALPHA_FAIL
from harness.judge.operations.blocks import Compared, rates, times
from harness.judge.operations.facts import amount, fact, failed
from harness.judge.operations.loads import (
    as_asked,
    at_least,
    at_most,
    blocks_of,
    errors,
    none_failed,
    shown,
    unless_late,
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
    if not observations.get("limits"):
        return (fact("load", "no data", "Nothing was measured"),)
    two = bool(observations.get("separate"))
    loads = _loads(observations, *((SHARED_DUSK, SHARED_DAWN) if two else (SWITCH_DUSK, SWITCH_DAWN)))
    compared = _compare(observations) if two else _switched(observations)
    for load in loads:
        if load.metric == "load.realtime":
            compared = _only(compared, ".response_time", load)
        elif load.metric == "load.batch":
            compared = _only(compared, ".request_throughput", load)
    return (*compared, *_settings(observations), *loads)


def _only(compared: list[Finding], of: str, load: Finding) -> list[Finding]:
    """What was compared `of` this load counts where its generator kept up."""
    return [each for one in compared for each in (unless_late(load, [one]) if of in one.metric else [one])]


def done(observations: Facts) -> str:
    if observations.get("separate"):
        back = "" if not observations["switches"] else ", and the first has the day's setting again"
        who = f"{observations['model']} for real time, {observations['separate']} for batch jobs"
        return f"Two deployments ({who}): batch jobs gain, and real-time requests pay no more than they may{back}"
    return (
        f"{observations['model']}: batch jobs gain by night, and the day's setting is back: read from the server, and "
        "seen in the latency"
    )


def _switched(observations: Facts) -> list[Finding]:
    limits = observations["limits"]
    day, paid, dawn = (blocks_of(observations, REALTIME, [stage]) for stage in (DAY, PAID, DAWN))
    dusk, night = (blocks_of(observations, BATCH, [stage]) for stage in (DUSK, NIGHT))
    gain = rates(dusk, night, "done", "gain")
    what = "Batch jobs with the night's setting, against the day's"
    found = [at_least("gain.request_throughput", gain, 1 + limits["gain"], what, ALPHA_FAIL)]
    for q, name in ((0.5, "p50"), (0.95, "p95")):
        what = f"{name} of real-time requests with the night's setting, against the day's"
        pair = times(day, paid, "response_time", q, "paid")
        found.append(_waits(f"paid.response_time.{name}", pair, limits["latency"] if name == "p95" else None, what))
    for q, name in ((0.5, "p50"), (0.95, "p95")):
        pair = times(day, dawn, "response_time", q, "back")
        what = f"{name} of real-time requests after dawn, against before dusk"
        found.append(at_most(f"back.response_time.{name}", pair, 1 + limits["back"], what, ALPHA_FAIL / 2))
    return found


def _compare(observations: Facts) -> list[Finding]:
    limits = observations["limits"]
    phases = {"one": SHARED, "A": SHARED_NIGHT, "B": SEPARATE}
    jobs, waits = (
        {name: blocks_of(observations, load, [stage]) for name, stage in phases.items()} for load in (BATCH, REALTIME)
    )
    one = "one deployment with the day's setting"

    def more(metric: str, a: str, b: str, least: float | None, against: str) -> Finding:
        pair, what = rates(jobs[a], jobs[b], "done", metric), f"Batch jobs in option {b}, against {against}"
        if least is None:
            return shown(f"{metric}.request_throughput", pair, what)
        return at_least(f"{metric}.request_throughput", pair, least, what, ALPHA_FAIL)

    def longer(metric: str, a: str, b: str, most: float | None, against: str) -> Finding:
        pair = times(waits[a], waits[b], "response_time", 0.95, metric)
        what = f"p95 of real-time requests in option {b}, against {against}"
        return _waits(f"{metric}.response_time.p95", pair, most, what)

    found = [more("b", "one", "B", 1 + limits["gain"], one), longer("b", "one", "B", limits["latency"], one)]
    if not observations.get("no_batches"):
        found += [more("a", "one", "A", None, one), longer("a", "one", "A", None, one)]
        found += [more("trade", "A", "B", None, "option A"), longer("trade", "A", "B", None, "option A")]
    return found


def _waits(metric: str, pair: Compared | None, most: float | None, what: str) -> Finding:
    return shown(metric, pair, what) if most is None else at_most(metric, pair, most, what, ALPHA_FAIL)


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
    return fact(metric, "pass", f"{words}, read from the served configuration ({amount(number, 'version')})")


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
    of = {load: [window for window in outside if window["load"] == load] for load in (REALTIME, BATCH)}
    return [*found, *(as_asked(f"load.{load}", windows, ("p50", "p95")) for load, windows in of.items())]
