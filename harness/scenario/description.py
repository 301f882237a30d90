"""What a scenario will do and what it can show, before anything starts: data for `check`, no printing.

The statements are rough on purpose. They follow from counts alone: an error margin m needs 3/m requests
without an error (the rule of three: a 95 % bound), a quantile p needs 10/(1-p) requests an arm, a comparison
12 blocks of 5 s. Whether a difference of some size will be found depends on noise, which is known only later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from harness.scenario import metrics, quality
from harness.scenario.model import Scenario
from harness.scenario.operations import Operation
from harness.scenario.places import StoreConfig
from harness.scenario.plan import expected, plan
from harness.scenario.readers import memory_read
from harness.scenario.sections import ArmConfig, IngressConfig, LoadConfig, OnFailConfig
from harness.scenario.synthetic import counted_by
from harness.types import ArmName, Gate, StagePlan
from harness.units import format_duration, format_percent, format_points, format_rate

_BLOCKS = 12
# For blocks that are cut by count: of 5 pairs, or of 20 requests.
_FEWEST_PAIRS, _FEWEST = 60, 240
_BLOCK_S = 5.0
_UNCHANGED = 3.64
"""Prompts times margin for a pass where no score changed: ((z + sqrt(z^2 + 2)) / 2)^2, z of 95 % (judge.mcnemar)."""
# Of what is counted: a block takes 8 answers, and in a short stage a second.
_ANSWERS_A_BLOCK, _SHORTEST_BLOCK_S = 8, 1.0
_COMPARED: tuple[ArmName, ...] = ("baseline", "candidate")


@dataclass(frozen=True)
class StageFacts:
    """Expected requests of each arm; None where they depend on the server's speed."""

    plan: StagePlan
    sentence: str
    requests_baseline: float | None
    requests_candidate: float | None


@dataclass(frozen=True)
class GateFacts:
    """`needs`: the fewest requests of each arm for an answer. `enough`: None where nobody can tell yet. `stage`: the
    one that answers best, None where none does.
    """

    gate: Gate
    rule: str
    needs: int
    enough: bool | None
    sentence: str
    stage: StageFacts | None = None


@dataclass(frozen=True)
class Description:
    """`steps`: what will be done, in order, for people. `duration_s`: of the load alone. `counted`: by whom the tokens
    are counted that the engine does not count; None where nobody does, and no prompt is made up.
    """

    name: str
    summary: str
    seed: int
    steps: tuple[str, ...]
    duration_s: float
    stages: tuple[StageFacts, ...]
    gates: tuple[GateFacts, ...]
    prompts: int
    workers: int = 1
    counted: str | None = None


def describe(scenario: Scenario | Operation) -> Description:
    """The facts of a scenario. Pure. An operation has steps, and no load to plan."""
    if isinstance(scenario, Operation):
        return Description(scenario.name, scenario.description, 0, scenario.steps, 0.0, (), (), 0)
    planned = plan(scenario)
    stages = tuple(_stage(stage) for stage in planned.stages)
    judged = _whole(stages)
    return Description(
        name=scenario.name,
        summary=scenario.description,
        seed=planned.seed,
        steps=_steps(scenario, stages),
        duration_s=planned.duration_s,
        stages=stages,
        gates=tuple(
            replace(_by_prompts(_gate(gate, judged, scenario), len(planned.prompts)), stage=_best(gate, judged))
            for gate in scenario.gates
        ),
        prompts=len(planned.prompts),
        workers=scenario.load.workers,
        counted=_counted(scenario.load),
    )


def _counted(load: LoadConfig) -> str | None:
    return counted_by(load.counts_with) if load.synthetic or load.trace or load.counts_with else None


