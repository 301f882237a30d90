"""ab-test: which of two arms is better, by units that were dealt out to them.

The reason of the verdict begins with the answer, one of `types.ANSWERS`. `promote`: there is one (A better, B better,
no difference within the margin). `inconclusive`: not enough. `rollback`: the experiment itself is broken, or broke its
limit on memory, and nothing can be said. An answer takes one for every metric: an arm that is faster, and may fail more
often than the margin allows, is not better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from harness.judge.operations.ab.assignment import assignment
from harness.judge.operations.ab.effects import effects, needed, quantile_of
from harness.judge.operations.ab.rows import Rows
from harness.judge.operations.asked import as_asked
from harness.judge.operations.facts import fact
from harness.judge.operations.memory import METRIC, judged
from harness.recording.schema import SAMPLES
from harness.types import (
    A_BETTER,
    A_MORE,
    B_BETTER,
    B_MORE,
    MIXED,
    NO_DIFFERENCE,
    NOT_ENOUGH,
    NOTHING,
    Decision,
    Finding,
    answer_in,
)

Facts = Mapping[str, Any]
Tables = Callable[[str], pa.Table | None]

LOAD = "load"


def findings(observations: Facts, tables: Tables) -> tuple[Finding, ...]:
    """`assignment.honoured`, `.sticky`, `.ratio`, `.activity`, `load`, and each metric by its name. `tables`: those of
    the recording, by name.
    """
    if not observations.get("metrics"):
        return ()
    samples = tables("samples")
    rows = Rows.of(SAMPLES.empty_table() if samples is None else samples, observations)
    checks = assignment(rows, observations)
    load = _load(observations)
    broken = _broken(checks)
    void = f"because of {broken.metric}" if broken is not None else ""
    compared = effects(rows, tables("scores"), observations, void, load)
    limit, read = (observations.get("limits") or {}).get("memory"), observations.get("memory")
    memory = [] if limit is None else [judged([("both arms", read)] if read else [], limit, complete=True)]
    return (*checks, load, *compared, *memory)


def decide(observations: Facts, found: Sequence[Finding]) -> tuple[Decision, str]:
    """The verdict and its reason, which begins with the answer."""
    broken = _broken([one for one in found if one.metric.startswith("assignment.")])
    if broken is not None and broken.outcome == "fail":
        return "rollback", f"{NOTHING}: {broken.reason}"
    if not observations.get("finished"):
        why = str(observations.get("error") or "")
        return "inconclusive", f"{NOT_ENOUGH}: The experiment did not come to its end{f': {why}' if why else ''}"
    memory = next((one for one in found if one.metric == METRIC), None)
    if memory is not None and memory.outcome == "fail":
        return "rollback", f"{NOTHING}: {memory.reason}"
    if broken is not None:
        return "inconclusive", f"{NOTHING}: {broken.reason}"
    compared = [one for one in found if answer_in(one.reason)]
    if not compared:
        return "inconclusive", f"{NOT_ENOUGH}: Nothing was compared"
    open_ones = [one for one in compared if answer_in(one.reason) not in _SAID]
    load = next((one for one in found if one.metric == LOAD and one.outcome != "pass"), None)
    if load is not None and open_ones:
        return "inconclusive", f"{NOT_ENOUGH}: {load.reason}"
    if memory is not None and memory.outcome != "pass" and not open_ones:
        return "inconclusive", f"{NOT_ENOUGH}: {memory.reason}"
    answer = NOT_ENOUGH if open_ones else _answer(compared)
    shown = sorted(compared, key=lambda one: answer_in(one.reason) != answer)
    return ("inconclusive" if open_ones else "promote"), f"{answer}: {_told(shown, answer)}"


def needs(found: Sequence[Finding]) -> str:
    """What more it would take."""
    if load := next((one for one in found if one.metric == LOAD and one.outcome != "pass"), None):
        return f"a load that this machine can send ({load.outcome}): more `workers`, or a faster machine"
    missing = [one.metric for one in found if one.outcome == "no data"]
    if missing:
        return f"facts for {', '.join(missing)}"
    factor = needed(found)
    if factor is None or not math.isfinite(factor) or factor > 1000:
        return "more units, or wider margins"
    return f"about {max(2, math.ceil(factor))} times as many units, or wider margins"


_SAID = (A_BETTER, B_BETTER, NO_DIFFERENCE, A_MORE, B_MORE)


def _answer(compared: Sequence[Finding]) -> str:
    """Of metrics that all have one. What has no better side decides only where nothing else differs."""
    said = [answer_in(one.reason) for one in compared]
    if A_BETTER in said or B_BETTER in said:
        return MIXED if A_BETTER in said and B_BETTER in said else A_BETTER if A_BETTER in said else B_BETTER
    return next((one for one in said if one in (A_MORE, B_MORE)), NO_DIFFERENCE)


def _told(compared: Sequence[Finding], answer: str) -> str:
    """`response_time.p50 B is 22.1 % lower; no difference within the margin in errors`."""
    by_answer: dict[str, list[Finding]] = {}
    for one in compared:
        by_answer.setdefault(answer_in(one.reason), []).append(one)
    parts = []
    for said, ones in by_answer.items():
        shown = ", ".join(map(_brief, ones))
        parts.append(shown if said == answer else f"{said} in {shown}")
    return "; ".join(parts)


def _brief(finding: Finding) -> str:
    """The metric, and how far B is from A; where that is not known well enough, the interval."""
    if finding.effect is None or finding.interval is None:
        return finding.metric
    low, high = finding.interval
    shown = [low, high] if answer_in(finding.reason) == NOT_ENOUGH else [finding.effect]
    zero, unit = (0.0, "points") if finding.unit == "pp" else (1.0, "%")
    digits = "+.2g" if finding.unit == "pp" else "+.1f"
    values = " to ".join(f"{100 * (one - zero):{digits}}" for one in shown if one is not None)
    return f"{finding.metric} {values} {unit}"


def _broken(checks: Sequence[Finding]) -> Finding | None:
    """Why nothing can be said: the first check that failed, or that could not be made."""
    for outcomes in (("fail",), ("inconclusive", "no data")):
        for one in checks:
            if one.outcome in outcomes:
                return one
    return None


def _load(observations: Facts) -> Finding:
    windows = observations.get("windows") or []
    if not windows:
        return fact(LOAD, "no data", "No load was seen")
    quantiles = {one["metric"].rpartition(".")[2]: quantile_of(one["metric"]) for one in observations["metrics"]}
    judged = {"p50": 0.5, **{name: q for name, q in quantiles.items() if q is not None}}
    return as_asked(LOAD, windows, judged)


__all__ = ["decide", "findings", "needs"]
