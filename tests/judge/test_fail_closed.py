"""Every gate fails closed: in a broken recording no stage says promote unless what it asks for was truly seen.

Each metric that the judge knows is the only gate of a stage that is sound, and of the same stage broken in each way of
tests/judge/broken.py. The sentence has to say what is missing. Warnings are errors here, and no number may be none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from harness.judge import Evidence, judge, judge_stage
from harness.judge.metrics import ERRORS, KNOWN, LATENCY, THROUGHPUT, normalise
from harness.types import Finding, Gate, StageVerdict
from tests.judge import broken
from tests.judge.broken import GIB, TTFT_S, Break, Parts
from tests.judge.worlds import S

WITHIN = {"ttft": 1.3 * TTFT_S}
QUALITY = {
    "quality.kl": Gate("quality.kl", limit=0.06),
    "quality.kl.p99": Gate("quality.kl.p99", limit=2.0),
    "quality.perplexity": Gate("quality.perplexity", 0.02),
    "quality.top1": Gate("quality.top1", limit=0.05),
    "quality.flips": Gate("quality.flips", limit=0.10),
    "quality.logprob": Gate("quality.logprob", limit=0.05),
    "quality.score": Gate("quality.score", 0.10, "absolute"),
    "quality.finish": Gate("quality.finish", 0.10, "absolute"),
    "quality.cosine": Gate("quality.cosine", limit=0.01),
    "quality.neighbours": Gate("quality.neighbours", limit=0.10),
    "quality.score.exact": Gate("quality.score.exact", 0.10, "absolute"),
}


def _gates() -> dict[str, Gate]:
    """By name: every metric with a margin where it takes one, and with a limit where it takes one."""
    gates: dict[str, Gate] = {"errors": Gate("errors", 0.01, "absolute"), **QUALITY}
    for metric in (*ERRORS, *LATENCY):
        gates[f"{metric} max"] = Gate(metric, limit=0.01 if metric in ERRORS else 1.0)
    for metric in KNOWN:
        if metric not in (*ERRORS, *QUALITY):
            gates[metric] = Gate(metric, 0.10, within=WITHIN if metric == "goodput" else {})
    gates["goodput max"] = Gate("goodput", limit=0.10, within=WITHIN)
    gates["memory.peak max"] = Gate("memory.peak", limit=40.0 * GIB)
    gates["memory.peak share max"] = Gate("memory.peak", limit=0.9, limit_kind="share")
    return gates


GATES = _gates()
FEW = ("errors", "errors.objective max", "ttft.p50", "icl.p90", "osl", "request_latency.p90 max", "request_throughput",
       "goodput max", "memory.peak", "energy")  # fmt: skip

loaded = cache(broken.loaded)
answering = cache(broken.answering)


def by_time(name: str) -> bool:
    """A time against the baseline's."""
    return GATES[name].metric in LATENCY and GATES[name].limit is None


def nothing(_: str) -> bool:
    return False


@dataclass(frozen=True)
class World:
    """`stage`, `finding`: what the sentence of the stage, and that of a finding that does not pass, have to say.
    `supports`: the gates of which all was seen, so that they may promote. `fails`: those that may fail.
    """

    change: Break
    stage: str
    finding: str = ""
    supports: Callable[[str], bool] = nothing
    fails: Callable[[str], bool] = nothing


ARMS = broken.ARMS
SPLIT = r"v[12] got .* % of requests|pairs are not whole"
UNHEARD = (
    r"v2 got no request|v2 gave no |to v2 has an? |on v2|prompt alike|v2 was asked nothing|v2 answered nothing|0 diff"
)
FIRST = (
    r"v1 got no request|v1 gave no |scored on both|prompt alike|v1 (gives|says|answered)|answer of v1|0 diff|to v2 has"
)
NONE = (
    r"no request|none of|neither|answered nothing|scored on both|prompt alike|v1 (gives|says|answered)|"
    r"no (scores|answer|scored)|v1 got no|was asked nothing"
)
FEW_ONLY = r"at least|12 blocks|up to 95|would bound it|not enough|one prompt|prompt alike"
FAILING = f"{NONE}|of requests fail|too few do"
ALL_FAIL = r"v1 itself fails 100|100.0 % of requests fail"
UNREAD = r"nobody counted|not numbers|found nan|no memory|no GPU|gave no readings"
CLOCK = r"ended before they began"
TWICE = r"repeat the pair id of another of the same arm"
FILES = r"were not kept|has an? icl|scored on both|prompt alike|v1 (gives|says)|no scores|as a vector|no GPU|no memory"


def failing(name: str) -> bool:
    return GATES[name].metric in (*ERRORS, *THROUGHPUT)


