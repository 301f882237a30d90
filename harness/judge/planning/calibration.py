"""A/A: how often does this judge, on this rig, roll back a build that is the same, or promote one that is not?

Each repetition is judged as a run would be: look after look, and at the end. Three rates come of it. `false_rollback`:
of identical builds at the gates as they are, where a margin of 10 % leaves hardly any. `rollback_at_margin` and
`false_promote`: of a candidate that is worse by exactly the margin, which is what the gates' 1 % and 5 % speak of: its
times are multiplied by 1 + margin, or as many of its requests fail. Intervals are Clopper and Pearson's, 95 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.judge.columns import BASELINE, CANDIDATE, OK, STATUSES, Columns
from harness.judge.evidence import Evidence
from harness.judge.looks import replay
from harness.judge.metrics import is_latency
from harness.judge.planning.foresight import noises
from harness.judge.planning.planner import Noise
from harness.judge.statistics.counts import rate_lower, rate_upper
from harness.judge.view import WARM_UP, equal_load
from harness.types import Decision, Finding, Gate, Outcome, StageRecord

FORMAT = 1
ALPHA = 0.05
FEWEST = 600
"""Requests of a baseline of which two arms can be made that the judge compares at all."""
STRETCH_S, STRETCH_REQUESTS, FEWEST_PAIRS = 10.0, 20, 12
RUNS, RESAMPLED = "runs", "resampled"
BLIND = {
    RUNS: "a build that drifts by itself only in some runs, and loads other than this one",
    RESAMPLED: "drift of one arm by itself over minutes, and arms that slow each other down: all requests were "
    "answered by one server that had them to itself",
}
"""What an A/A of either kind cannot see."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """One A/A, judged to its end. `same`: outcomes of its gates; `worse`: those of a candidate exactly at the margin,
    without the gates for which that cannot be made. `noise`: of the gates, by metric.
    """

    verdict: Decision
    same: Mapping[str, Outcome]
    worse: Mapping[str, Outcome]
    noise: Mapping[str, Noise]


def repeat(
    evidence: Evidence, looks_s: float, rng: np.random.Generator, decision: Decision | None = None
) -> Repetition:
    """Judge an A/A, and the same with a candidate at each gate's margin. `decision`: what the run itself came to, where
    it was a run.
    """
    compared = _compared(evidence)
    same = replay(compared, round(looks_s * 1e9)).verdict
    worse: dict[str, Outcome] = {}
    for (kind, size), gates in _kinds(evidence.rules).items():
        found = replay(_worsened(compared, kind, size, rng), round(looks_s * 1e9)).verdict
        worse |= _outcomes(found.findings, [gate.metric for gate in gates])
    noise: dict[str, Noise] = {}
    for stage in same.stages:
        record = next(one for one in compared.stages if one.plan.index == stage.stage)
        noise |= noises(stage.findings, record.plan.duration_s)
    own = _outcomes(same.findings, [gate.metric for gate in evidence.rules])
    return Repetition(decision or same.verdict, own, worse, noise)


def _compared(evidence: Evidence) -> Evidence:
    """Only the stages in which both arms had the same load: the others have no margin to be at."""
    stages = tuple(one for one in evidence.stages if equal_load(one.plan) and one.plan.purpose == "compare")
    return replace(evidence, stages=stages, planned=len(stages))


def _outcomes(findings: Sequence[Finding], metrics: Sequence[str]) -> dict[str, Outcome]:
    """Failed where any comparison failed it, passed where all of them passed it."""
    outcomes: dict[str, Outcome] = {}
    for metric in metrics:
        found = [one.outcome for one in findings if one.metric == metric and one.kind == "comparison"]
        outcomes[metric] = "no data" if not found else "pass" if set(found) == {"pass"} else "inconclusive"
        if "fail" in found:
            outcomes[metric] = "fail"
    return outcomes


def _kinds(gates: Sequence[Gate]) -> dict[tuple[str, float], list[Gate]]:
    """What has to be made worse by how much, and the gates that it is for."""
    found: dict[tuple[str, float], list[Gate]] = {}
    for gate in gates:
        if is_latency(gate.metric) and gate.margin:
            found.setdefault(("times", gate.margin), []).append(gate)
        elif gate.metric == "errors" and gate.margin:
            found.setdefault(("errors", gate.margin), []).append(gate)
    return found


def _worsened(evidence: Evidence, kind: str, size: float, rng: np.random.Generator) -> Evidence:
    """The candidate worse by exactly `size`: all its times from the due time on, or its rate of failure."""
    samples, mine = evidence.samples, evidence.samples.arm == CANDIDATE
    if kind == "errors":
        hit = mine & (samples.status == OK) & (rng.random(len(samples)) < size)
        status = np.where(hit, STATUSES.index("error"), samples.status).astype(samples.status.dtype)
        return replace(evidence, samples=replace(samples, status=status))

    def later(times: Any) -> Any:
        moved = samples.due_ns + np.rint((times - samples.due_ns) * (1 + size)).astype(np.int64)
        return np.where(mine & (times >= 0), moved, times)

    slower = replace(
        samples, sent_ns=later(samples.sent_ns), first_ns=later(samples.first_ns), done_ns=later(samples.done_ns)
    )
    return replace(evidence, samples=slower, stages=tuple(_longer(one, slower) for one in evidence.stages))


def _longer(record: StageRecord, samples: Columns) -> StageRecord:
    """A stage ends with its last request, unless it was cut short."""
    mine = samples.done_ns[samples.stage == record.plan.index]
    if record.end_ns is None or not len(mine):
        return record
    return replace(record, end_ns=max(record.end_ns, int(mine.max())))


# ---------------------------------------------------------------- a recorded baseline


def recorded(evidence: Evidence) -> Evidence:
    """The baseline's own requests of the stage that has most of them, in the order in which they were due.

    Raises UsageError where there are too few.
    """
    samples = evidence.samples
    own = (samples.arm == BASELINE) & ~samples.score
    for record in evidence.stages:
        if record.plan.purpose == WARM_UP:
            own &= samples.stage != record.plan.index
    stages, sizes = np.unique(samples.stage[own], return_counts=True)
    most = int(sizes.max(initial=0))
    if most < FEWEST:
        raise UsageError(f"expected at least {FEWEST} requests of a baseline in one stage, found {most}")
    index = int(stages[sizes.argmax()])
    mine = samples.take(own & (samples.stage == index))
    order = np.argsort(mine.due_ns, kind="stable")
    columns = {field.name: getattr(mine, field.name) for field in fields(mine)}
    sorted_: Any = {name: it[order] for name, it in columns.items() if isinstance(it, np.ndarray)}
    mine = replace(mine, **sorted_)
    record = next(one for one in evidence.stages if one.plan.index == index)
    return replace(evidence, samples=mine, stages=(record,), outputs=(), readings=None)


def in_stretches(baseline: Evidence, rng: np.random.Generator) -> Evidence:
    """An A/A of one recorded arm: of each two neighbouring stretches a coin gives one to either arm, and both are laid
    on the same moments.

    Which went where was chance, so the arms are equal exactly. What is kept is how requests within a stretch depend on
    each other, which splitting them one by one would hide; what is lost is all that two arms would suffer together, so
    the noise is rather too large. Where the first stretch begins is drawn anew each time.
    """
    samples, (record,) = baseline.samples, baseline.stages
    due = samples.due_ns
    span, n = int(due[-1]) - int(due[0]) + 1, len(samples)
    length = max(int(STRETCH_S * 1e9), math.ceil(STRETCH_REQUESTS * span / n))
    length = max(min(length, span // (2 * FEWEST_PAIRS)), 1)
    passed = due - int(due[0]) - int(rng.integers(0, length))
    number = passed // length
    pairs = (span - length) // length // 2
    kept = (passed >= 0) & (number < 2 * pairs)
    swapped = rng.integers(0, 2, pairs)
    pair, second = number // 2, number % 2
    arm = second ^ swapped[np.clip(pair, 0, pairs - 1)]

    def moved(times: Any) -> Any:
        """On the axis of the pairs; what is unknown stays so."""
        return np.where(times >= 0, times + (passed - due) - (number - pair) * length, times)

    laid = replace(
        samples, arm=arm.astype(samples.arm.dtype), stage=np.zeros_like(samples.stage),
        due_ns=moved(due), sent_ns=moved(samples.sent_ns), first_ns=moved(samples.first_ns),
        done_ns=moved(samples.done_ns), pair_id=np.cumsum(kept).astype(np.int64) - 1,
    ).take(kept)  # fmt: skip
    seconds = pairs * length / 1e9
    plan = replace(
        record.plan, index=0, mode="interleaved", arrival="poisson", duration_s=seconds, candidate_share=0.5,
        in_flight=None, rate=len(laid) / seconds, purpose="compare", rate_to=None, in_flight_to=None, burstiness=1.0,
        baseline_share=None, series=1, together=1, period=0, periods=0, until_decided=False,
    )  # fmt: skip
    return Evidence(
        samples=laid,
        stages=(StageRecord(plan, 0, end_ns=max(pairs * length, int(laid.done_ns.max(initial=0)))),),
        gates=tuple(gate for gate in baseline.rules if gate.margin is not None),
        seed=int(rng.integers(2**31)),
        planned=1,
    )


def resampled(baseline: Evidence, number: int, looks_s: float, seed: int) -> Repetition:
    """One of many A/A of a recorded baseline, from `recorded`; the same for the same number and seed."""
    rng = np.random.default_rng([seed, number])
    return repeat(in_stretches(baseline, rng), looks_s, rng)


# ---------------------------------------------------------------- what is published


def document(repetitions: Sequence[Repetition], gates: Sequence[Gate], how: str, looks_s: float) -> dict[str, Any]:
    """The measured rates as JSON; `how` is RUNS or RESAMPLED. Raises UsageError for no repetition."""
    if not repetitions:
        raise UsageError("no A/A was judged: there is nothing to publish")
    verdicts = Counter(one.verdict for one in repetitions)
    total = len(repetitions)
    return {
        "format": FORMAT,
        "how": how,
        "repetitions": total,
        "looks_s": looks_s,
        "verdicts": {word: rate(verdicts[word], total) for word in ("rollback", "promote", "inconclusive")},
        "gates": [_gate(gate, repetitions, how) for gate in gates],
        "cannot_see": BLIND[how],
    }


def _gate(gate: Gate, repetitions: Sequence[Repetition], how: str) -> dict[str, Any]:
    metric = gate.metric
    same = [one.same[metric] for one in repetitions if one.same.get(metric, "no data") != "no data"]
    worse = [one.worse[metric] for one in repetitions if one.worse.get(metric, "no data") != "no data"]
    found = [one.noise[metric] for one in repetitions if metric in one.noise]
    return {
        "metric": metric,
        "margin": gate.margin,
        "limit": gate.limit,
        "false_rollback": rate(same.count("fail"), len(same)),
        "rollback_at_margin": rate(worse.count("fail"), len(worse)) if worse else None,
        "false_promote": rate(worse.count("pass"), len(worse)) if worse else None,
        # Of arms that were made from one, the noise is that of no run.
        "noise": _mean(found) if how == RUNS else None,
    }


def _mean(found: Sequence[Noise]) -> dict[str, Any] | None:
    """Of all repetitions: the mean of their variances."""
    if not found:
        return None
    seconds, rates = found[0].seconds, [one.rate for one in found if one.rate]
    se = math.sqrt(sum(one.after(seconds) ** 2 for one in found) / len(found))
    return {"se": se, "seconds": seconds, "rate": sum(rates) / len(rates) if rates else None}


def rate(count: int, of: int) -> dict[str, Any]:
    """`count` of `of`, with Clopper and Pearson's 95 % interval."""
    low, high = rate_lower(count, of, ALPHA / 2), rate_upper(count, of, ALPHA / 2)
    return {"count": count, "of": of, "rate": count / of if of else None, "low": low, "high": high}


def noise_in(calibration: Mapping[str, Any]) -> dict[str, Noise]:
    """The noise that a calibration measured, by metric."""
    found = {gate["metric"]: gate.get("noise") for gate in calibration.get("gates", ())}
    return {name: Noise(one["se"], one["seconds"], one["rate"]) for name, one in found.items() if one}
