"""Sketches, and one pass over very many samples, give the verdict of the samples themselves."""

import math
from itertools import product

import pytest

from harness.judge import Evidence, evidence_of, judge
from harness.types import Finding, Gate, Verdict
from tests.judge.sketched.worlds import GATES, World, counted

# Of a quantile; means and lengths are exact.
BIN = math.log(1.01)
KINDS: dict[str, dict[str, float]] = {
    "equal": {},
    "slower": {"slow": 1.45},
    "faster": {"slow": 0.8},
    "failing": {"fails": 0.10},
    "longer": {"longer": 1.5},
    "timing out": {"timeouts": 0.01, "begin_s": 1003.7},
}
WORLDS = [
    pytest.param(World(mode=mode, seed=seed, seconds=75, **KINDS[kind]), id=f"{mode}-{kind}-{seed}")  # type: ignore[arg-type]
    for mode, kind, seed in product(("paired", "interleaved"), KINDS, range(6))
]


def judged(verdict: Verdict) -> dict[str, Finding]:
    """What decides, by metric."""
    return {f.metric: f for f in verdict.findings if not f.reason.startswith("for information")}


def agree(exact: Finding, binned: Finding, width: float) -> None:
    """The same outcome, and numbers within a bin: its half for each arm, and for bounds that which widens them, too."""
    assert binned.outcome == exact.outcome, (exact.reason, binned.reason)
    assert (binned.n_baseline, binned.n_candidate) == (exact.n_baseline, exact.n_candidate)
    if exact.metric == "errors":
        assert (binned.effect, binned.interval) == (exact.effect, exact.interval)
        return
    if exact.metric == "osl" or (exact.metric.endswith(".mean") and width == BIN / 2):
        width = 1e-9
    for name, times in (("baseline", 1), ("candidate", 1), ("effect", 2)):
        one, two = getattr(exact, name), getattr(binned, name)
        # And what lies between two neighbours of so many values, of which one is taken here.
        assert abs(math.log(two / one)) <= times * (width + 5e-4 * (width > 1e-9)), (exact.metric, name, one, two)
    assert exact.interval is not None
    assert binned.interval is not None
    for one, two in zip(exact.interval, binned.interval, strict=True):
        assert one is not None
        assert two is not None
        assert abs(math.log(two / one)) <= 3 * width + 0.05 * abs(math.log(exact.interval[1] / exact.interval[0]))  # type: ignore[operator]


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_verdict_and_the_same_outcome_of_each_gate(world: World) -> None:
    recording = world.recording()
    exact = judge(Evidence.of(recording))
    assert exact.verdict == ("promote" if world.slow <= 1 and world.longer == 1 and world.fails < 0.1 else "rollback")
    wanted = judged(exact)
    assert set(wanted) == {gate.metric for gate in GATES}
    of_sketches, of_many = judge(evidence_of(world.as_sketches(recording))), judge(counted(recording))
    for found, width in ((of_sketches, BIN / 2), (of_many, 0.001 / 2)):
        assert found.verdict == exact.verdict
        assert set(judged(found)) == set(wanted)
        for metric, finding in judged(found).items():
            agree(wanted[metric], finding, width)


def test_the_same_default_gates() -> None:
    world = World(gates=(), seed=4)
    recording = world.recording()
    wanted = Evidence.of(recording).rules
    assert [gate.metric for gate in wanted] == ["errors", "ttft.p50", "tpot.p50"]
    assert evidence_of(world.as_sketches(recording)).rules == wanted
    assert counted(recording).rules == wanted


@pytest.mark.parametrize("mode", ["paired", "interleaved"])
@pytest.mark.parametrize(
    ("gates", "kind", "outcome"),
    [
        ((Gate("request_throughput", margin=0.1),), {}, "pass"),
        ((Gate("request_throughput", margin=0.1),), {"fails": 0.4}, "fail"),
        ((Gate("output_token_throughput", margin=0.1),), {}, "pass"),
        ((Gate("output_token_throughput", margin=0.1),), {"longer": 0.6}, "fail"),
        ((Gate("response_time.p50", limit=0.5),), {}, "pass"),
        ((Gate("response_time.p50", limit=0.03),), {}, "fail"),
        ((Gate("response_time.mean", limit=0.5),), {}, "pass"),
        ((Gate("response_time.mean", limit=0.03),), {}, "fail"),
        ((Gate("errors", limit=0.02),), {}, "pass"),
        ((Gate("errors.objective", limit=0.02),), {"fails": 0.1}, "fail"),
    ],
)
def test_gates_on_amounts_and_limits(mode: str, gates: tuple[Gate, ...], kind: dict[str, float], outcome: str) -> None:
    world = World(mode=mode, seconds=150, gates=gates, **kind)  # type: ignore[arg-type]
    recording = world.recording()
    for verdict in (judge(Evidence.of(recording)), judge(evidence_of(world.as_sketches(recording)))):
        found = judged(verdict)[gates[0].metric]
        assert found.outcome == outcome, found.reason