WORLDS = {
    "sound": World(lambda parts: parts, "Every gate holds", supports=lambda _: True),
    "no candidate": World(broken.without("candidate"), SPLIT, UNHEARD),
    "no baseline": World(broken.without("baseline"), SPLIT, FIRST),
    "no request": World(broken.without(*ARMS), "no request", NONE),
    "one request an arm": World(broken.one_request, r"due .* were never sent", FEW_ONLY),
    "all requests fail": World(
        broken.answered("error", *ARMS), ALL_FAIL, FAILING,
        fails=lambda name: name in ("errors max", "errors.objective max"),
    ),
    "the candidate fails": World(broken.answered("error", "candidate"), "v2|[Oo]nly|no prompt", UNHEARD, fails=failing),
    "the baseline fails": World(broken.answered("error", "baseline"), "v1 itself fails 100", FIRST),
    "all time out": World(
        broken.answered("timeout", *ARMS), ALL_FAIL, FAILING,
        fails=lambda name: name in ("errors max", "errors.objective max"),
    ),
    "everything cancelled": World(broken.answered("cancelled", *ARMS), "pairs are not whole", NONE),
    "the candidate cancelled": World(
        broken.answered("cancelled", "candidate"), "pairs are not whole", UNHEARD + "|came to an end"
    ),
    "clock steps": World(broken.clock_stepped(*ARMS), CLOCK, "."),
    "a clock of the candidate steps": World(broken.clock_stepped("candidate"), CLOCK, "."),
    "the candidate stops": World(broken.stopped("candidate"), SPLIT, "."),
    "the baseline stops": World(broken.stopped("baseline"), SPLIT, "."),
    "every row twice": World(broken.repeated, TWICE, "."),
    "one id for all": World(broken.of_one_name, TWICE, "."),
    "every row twice, interleaved": World(broken.interleaved(broken.repeated), TWICE, "."),
    "one id for all, interleaved": World(broken.interleaved(broken.of_one_name), TWICE, "."),
    "90 to 10, called paired": World(broken.ninety_to_ten("paired"), SPLIT, "."),
    "90 to 10, called interleaved": World(broken.ninety_to_ten("interleaved"), SPLIT, "."),
    "no times": World(broken.unknown(*ARMS), CLOCK, f"{NONE}|{UNREAD}|0 diff"),
    "no times of the candidate": World(
        broken.unknown("candidate"), CLOCK + "|v2", f"{UNHEARD}|{UNREAD}|of v2",
        fails=lambda name: name.startswith("quality."),
    ),
    "cut short": World(broken.cut_short, r"not over|needs at least", r"not over|needs at least|needed"),
    "lost files": World(
        broken.files_lost, FILES + "|Every gate holds", FILES,
        supports=lambda name: not name.startswith(("icl.", "quality.", "memory.", "energy", "throughput_per_gpu")),
    ),
    "constant": World(
        broken.constant, "without any variation|Every gate holds", "a recording without any variation cannot be judged",
        supports=lambda name: not by_time(name),
    ),
    "a stamp of another epoch": World(broken.absurd, "Every gate holds", supports=lambda _: True),
}  # fmt: skip


@cache
def recorded(world: str, *, of_answers: bool) -> Evidence:
    parts: Parts = answering() if of_answers else loaded()
    return WORLDS[world].change(parts).evidence()


def judged(world: str, *names: str, now_ns: int | None = None) -> StageVerdict:
    of_answers = any(name.startswith("quality.") for name in names)
    gates = normalise([GATES[name] for name in names])
    return judge_stage(replace(recorded(world, of_answers=of_answers), gates=gates), 0, now_ns=now_ns)


@cache
def all_of_quality(world: str) -> StageVerdict:
    return judged(world, *(name for name in QUALITY if name != "quality.score.exact"))


def of(verdict: StageVerdict, name: str) -> Finding:
    return next(f for f in verdict.findings if f.metric == GATES[name].metric and f.reason[:15] != "for information")


def sound_numbers(verdict: StageVerdict) -> bool:
    """No NaN, nothing infinite: those are no JSON."""
    return bool(json.dumps(dataclasses.asdict(verdict), allow_nan=False))


@pytest.mark.parametrize("name", [name for name in GATES if name not in QUALITY])
@pytest.mark.parametrize("world", WORLDS)
def test_a_gate_alone(world: str, name: str) -> None:
    verdict, told = judged(world, name), WORLDS[world]
    found = of(verdict, name)
    assert sound_numbers(verdict)
    if told.supports(name):
        assert (verdict.verdict, found.outcome) == ("promote", "pass"), found.reason
        return
    assert verdict.verdict != "promote"
    assert verdict.verdict == "inconclusive" or told.fails(name), verdict.reason
    assert re.search(told.stage, verdict.reason, re.IGNORECASE), verdict.reason
    if found.outcome in ("no data", "inconclusive"):
        assert re.search(told.finding, found.reason, re.IGNORECASE), found.reason