def _steps(scenario: Scenario, stages: tuple[StageFacts, ...]) -> tuple[str, ...]:
    baseline, candidate = _arm(scenario.baseline), _arm(scenario.candidate)
    embedded = scenario.target.server is not None
    steps = [f"start a Triton that serves {baseline}" if embedded else f"check that {baseline} is served"]
    if scenario.stable is not None and not embedded:
        steps.append(f"check that {_arm(scenario.stable)} is served, which is stable")
    steps += _own_server(scenario, candidate)
    if scenario.ingress is not None:
        steps.append(_ingress(scenario.ingress))
    if scenario.store is not None:
        steps.append(_published(scenario.store, candidate))
    if scenario.target.swap:
        steps.append(f"swap versions before each turn: {baseline} leaves before {candidate} comes, and the reverse")
    elif scenario.candidate.version is not None and scenario.deploy is None:
        steps.append(f"load {candidate} beside it, unless it is served already")
    steps += [facts.sentence for facts in stages]
    if scenario.on_promote is not None and scenario.on_promote.then is not None:
        leaves = f"unload {baseline}" if scenario.on_promote.then == "unload" else f"stop the server of {baseline}"
        steps.append(f"on promote: {leaves}")
    if scenario.on_fail is not None:
        steps.append(f"on rollback, at any stage: all traffic to {baseline}{_leaving(scenario.on_fail, candidate)}")
    return tuple(steps)


def _own_server(scenario: Scenario, candidate: str) -> list[str]:
    arm = scenario.candidate
    if arm.server is not None:
        return [f"start a second Triton, for {candidate} alone"]
    return [f"run {arm.start[0]}, which starts the server of {candidate}"] if arm.start else []


def _ingress(ingress: IngressConfig) -> str:
    if ingress.server is not None:
        name = {"haproxy": "a HAProxy", "envoy": "an Envoy"}[ingress.server]
        return f"start {name} in front: split stages send to it, and it decides who gets a request"
    return f"split stages send to {ingress.url}; its split is changed at {', '.join(ingress.control or ())}"


def _leaving(on_fail: OnFailConfig, candidate: str) -> str:
    """What follows the traffic, as it goes on in the sentence."""
    parts = []
    if on_fail.scale is not None and on_fail.scale.up is not None:
        parts.append(f"run {on_fail.scale.up[0]} to scale it up meanwhile")
    if on_fail.drain_s is not None:
        rest = ", then cut what is left" if on_fail.cut else ""
        parts.append(f"wait until the candidate has answered, {format_duration(on_fail.drain_s)} at most{rest}")
    if on_fail.scale is not None and on_fail.scale.down is not None:
        parts.append(f"run {on_fail.scale.down[0]} to scale the candidate down")
    if on_fail.unload:
        parts.append(f"unload {candidate}")
    if on_fail.stop:
        parts.append(f"stop the server of {candidate}")
    return "".join(f", {part}" for part in parts)


def _published(store: StoreConfig, candidate: str) -> str:
    if store.server is not None:
        return f"start an S3 server and publish {candidate} to it, as CI would after the build"
    return f"find {candidate} in {store.url}; the deploy brings it into the repository, verified by SHA-256"


def _arm(arm: ArmConfig) -> str:
    version = "" if arm.version is None else f" version {arm.version}"
    build = f" ({arm.build})" if isinstance(arm.build, str) else ""
    return f"{arm.model}{version}{build}" + (f" on {arm.url}" if arm.url else "")


def _stage(stage: StagePlan) -> StageFacts:
    load = _load(stage)
    baseline = candidate = total = None if stage.rate is None else expected(stage)
    if stage.mode != "paired" and total is not None:
        baseline, candidate = (total * stage.shares.get(arm, 0.0) for arm in _COMPARED)
    what = {
        "paired": "every prompt to both",
        "interleaved": "alternating at random",
        "split": _split(stage),
        "sequential": f"all to the {'candidate' if stage.candidate_share else 'baseline'}",
    }[stage.mode]
    if stage.purpose == "alone":
        twice = ", every prompt twice at once" if stage.together > 1 else ""
        sentence = f"alone: all to the baseline{twice}, {load}, for {format_duration(stage.duration_s)}"
    elif stage.purpose == "deploy":
        within = format_duration(stage.duration_s)
        sentence = f"deploy: all to the baseline, {load}, until the candidate is loaded beside it, {within} at most"
    else:
        name = stage.mode if stage.purpose == "compare" else stage.purpose
        turn = f" ({stage.period} of {stage.periods})" if stage.period else ""
        length = format_duration(stage.duration_s)
        how_long = f"until decided, {length} at most" if stage.until_decided else f"for {length}"
        sentence = f"{name}{turn}: {what}, {load}, {how_long}"
    return StageFacts(stage, sentence, baseline, candidate)


