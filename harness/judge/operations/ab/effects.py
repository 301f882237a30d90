"""Each metric of an A/B test: how far B is from A, and what that comes to.

The intervals of all metrics hold together with 95 % (Bonferroni: each with 1 - 0.05 / metrics). What is said follows
from the interval alone. It lies within the margin: no difference that matters, also where it is surely not 0. It lies
on one side of 0 and not within the margin: that arm is better. Everything else is not enough. A margin of 10 % is B/A
from 1/1.1 to 1.1, so that it makes no difference which arm is called A.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge import words
from harness.judge.columns import CANCELLED, Bools, Floats
from harness.judge.operations.ab.by_unit import Effect, Side, difference, enough, ratio, side
from harness.judge.operations.ab.rows import A, B, Rows
from harness.judge.operations.facts import fact
from harness.judge.times.derived import lengths, seconds, uncounted
from harness.types import A_BETTER, A_MORE, B_BETTER, B_MORE, NO_DIFFERENCE, NOT_ENOUGH, NOTHING, Finding

Facts = Mapping[str, Any]
TOGETHER = 0.05
"""How often any of the intervals may miss."""
SCORE = "quality.score."


def effects(rows: Rows, scores: pa.Table | None, observations: Facts, void: str, load: Finding) -> list[Finding]:
    """One a metric, in their order. `void`: why nothing can be said, "" if it can. Times do not count where the load
    was not as asked.
    """
    wanted: Sequence[Facts] = observations["metrics"]
    alpha = TOGETHER / len(wanted)
    found = []
    for metric in wanted:
        name = metric["metric"]
        if void:
            found.append(fact(name, "inconclusive", f"{NOTHING}: {void}"))
        elif load.outcome != "pass" and _is_time(name):
            found.append(fact(name, "inconclusive", f"{NOT_ENOUGH}: it does not count, because of the load"))
        else:
            found.append(_effect(rows, scores, metric, alpha, int(observations["seed"]), observations["analyse"]))
    return found


def chosen(rows: Rows, analyse: str) -> Bools:
    """The requests of which effects are: due in the measured time, of units that count."""
    return rows.counted & (rows.hashed | (analyse == "all"))


def _effect(
    rows: Rows, scores: pa.Table | None, metric: Facts, alpha: float, seed: int, analyse: str
) -> Finding:  # fmt: skip
    name, margin = metric["metric"], float(metric["margin"])
    values, missing = _values(rows, scores, name)
    mine = chosen(rows, analyse)
    sides = [
        side(values[mine & (rows.arm == arm)], rows.unit[mine & (rows.arm == arm)], seed, name, arm) for arm in (A, B)
    ]
    quantile = None if metric["in_points"] else quantile_of(name)
    for letter, one in zip("AB", sides, strict=True):
        if why := (missing if not one.n else enough(one, quantile)):
            return fact(name, "no data" if not one.n else "inconclusive", f"{NOT_ENOUGH}: {name} of {letter} has {why}")
    a, b = sides
    effect = difference(a, b, alpha, seed, name) if metric["in_points"] else ratio(a, b, quantile, alpha, seed, name)
    if effect is None:
        return fact(name, "no data", f"{NOT_ENOUGH}: {name} is 0, so that no ratio can be told")
    said = answer(effect, margin, metric["better"], in_points=metric["in_points"])
    bound = margin if metric["in_points"] else 1 + margin
    return Finding(
        name, "inconclusive" if said == NOT_ENOUGH else "pass",
        f"{said}: {_sentence(name, effect, metric, alpha, a, b)}",
        unit="pp" if metric["in_points"] else "ratio", effect=effect.value, interval=(effect.low, effect.high),
        margin=bound, baseline=effect.a, candidate=effect.b, n_baseline=a.units, n_candidate=b.units,
    )  # fmt: skip


def answer(effect: Effect, margin: float, better: str, *, in_points: bool) -> str:
    """One of types.ANSWERS. `better`: lower, higher, or "" where neither is."""
    least, most, equal = (-margin, margin, 0.0) if in_points else (1 / (1 + margin), 1 + margin, 1.0)
    if least <= effect.low and effect.high <= most:
        return NO_DIFFERENCE
    if effect.low <= equal <= effect.high:
        return NOT_ENOUGH
    b_more = effect.low > equal
    if not better:
        return B_MORE if b_more else A_MORE
    return B_BETTER if b_more == (better == "higher") else A_BETTER


def quantile_of(metric: str) -> float | None:
    """0.95 for `ttft.p95`; None for a mean."""
    statistic = metric.rpartition(".")[2]
    return int(statistic[1:]) / 100 if statistic[:1] == "p" and statistic[1:].isdecimal() else None


def needed(found: Sequence[Finding]) -> float | None:
    """How many times as many units would settle what is not enough, by the intervals so far; None where unknown."""
    factors = []
    for one in found:
        if one.outcome != "inconclusive" or one.interval is None or one.effect is None or one.margin is None:
            continue
        low, high = one.interval
        assert low is not None
        assert high is not None
        value, bounds, margin = one.effect, (low, high), one.margin
        if one.unit == "ratio":
            value, bounds, margin = (
                float(np.log(value)),
                (float(np.log(low)), float(np.log(high))),
                float(np.log(margin)),
            )
        half = (bounds[1] - bounds[0]) / 2
        # Until it fits into the margin about where it is, or leaves 0 out: whichever is nearer.
        room = max(margin - abs(value), abs(value))
        factors.append((half / room) ** 2 if room > 0 else math.inf)
    return max(factors, default=None)


def _values(rows: Rows, scores: pa.Table | None, name: str) -> tuple[Floats, str]:
    """Of each request, NaN where it has none; and why none has any, for the sentence."""
    columns = rows.columns
    if name == "errors":
        return np.where(columns.status == CANCELLED, np.nan, columns.failed.astype(np.float64)), "no request"
    if name.startswith(SCORE):
        return _scores(rows, scores, name.removeprefix(SCORE))
    if uncounted(columns, name):
        return np.full(len(columns), np.nan), "no answer whose tokens were counted"
    return (lengths(columns) if name == "osl" else seconds(columns, name)), "no answer that has one"


def _scores(rows: Rows, scores: pa.Table | None, scorer: str) -> tuple[Floats, str]:
    values = np.full(len(rows), np.nan)
    if scores is None:
        return values, "no scores"
    mine = scores.filter(pa.compute.equal(scores["scorer"], scorer)).to_pylist()
    if failed := next((row["error"] for row in mine if row["error"]), ""):
        return values, f"no scores: {failed}"
    arms = {"baseline": A, "candidate": B}
    given = {(row["pair_id"], arms.get(row["arm"], -1)): row["score"] for row in mine}
    keys = zip(rows.columns.pair_id.tolist(), rows.arm.tolist(), strict=True)
    return np.array([given.get(key, np.nan) for key in keys], np.float64), "no answer that was scored"


def _is_time(name: str) -> bool:
    return name.partition(".")[0] in ("response_time", "request_latency", "ttft", "tpot")


def _sentence(name: str, effect: Effect, metric: Facts, alpha: float, a: Side, b: Side) -> str:
    """`response_time.p50 8.31 ms of A, 6.32 ms of B: B is 23.9 % lower (-26.1 % to -21.6 %, 98.3 % sure; ...)`."""
    margin, sure = words.margin(metric["margin"]), words.confidence(alpha)
    units = f"{a.units:,} units of A, {b.units:,} of B"
    shown: Callable[[float], str]
    if metric["in_points"]:
        shown, low, high = words.percent, f"{100 * effect.low:+.2g}", f"{100 * effect.high:+.2g} points"
        change, margin = f"B - A is {100 * effect.value:+.2g} points", words.points(metric["margin"])
    else:
        shown = words.number if name == "osl" else words.time
        low, high, change = _signed(effect.low), _signed(effect.high), f"B is {words.change(effect.value)}"
    exact = ", exact: too few units fail to resample them" if effect.exact else ""
    return (
        f"{name} {shown(effect.a)} of A, {shown(effect.b)} of B: {change} ({low} to {high}, {sure} sure{exact}; "
        f"margin {margin}; {units})"
    )


def _signed(value: float) -> str:
    return f"{100 * (value - 1):+.1f} %"