@pytest.mark.parametrize("world", WORLDS)
def test_gates_on_quality(world: str) -> None:
    """All in one stage: to gather outputs takes its time."""
    verdict, told = all_of_quality(world), WORLDS[world]
    findings = [of(verdict, name) for name in QUALITY if name != "quality.score.exact"]
    assert sound_numbers(verdict)
    if told.supports("quality.kl"):
        assert {f.metric: f.reason for f in findings if f.outcome != "pass"} == {}
        assert verdict.verdict == "promote"
        return
    assert verdict.verdict != "promote"
    assert verdict.verdict == "inconclusive" or told.fails("quality.kl"), verdict.reason
    assert re.search(told.stage, verdict.reason, re.IGNORECASE), verdict.reason
    for found in findings:
        if found.outcome in ("no data", "inconclusive"):
            assert re.search(told.finding, found.reason, re.IGNORECASE), found.reason


@pytest.mark.parametrize("name", QUALITY)
def test_a_gate_on_quality_alone(name: str) -> None:
    assert judged("sound", name).verdict == "promote"
    for world in ("lost files", "no candidate", "one request an arm"):
        verdict = judged(world, name)
        assert verdict.verdict == "inconclusive"
        assert of(verdict, name).outcome in ("no data", "inconclusive")


@pytest.mark.parametrize("world", WORLDS)
def test_no_look_promotes(world: str) -> None:
    for seconds in (1, 160, 319):
        for names in (FEW, ("quality.kl", "quality.score", "quality.finish")):
            verdict = judged(world, *names, now_ns=seconds * S)
            assert verdict.verdict != "promote"
            assert all(of(verdict, name).outcome != "pass" for name in names)
            assert sound_numbers(verdict)


@pytest.mark.parametrize("world", WORLDS)
def test_the_default_gates_of_a_whole_run(world: str) -> None:
    verdict = judge(recorded(world, of_answers=False))
    assert (verdict.verdict == "promote") == WORLDS[world].supports("ttft.p50")
    if verdict.verdict == "inconclusive":
        assert verdict.needs


@pytest.mark.parametrize("name", ["ttft.p50", "request_latency.p99", "response_time.mean"])
def test_of_a_measurement_of_which_much_was_dropped_nothing_is_said(name: str) -> None:
    """Neither is a candidate that takes twice as long called slower, where a third of its times is unknown."""
    parts = broken.clock_stepped("candidate")(broken.loaded({"candidate": 2.0}))
    verdict = judge_stage(replace(parts.evidence(), gates=normalise([GATES[name]])), 0)
    found = of(verdict, name)
    assert (verdict.verdict, found.outcome) == ("inconclusive", "inconclusive")
    assert re.search(r"33\.\d % of the measurement had to be dropped", found.reason)


# -------------------------------------------------------------- swapped arms


@cache
def unlike() -> Evidence:
    """A candidate that takes half as long again, needs half as much memory and energy again, and scores worse."""
    return broken.worse(broken.loaded({"candidate": 1.5})).evidence()


@cache
def alike() -> Evidence:
    return broken.worse(broken.answering()).evidence()


MIRRORED = [name for name in GATES if by_time(name)] + ["memory.peak", "energy", "quality.score", "goodput"]


@pytest.mark.parametrize("name", MIRRORED)
def test_swapped_arms_swap_the_answer(name: str) -> None:
    evidence = replace(alike() if name in QUALITY else unlike(), gates=normalise([GATES[name]]))
    worse, better = (of(judge_stage(e, 0), name) for e in (evidence, broken.swapped(evidence)))
    assert (worse.outcome, better.outcome) == ("fail", "pass"), (worse.reason, better.reason)
    assert worse.effect is not None
    assert better.effect is not None
    if worse.unit == "ratio":
        assert math.log(worse.effect) == pytest.approx(-math.log(better.effect), abs=1e-6)
    else:
        assert worse.effect == pytest.approx(-better.effect)
    assert (worse.baseline, worse.candidate) == (better.candidate, better.baseline)


def test_swapped_arms_swap_errors_too() -> None:
    parts = broken.loaded()
    fails = broken.of_arm(parts.samples, "candidate") & (broken.times(parts.samples, "pair_id") % 50 == 7)
    rows = broken.with_columns(parts.samples, status=np.where(fails, "error", "ok").tolist())
    evidence = replace(parts, samples=rows).evidence()
    evidence = replace(evidence, gates=normalise([Gate("errors", 0.005, "absolute")]))
    worse, better = judge_stage(evidence, 0), judge_stage(broken.swapped(evidence), 0)
    assert (worse.verdict, better.verdict) == ("rollback", "promote")