def _whole(stages: tuple[StageFacts, ...]) -> tuple[StageFacts, ...]:
    """As they are judged: the periods of a sequential stage as one, in which each arm has half of the time."""
    found: list[StageFacts] = []
    for facts in stages:
        stage = facts.plan
        if not stage.period:
            found.append(facts)
        elif stage.period == stage.periods:
            half = None if stage.rate is None else expected(stage) * stage.periods / 2
            one = replace(stage, duration_s=stage.duration_s * stage.periods, candidate_share=0.5, period=0)
            found.append(StageFacts(one, facts.sentence, half, half))
    return tuple(found)


def _load(stage: StagePlan) -> str:
    unit = "pairs" if stage.mode == "paired" else "requests"
    if stage.arrival == "trace":
        return f"{expected(stage):.0f} {unit} of the trace (on average {_rate(stage.rate or 0.0)})"
    if stage.rate is None:
        if stage.in_flight_to is not None:
            return f"{stage.in_flight} to {stage.in_flight_to} {unit} in flight"
        return f"{stage.in_flight} {unit if stage.in_flight != 1 else unit[:-1]} in flight"
    ramp = "" if stage.rate_to is None else f" to {_rate(stage.rate_to)}"
    spaced = {"constant": ", evenly spaced", "gamma": f", gamma with burstiness {stage.burstiness:g}"}
    return f"{unit} at {_rate(stage.rate)}{ramp}{spaced.get(stage.arrival, '')}"


def _rate(per_second: float) -> str:
    """As it would be written, unless nobody would: a trace's mean."""
    text = format_rate(per_second)
    return text if len(text) <= 10 else f"{per_second:.3g}/s"


def _split(stage: StagePlan) -> str:
    text = f"{format_percent(stage.candidate_share)} to the candidate"
    if stage.baseline_share is None:
        return text
    rest = format_percent(round(stage.shares["stable"], 9))
    return f"{text}, {format_percent(stage.baseline_share)} to the baseline, {rest} to stable"


def _best(gate: Gate, stages: tuple[StageFacts, ...]) -> StageFacts | None:
    usable = [facts for facts in stages if _answers(gate, facts.plan)]
    most = ((facts.requests_candidate or math.inf, facts.plan.duration_s) for facts in usable)
    return max(zip(most, usable, strict=True), key=lambda each: each[0], default=(None, None))[1]


def _gate(gate: Gate, stages: tuple[StageFacts, ...], scenario: Scenario) -> GateFacts:
    needs = _needs(gate)
    rule = _rule(gate)
    best = _best(gate, stages)
    if best is None:
        return GateFacts(gate, rule, needs, False, "no stage can answer this")
    stage = best.plan
    if metrics.is_latency(gate.metric) and gate.margin is not None:
        needs = max(needs, _FEWEST_PAIRS if stage.mode == "paired" else _FEWEST)
    where = f"stage {stage.index + 1} ({stage.mode}, {format_duration(stage.duration_s)})"
    if gate.metric == "memory.peak":
        target, arms = scenario.target, (scenario.baseline, scenario.candidate)
        urls = [url for arm in arms if (url := target.url_of(arm)) is not None]
        who = memory_read(target.server is not None, target.metrics_url, urls)
        return GateFacts(gate, rule, needs, None, f"needs readings throughout {where}: {who}")
    if metrics.is_amount(gate.metric):
        if gate.margin is not None and stage.duration_s < _BLOCKS * _SHORTEST_BLOCK_S:
            least = format_duration(_BLOCKS * _SHORTEST_BLOCK_S)
            return GateFacts(gate, rule, needs, False, f"{where} is too short: {_BLOCKS} blocks need {least}")
    elif _compares(gate) and stage.duration_s < _BLOCKS * _BLOCK_S:
        least = format_duration(_BLOCKS * _BLOCK_S)
        return GateFacts(gate, rule, needs, None, f"{where} is short: blocks of 5 s need {least}; slow models fewer")
    if stage.rate is None:
        # Of each arm: a pair is one of each, other closed loops share the slots.
        slots = (stage.in_flight or 1) * (1.0 if stage.mode == "paired" else min(_shares(stage)))
        longest = slots * stage.duration_s / needs
        sentence = f"needs {needs} requests of each arm: {where} has them if one takes at most {longest:.3g} s"
        return GateFacts(gate, rule, needs, None, sentence)
    have = min(part for part in (best.requests_baseline, best.requests_candidate) if part)
    enough = have >= needs
    verb = "has" if enough else "has only"
    sentence = f"needs {needs} requests of each arm: {where} {verb} about {have:.0f}"
    if "throughput" in gate.metric:
        sentence += "; at a given rate the load sets it, in_flight shows what the model can do"
    return GateFacts(gate, rule, needs, enough, sentence)


