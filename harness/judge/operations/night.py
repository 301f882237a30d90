"""night-batch: what the night's setting gains and costs, and that the day's setting is back.

Promote: batch jobs gain, real-time requests pay no more than they may, no request failed in a switch, and the day's
setting was read from the servers at the end. With two deployments (option B) the same is asked of the second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.judge.operations.asked import QUANTILES, as_asked, unless_late
from harness.judge.operations.blocks import Compared, rates, times
from harness.judge.operations.facts import amount, fact, failed
from harness.judge.operations.loads import (
    agreed,
    at_least,
    at_most,
    blocks_of,
    drift,
    errors,
    none_failed,
    shown,
    windows_of,
)
from harness.judge.operations.memory import judged
from harness.judge.statistics.intervals import ALPHA_FAIL
from harness.types import Finding

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings"]

REALTIME, BATCH = "realtime", "batch"
DAY, DUSK, SWITCH_DUSK, NIGHT, PAID, SWITCH_DAWN, DAWN, AGAIN = range(8)
SHARED, SHARED_DUSK, SHARED_NIGHT, SHARED_DAWN, SEPARATE, SHARED_AGAIN = range(6)
"""Stages: of one deployment that is switched, and of the comparison with two. In AGAIN, as in DUSK, batch jobs have the
day's setting: a server that only warms up, or a machine that has its hands free, gets more done later, too.
"""
WHEN = ("before", "afterwards")


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
    return (*compared, *_settings(observations), *loads, *_memory(observations))


def _memory(observations: Facts) -> list[Finding]:
    """Where it has a limit: of every measurement and every switch."""
    limit, seen = observations["limits"].get("memory"), observations.get("memory") or []
    if limit is None:
        return []
    stages = {window["stage"] for window in observations.get("windows") or []}
    windows = [(each["when"], each) for each in seen]
    return [judged(windows, limit, stages <= {each["stage"] for each in seen})]


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
    dusk, night, again = (blocks_of(observations, BATCH, [stage]) for stage in (DUSK, NIGHT, AGAIN))
    gains = [
        at_least(
            "gain.request_throughput", rates(by_day, night, "done", "gain", when), 1 + limits["gain"],
            f"Batch jobs with the night's setting, against the day's {when}", ALPHA_FAIL / len(WHEN),
        )
        for by_day, when in zip((dusk, again), WHEN, strict=True)
    ]  # fmt: skip
    pair = rates(dusk, again, "done", "drift")
    found = [
        agreed(gains),
        drift("drift.request_throughput", pair, limits["drift"], "batch jobs with the day's setting"),
    ]
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
    phases = {
        "one": [SHARED],
        "again": [SHARED_AGAIN],
        "both": [SHARED, SHARED_AGAIN],
        "A": [SHARED_NIGHT],
        "B": [SEPARATE],
    }
    jobs, waits = (
        {name: blocks_of(observations, load, stages) for name, stages in phases.items()} for load in (BATCH, REALTIME)
    )
    one = "one deployment with the day's setting"

    def more(metric: str, a: str, b: str, least: float | None, against: str) -> Finding:
        pair, what = rates(jobs[a], jobs[b], "done", metric, a), f"Batch jobs in option {b}, against {against}"
        if least is None:
            return shown(f"{metric}.request_throughput", pair, what)
        return at_least(f"{metric}.request_throughput", pair, least, what, ALPHA_FAIL / len(WHEN))

    def longer(metric: str, a: str, b: str, most: float | None, against: str) -> Finding:
        pair = times(waits[a], waits[b], "response_time", 0.95, metric, a)
        what = f"p95 of real-time requests in option {b}, against {against}"
        return _waits(f"{metric}.response_time.p95", pair, most, what, ALPHA_FAIL / len(WHEN))

    days = list(zip(("one", "again"), WHEN, strict=True))
    done = rates(jobs["one"], jobs["again"], "done", "drift")
    took = times(waits["one"], waits["again"], "response_time", 0.5, "drift")
    found = [
        agreed([more("b", a, "B", 1 + limits["gain"], f"{one} {when}") for a, when in days]),
        agreed([longer("b", a, "B", limits["latency"], f"{one} {when}") for a, when in days]),
        drift("drift.request_throughput", done, limits["drift"], f"batch jobs on {one}"),
        drift("drift.response_time.p50", took, limits["drift"], f"p50 of real-time requests on {one}"),
    ]
    if not observations.get("no_batches"):
        found += [more("a", "both", "A", None, one), longer("a", "both", "A", None, one)]
        found += [more("trade", "A", "B", None, "option A"), longer("trade", "A", "B", None, "option A")]
    return found


def _waits(
    metric: str, pair: Compared | None, most: float | None, what: str, alpha: float = ALPHA_FAIL
) -> Finding:  # fmt: skip
    return shown(metric, pair, what) if most is None else at_most(metric, pair, most, what, alpha)


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
            took = next((_took(switch) for switch in observations["switches"] if switch["when"] == name), "")
            windows = [window for window in every if window["stage"] == stage]
            found.append(none_failed(f"switch.{name}", f"The switch at {name}{took}", windows))
    found.append(errors("errors", outside, observations["limits"]["errors"]))
    of = {load: [window for window in outside if window["load"] == load] for load in (REALTIME, BATCH)}
    judged = {name: QUANTILES[name] for name in ("p50", "p95")}
    return [*found, *(as_asked(f"load.{load}", windows, judged) for load, windows in of.items())]


def _took(switch: Facts) -> str:
    late_s = switch.get("late_s") or 0.0
    return f" in {switch['took_s']:.1f} s" + (f" ({late_s:.0f} s late)" if late_s >= 1 else "")