def _by_prompts(facts: GateFacts, prompts: int) -> GateFacts:
    """Quality is judged over prompts: however often these are asked, there are no more of them."""
    if not metrics.is_quality(facts.gate.metric) or not 0 < prompts < facts.needs:
        return facts
    sentence = f"needs {facts.needs} different prompts: there are {prompts}"
    return replace(facts, enough=False, sentence=sentence)


def _answers(gate: Gate, stage: StagePlan) -> bool:
    if stage.purpose in ("deploy", "warm-up", "alone"):
        return False
    if metrics.is_quality(gate.metric):
        equal = stage.mode != "sequential" and stage.shares.get("candidate") == stage.shares.get("baseline")
        return stage.mode == "paired" or (gate.metric not in quality.FORCED and equal)
    if metrics.is_amount(gate.metric) and gate.margin is not None and stage.mode == "sequential":
        return False
    return not _compares(gate) or stage.shares.get("candidate") == stage.shares.get("baseline")


def _compares(gate: Gate) -> bool:
    return (metrics.is_latency(gate.metric) or metrics.is_amount(gate.metric)) and gate.margin is not None


def _shares(stage: StagePlan) -> tuple[float, ...]:
    return tuple(share for arm, share in stage.shares.items() if arm in _COMPARED)


def _needs(gate: Gate) -> int:
    if gate.metric == "errors":
        return math.ceil(math.log(20) / -math.log1p(-(gate.margin or gate.limit or 0.01)))
    if gate.metric == "memory.peak":
        return 0
    if gate.metric == "goodput" and gate.limit is not None:
        return math.ceil(math.log(20) / -math.log1p(-gate.limit))
    if metrics.is_amount(gate.metric):
        return _BLOCKS * _ANSWERS_A_BLOCK
    if metrics.is_quality(gate.metric) and gate.margin is not None and gate.metric != "quality.perplexity":
        return max(_BLOCKS, math.ceil(_UNCHANGED / gate.margin))
    quantile = metrics.quantile(gate.metric)
    return _BLOCKS if quantile is None else max(_BLOCKS, math.ceil(10 / (1 - quantile) - 1e-9))


def _rule(gate: Gate) -> str:
    if gate.within:
        good = ", ".join(f"{time} {format_duration(limit)}" for time, limit in gate.within.items())
        if gate.limit is not None:
            return f"at least {format_percent(round(1 - gate.limit, 12))} of requests within {good}"
        return f"goodput (within {good}) at most {format_percent(gate.margin or 0.0)} below the baseline's"
    if gate.limit is not None:
        of = " of what there is" if gate.limit_kind == "share" else ""
        return f"{gate.metric} at most {metrics.limit_text(gate)}{of}"
    margin = gate.margin or 0.0
    if gate.metric in metrics.THROUGHPUT:
        return f"{gate.metric} at most {format_percent(margin)} below the baseline's"
    if metrics.is_quality(gate.metric):
        against = " other than the baseline's" if gate.metric == "quality.finish" else " worse than the baseline's"
        return f"{gate.metric} at most {metrics.margin_text(gate.metric, margin)}{against}"
    if gate.metric == "errors":
        return f"errors at most {format_points(margin)} more than the baseline's"
    return f"{gate.metric} at most {format_percent(margin)} worse than the baseline's"
