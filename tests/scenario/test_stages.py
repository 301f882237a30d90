"""Stages of a file and what they become: ramps, steps, sweeps, replays, warm-ups, and splits of three."""

import dataclasses
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import Scenario, describe, load, plan, requests
from harness.types import StagePlan

TOP = """\
name: loads
target: {url: "grpc://host:8001"}
baseline: {model: llm, version: 1}
candidate: {model: llm, version: 2}
"""
TRACE = "timestamp,input_length,output_length\n0,3,1\n1.5,4,2\n9,5,3\n"


def read(folder: Path, stages: str, more: str = "") -> Scenario:
    path = folder / "loads.yaml"
    path.write_text(f"{TOP}{more}stages:\n  - {stages}\n")
    found = load(str(path))
    assert isinstance(found, Scenario)
    return found


def stages(folder: Path, section: str, more: str = "") -> tuple[StagePlan, ...]:
    return plan(read(folder, section, more)).stages


def test_a_ramp_of_rates(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, "{mode: paired, rate: 10/s, to: 100/s, for: 60s}")
    assert stage == StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=10.0, rate_to=100.0)


def test_a_ramp_of_a_closed_loop(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, "{mode: interleaved, in_flight: 1, to: 32, for: 60s}")
    assert stage == StagePlan(0, "interleaved", "closed", 60.0, 0.5, in_flight=1, in_flight_to=32)


def test_steps_share_the_time(tmp_path: Path) -> None:
    found = stages(tmp_path, "{mode: paired, steps: [10/s, 20/s, 40/s], for: 90s, arrival: constant}")
    assert found == tuple(
        StagePlan(index, "paired", "constant", 30.0, 0.5, rate=rate, series=3)
        for index, rate in enumerate((10.0, 20.0, 40.0))
    )
    assert [stage.in_flight for stage in stages(tmp_path, "{mode: paired, steps: [1, 4], for: 9s}")] == [1, 4]


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("{rate: [10/s, 30/m, 40/s]}", [10.0, 0.5, 40.0]),
        ("{from: 10/s, to: 160/s, count: 5}", [10.0, 20.0, 40.0, 80.0, 160.0]),
        ("{from: 3/s, to: 100/s, count: 4}", [3.0, 9.65489, 31.0723, 100.0]),
        ("{from: 40/s, to: 10/s, count: 4, spacing: linear}", [40.0, 30.0, 20.0, 10.0]),
    ],
)
def test_a_sweep_of_rates_takes_its_time_for_each(tmp_path: Path, sweep: str, expected: list[float]) -> None:
    found = stages(tmp_path, f"{{mode: paired, sweep: {sweep}, for: 60s}}")
    assert [stage.rate for stage in found] == expected
    assert {(stage.duration_s, stage.arrival, stage.series) for stage in found} == {(60.0, "poisson", len(expected))}


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("{in_flight: [1, 2, 8]}", [1, 2, 8]),
        ("{from: 1, to: 64, count: 7}", [1, 2, 4, 8, 16, 32, 64]),
        ("{from: 2, to: 11, count: 4, spacing: linear}", [2, 5, 8, 11]),
    ],
)
def test_a_sweep_of_closed_loops(tmp_path: Path, sweep: str, expected: list[int]) -> None:
    found = stages(tmp_path, f"{{mode: interleaved, sweep: {sweep}, for: 60s}}")
    assert [stage.in_flight for stage in found] == expected
    assert {stage.arrival for stage in found} == {"closed"}


def test_gamma_arrivals(tmp_path: Path) -> None:
    own = "{mode: paired, rate: 9/s, for: 9s, arrival: gamma, burstiness: 0.25}"
    assert stages(tmp_path, own)[0].burstiness == 0.25
    loads = "load: {arrival: gamma, burstiness: 0.5}\n"
    assert stages(tmp_path, own, loads)[0].burstiness == 0.25
    assert stages(tmp_path, "{mode: paired, rate: 9/s, for: 9s}", loads)[0].burstiness == 0.5
    assert stages(tmp_path, "{mode: paired, rate: 9/s, for: 9s, arrival: poisson}", loads)[0].burstiness == 1.0
    (deploy, _) = stages(tmp_path, "{mode: paired, in_flight: 1, for: 9s}", loads + "deploy: {rate: 5/s}\n")
    assert (deploy.arrival, deploy.burstiness) == ("gamma", 0.5)


def test_a_warm_up_comes_before_each_of_the_stages(tmp_path: Path) -> None:
    found = stages(tmp_path, "{mode: paired, sweep: {rate: [10/s, 20/s]}, for: 60s, warm_up: 5s}")
    assert [(s.index, s.purpose, s.duration_s, s.rate) for s in found] == [
        (0, "warm-up", 5.0, 10.0),
        (1, "compare", 60.0, 10.0),
        (2, "warm-up", 5.0, 20.0),
        (3, "compare", 60.0, 20.0),
    ]


def test_the_warm_up_of_a_ramp_stays_where_it_begins(tmp_path: Path) -> None:
    warm, ramp = stages(tmp_path, "{mode: paired, rate: 10/s, to: 100/s, for: 60s, warm_up: 5s}")
    assert warm == dataclasses.replace(ramp, index=0, purpose="warm-up", duration_s=5.0, rate_to=None)


def test_the_baseline_alone_gets_what_both_arms_will(tmp_path: Path) -> None:
    alone, paired = stages(tmp_path, "{mode: paired, rate: 10/s, for: 60s, alone: 20s}")
    assert paired == StagePlan(1, "paired", "poisson", 60.0, 0.5, rate=10.0)
    assert alone == StagePlan(0, "split", "poisson", 20.0, 0.0, rate=20.0, purpose="alone", together=2)
    alone, _ = stages(tmp_path, "{mode: paired, in_flight: 3, for: 60s, alone: 20s}")
    assert (alone.in_flight, alone.together) == (6, 2)
    alone, _ = stages(tmp_path, "{mode: interleaved, rate: 10/s, for: 60s, alone: 20s}")
    assert (alone.rate, alone.together) == (10.0, 1)
    found = stages(tmp_path, "{mode: paired, sweep: {rate: [10/s, 20/s]}, for: 60s, warm_up: 5s, alone: 9s}")
    assert [(s.purpose, s.rate) for s in found] == [
        ("warm-up", 10.0), ("alone", 20.0), ("compare", 10.0), ("warm-up", 20.0), ("alone", 40.0), ("compare", 20.0),
    ]  # fmt: skip


def test_a_prompt_leaves_twice_at_once_where_the_baseline_is_beside_itself(tmp_path: Path) -> None:
    alone, _ = stages(tmp_path, "{mode: paired, rate: 10/s, for: 60s, alone: 100s}")
    asked = list(requests(alone, 7, 5))
    assert {request.arms for request in asked} == {("baseline", "baseline")}
    assert [request.pair_id for request in asked] == list(range(0, 2 * len(asked), 2))
    assert len(asked) == pytest.approx(1000, abs=150), "pairs, at half of the rate of requests"
    shares = [list(requests(alone, 7, 5, worker=worker, workers=3)) for worker in range(3)]
    assert sorted((request for share in shares for request in share), key=lambda request: request.pair_id) == asked


def test_a_stage_that_ends_when_it_is_decided(tmp_path: Path) -> None:
    found = stages(tmp_path, "{mode: paired, rate: 10/s, for: 30m, until: decided, warm_up: 5s, alone: 9s}")
    assert [(s.purpose, s.until_decided) for s in found] == [("warm-up", False), ("alone", False), ("compare", True)]
    assert found[2].duration_s == 1800.0


def test_turns_go_a_b_b_a(tmp_path: Path) -> None:
    found = stages(tmp_path, "{mode: sequential, rate: 10/s, for: 96s, cycles: 2}")
    assert [s.candidate_share for s in found] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert [s.period for s in found] == list(range(1, 9))
    assert {(s.mode, s.duration_s, s.periods, s.series) for s in found} == {("sequential", 12.0, 8, 1)}
    assert [s.shares for s in found[:2]] == [{"baseline": 1.0}, {"candidate": 1.0}]
    assert len(stages(tmp_path, "{mode: sequential, in_flight: 1, for: 96s}")) == 12


def test_both_turns_of_a_half_cycle_get_the_same_arrivals_and_prompts(tmp_path: Path) -> None:
    found = [s for s in stages(tmp_path, "{mode: sequential, rate: 10/s, for: 96s, warm_up: 1s}") if s.period]
    asked = [[(r.due_ns, r.prompt) for r in requests(stage, 7, 5)] for stage in found]
    assert asked[0] == asked[1] != asked[2] == asked[3]
    first = next(requests(found[1], 7, 5))
    assert first.arms == ("candidate",)
    assert first.pair_id >> 32 == found[1].index


def test_a_replay_lasts_as_long_as_its_trace(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    planned = plan(read(tmp_path, "{mode: paired, arrival: trace, warm_up: 2s}", "load: {trace: t.csv}\n"))
    warm, replay = planned.stages
    assert replay == StagePlan(1, "paired", "trace", 9.001, 0.5, rate=3 / 9.001)
    assert (warm.arrival, warm.rate, warm.duration_s, warm.purpose) == ("poisson", 3 / 9.001, 2.0, "warm-up")
    assert planned.trace_ns == (0, 1_500_000_000, 9_000_000_000)
    assert [(len(prompt.text.split()), prompt.max_tokens) for prompt in planned.prompts] == [(3, 1), (4, 2), (5, 3)]


def test_a_replay_of_a_part_at_another_speed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    planned = plan(read(tmp_path, "{mode: paired, arrival: trace, for: 3s}", "load: {trace: t.csv, speed: 2x}\n"))
    assert planned.stages == (StagePlan(0, "paired", "trace", 3.0, 0.5, rate=2 / 3),)
    assert planned.trace_ns == (0, 750_000_000)
    assert len(planned.prompts) == 2


def test_a_trace_whose_times_nobody_replays_lends_its_lengths(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    planned = plan(read(tmp_path, "{mode: paired, rate: 1/s, for: 3s}", "load: {trace: t.csv}\n"))
    assert len(planned.prompts) == 3


def test_a_split_of_three(tmp_path: Path) -> None:
    scenario = read(tmp_path, "{mode: split, candidate: 10%, baseline: 10%, rate: 50/s, for: 60s}")
    (stage,) = plan(scenario).stages
    assert stage == StagePlan(0, "split", "poisson", 60.0, 0.1, rate=50.0, baseline_share=0.1)
    assert scenario.arms["stable"] == scenario.baseline
    own = read(
        tmp_path,
        "{mode: split, candidate: 10%, baseline: 10%, rate: 50/s, for: 60s}",
        'stable: {model: llm, version: 1, url: "grpc://prod:8001"}\n',
    )
    assert own.arms["stable"].url == "grpc://prod:8001"


def test_a_split_of_two_whose_shares_are_all(tmp_path: Path) -> None:
    scenario = read(tmp_path, "{mode: split, candidate: 10%, baseline: 90%, rate: 50/s, for: 60s}")
    assert plan(scenario).stages[0].baseline_share is None
    assert set(scenario.arms) == {"baseline", "candidate"}


def test_the_soak_goes_on_where_a_ramp_ended(tmp_path: Path) -> None:
    last = "{mode: split, candidate: 100%, rate: 10/s, to: 50/s, for: 60s}"
    _, soak = stages(tmp_path, last, "on_promote: {keep_baseline: 10s}\n")
    assert soak == StagePlan(1, "split", "poisson", 10.0, 1.0, rate=50.0, purpose="soak")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{mode: paired, rate: 1/s, to: 8, for: 9s}", "6:35: stages.0.to: expected a rate such as 10/s, as the other values are, found 8"),  # noqa: E501
        ("{mode: paired, in_flight: 1, to: 8/s, for: 9s}", "6:38: stages.0.to: expected a number in flight such as 8"),
        ("{mode: paired, rate: 1/s, to: soon, for: 9s}", "6:35: stages.0.to: expected a rate such as 10/s, or a number in flight such as 8, found 'soon'"),  # noqa: E501
        ("{mode: paired, to: 8/s, for: 9s}", "6:5: stages.0: give rate (such as rate: 1/s) or in_flight"),
        ("{mode: paired, steps: [1/s], for: 9s}", "6:27: stages.0.steps: expected at least 2 entries, found 1"),
        ("{mode: paired, steps: [1/s, 2], for: 9s}", "6:33: stages.0.steps.1: expected a rate such as 10/s"),
        ("{mode: paired, steps: [1/s, 2/s], rate: 1/s, for: 9s}", "6:27: stages.0.steps: give rate or steps, not both"),
        ("{mode: paired, steps: [1/s, 2/s], to: 1/s, for: 9s}", "6:43: stages.0.to: a ramp leads from rate or"),
        ("{mode: paired, steps: [1, 20000], for: 9s}", "6:31: stages.0.steps.1: expected at most 10000 in flight"),
        ("{mode: paired, sweep: {rate: [1/s]}, steps: [1/s, 2/s], for: 9s}", "6:27: stages.0.sweep: give steps or"),
        ("{mode: paired, sweep: {rate: [1/s, 4]}, for: 9s}", "6:40: stages.0.sweep.rate.1: expected a rate such"),
        ("{mode: paired, sweep: {rate: []}, for: 9s}", "6:34: stages.0.sweep.rate: expected at least one entry"),
        ("{mode: paired, sweep: {rate: [1/s, 1/s]}, for: 9s}", "6:34: stages.0.sweep.rate: 1/s comes twice"),
        ("{mode: paired, sweep: {in_flight: [1/s]}, for: 9s}", "6:40: stages.0.sweep.in_flight.0: expected a number"),
        ("{mode: paired, sweep: {from: 1/s, to: 9/s}, for: 9s}", "6:27: stages.0.sweep.count: is missing"),
        ("{mode: paired, sweep: {from: 1/s, to: 9, count: 3}, for: 9s}", "6:43: stages.0.sweep.to: expected a rate"),
        ("{mode: paired, sweep: {from: 1, to: 3, count: 9}, for: 9s}", "6:51: stages.0.sweep.count: 1 comes twice"),
        ("{mode: paired, sweep: {}, for: 9s}", "6:27: stages.0.sweep: give rate, in_flight, or from, to and count"),
        ("{mode: paired, sweep: {rate: [1/s], from: 2/s}, for: 9s}", "6:27: stages.0.sweep: give rate, in_flight, or"),
        ("{mode: paired, sweep: {rates: [1/s]}, for: 9s}", "6:28: stages.0.sweep.rates: unknown key; did you mean"),
        ("{mode: paired, arrival: trace}", "6:29: stages.0.arrival: needs load.trace"),
        ("{mode: paired, arrival: trace, burstiness: 2}", "6:48: stages.0.burstiness: only gamma arrivals have it"),
        ("{mode: paired, arrival: trace, rate: 1/s}", "6:42: stages.0.rate: a trace has its own times"),
        ("{mode: paired, rate: 1/s}", "6:5: stages.0.for: is missing"),
        ("{mode: paired, arrival: gamma, rate: 1/s, for: 9s}", "6:5: stages.0: gamma arrivals need burstiness"),
        ("{mode: paired, burstiness: 2, rate: 1/s, for: 9s}", "6:32: stages.0.burstiness: only gamma arrivals have it"),
        ("{mode: paired, arrival: gamma, burstiness: 0, rate: 1/s, for: 9s}", "6:48: stages.0.burstiness: expected a number from 0.01 to 1000"),  # noqa: E501
        ("{mode: paired, arrival: constant, burstiness: 2, rate: 1/s, for: 9s}", "6:51: stages.0.burstiness: only"),
        ("{mode: paired, burstiness: 2, steps: [1, 2], for: 9s}", "6:32: stages.0.burstiness: needs a rate"),
        ("{mode: paired, baseline: 10%, rate: 1/s, for: 9s}", "6:30: stages.0.baseline: only a split has shares"),
        ("{mode: split, candidate: 60%, baseline: 50%, rate: 1/s, for: 9s}", "6:45: stages.0.baseline: candidate and baseline get more than 100% together"),  # noqa: E501
        ("{mode: split, candidate: 60%, baseline: 0%, rate: 1/s, for: 9s}", "6:45: stages.0.baseline: expected a share above 0%"),  # noqa: E501
        ("{mode: paired, rate: 1/s, for: 9s, warm_up: 0s}", "6:49: stages.0.warm_up: expected 1ms to 1d, found 0s"),
        ("{mode: paired, rate: 1/s, for: 9s, alone: 0s}", "6:47: stages.0.alone: expected 1ms to 1d, found 0s"),
        ("{mode: split, candidate: 50%, rate: 1/s, for: 9s, alone: 9s}", "6:62: stages.0.alone: only in a paired or interleaved stage"),  # noqa: E501
        ("{mode: paired, rate: 1/s, to: 9/s, for: 9s, alone: 9s}", "6:56: stages.0.alone: needs a load that stays the same through the stage; found a ramp"),  # noqa: E501
        ("{mode: paired, arrival: trace, alone: 9s}", "6:43: stages.0.alone: needs a load that stays the same through the stage; found a trace"),  # noqa: E501
        ("{mode: sequential, rate: 1/s, for: 9s, alone: 9s}", "6:51: stages.0.alone: not in a sequential stage: an"),
        ("{mode: paired, rate: 1/s, for: 9s, until: sure}", "6:47: stages.0.until: expected 'decided', found 'sure'"),
        ("{mode: split, candidate: 5%, rate: 1/s, for: 9s, until: decided}", "6:61: stages.0.until: only in a paired"),
        ("{mode: sequential, rate: 1/s, for: 9s, until: decided}", "6:51: stages.0.until: not in a sequential stage"),
        ("{mode: paired, rate: 1/s, to: 9/s, for: 9s, until: decided}", "6:56: stages.0.until: needs a load that"),
        ("{mode: paired, rate: 1/s, until: decided}", "6:5: stages.0.for: is missing"),
        ("{mode: paired, rate: 1/s, for: 9s, cycles: 2}", "6:48: stages.0.cycles: only a sequential stage has cycles"),
        ("{mode: sequential, rate: 1/s, for: 9s, cycles: 26}", "6:52: stages.0.cycles: expected a whole number at most 25"),  # noqa: E501
        ("{mode: sequential, rate: 1/s, to: 2/s, for: 9s}", "6:39: stages.0.to: a sequential stage has one load"),
        ("{mode: sequential, steps: [1/s, 2/s], for: 9s}", "6:31: stages.0.steps: a sequential stage has one load"),
        ("{mode: sequential, arrival: trace}", "6:33: stages.0.arrival: a sequential stage gives each of its periods"),
        ("{mode: sequential, candidate: 10%, rate: 1/s, for: 9s}", "6:35: stages.0.candidate: only a split has shares"),
        ("{mode: paired, sweep: {from: 1/s, to: 9/s, count: 101}, for: 9s}", "6:55: stages.0.sweep.count: expected a whole number at most 100"),  # noqa: E501
    ],
)  # fmt: skip
def test_one_line_says_where_and_what(tmp_path: Path, section: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, section)
    assert "\n" not in str(caught.value)
    assert str(caught.value).removeprefix(f"{tmp_path}/loads.yaml:").startswith(expected), str(caught.value)


@pytest.mark.parametrize(
    ("stable", "stage", "expected"),
    [
        ("{model: llm, version: 1}", "{mode: paired, rate: 1/s, for: 9s}", "5:9: stable: no stage leaves it a share"),
        ("{model: llm, version: 2}", "{mode: split, candidate: 1%, baseline: 1%, rate: 1/s, for: 9s}", "5:9: stable: expected what serves now, found the candidate"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_stable_arm_that_makes_no_sense(tmp_path: Path, stable: str, stage: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, stage, f"stable: {stable}\n")
    assert str(caught.value).removeprefix(f"{tmp_path}/loads.yaml:").startswith(expected), str(caught.value)


def test_too_many_stages_in_all(tmp_path: Path) -> None:
    section = "{mode: paired, sweep: {from: 1/s, to: 9/s, count: 60}, for: 9s}"
    with pytest.raises(ScenarioError, match="stages: expected at most 100 stages, found 120 with steps and sweeps"):
        read(tmp_path, f"{section}\n  - {section}")


def test_a_latency_gate_is_answered_by_equal_parts_of_a_split(tmp_path: Path) -> None:
    gate = "gates: [{metric: ttft.p50, margin: 10%}]\n"
    scenario = read(tmp_path, "{mode: split, candidate: 10%, baseline: 10%, rate: 50/s, for: 60s}", gate)
    assert describe(scenario).gates[0].enough is True
    with pytest.raises(ScenarioError, match="needs a paired or interleaved stage"):
        read(tmp_path, "{mode: split, candidate: 10%, baseline: 20%, rate: 50/s, for: 60s}", gate)


def test_check_says_what_each_stage_does(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    several = (
        "{mode: split, candidate: 10%, baseline: 10%, rate: 50/s, for: 60s}\n"
        "  - {mode: paired, arrival: trace, warm_up: 2s}\n"
        "  - {mode: paired, rate: 1/s, to: 9/s, for: 60s, arrival: gamma, burstiness: 0.5}\n"
        "  - {mode: interleaved, in_flight: 1, to: 9, for: 60s}\n"
        "  - {mode: paired, steps: [10/s, 20/s], for: 60s}"
    )
    facts = describe(read(tmp_path, several, "load: {trace: t.csv, workers: 4}\n"))
    assert [stage.sentence for stage in facts.stages] == [
        "split: 10% to the candidate, 10% to the baseline, 80% to stable, requests at 50/s, for 60s",
        "warm-up: every prompt to both, pairs at 0.333/s, for 2s",
        "paired: every prompt to both, 3 pairs of the trace (on average 0.333/s), for 9.001s",
        "paired: every prompt to both, pairs at 1/s to 9/s, gamma with burstiness 0.5, for 60s",
        "interleaved: alternating at random, 1 to 9 requests in flight, for 60s",
        "paired: every prompt to both, pairs at 10/s, for 30s",
        "paired: every prompt to both, pairs at 20/s, for 30s",
    ]
    assert facts.workers == 4
    assert facts.counted is not None
    assert facts.counted.startswith("words, taken for tokens")
    assert [(stage.requests_baseline, stage.requests_candidate) for stage in facts.stages[:1]] == [(300.0, 300.0)]
    assert facts.stages[3].requests_candidate == 300.0
    assert facts.duration_s == pytest.approx(60 + 2 + 9.001 + 60 + 60 + 60)


def test_check_says_what_is_measured_alone_in_turns_and_until_decided(tmp_path: Path) -> None:
    several = (
        "{mode: paired, rate: 10/s, for: 30m, until: decided, alone: 20s}\n"
        "  - {mode: interleaved, in_flight: 2, for: 60s, alone: 20s}\n"
        "  - {mode: sequential, rate: 10/s, for: 60s, cycles: 1}"
    )
    facts = describe(read(tmp_path, several))
    assert [stage.sentence for stage in facts.stages] == [
        "alone: all to the baseline, every prompt twice at once, requests at 20/s, for 20s",
        "paired: every prompt to both, pairs at 10/s, until decided, 1800s at most",
        "alone: all to the baseline, 2 requests in flight, for 20s",
        "interleaved: alternating at random, 2 requests in flight, for 60s",
        "sequential (1 of 4): all to the baseline, requests at 10/s, for 15s",
        "sequential (2 of 4): all to the candidate, requests at 10/s, for 15s",
        "sequential (3 of 4): all to the candidate, requests at 10/s, for 15s",
        "sequential (4 of 4): all to the baseline, requests at 10/s, for 15s",
    ]
    assert facts.duration_s == 20 + 1800 + 20 + 60 + 60


def test_turns_answer_a_gate_together(tmp_path: Path) -> None:
    gate = "gates: [{metric: ttft.p99, margin: 10%}]\n"
    (ttft,) = describe(read(tmp_path, "{mode: sequential, rate: 10/s, for: 60s}", gate)).gates
    assert ttft.enough is False
    assert ttft.sentence == "needs 1000 requests of each arm: stage 12 (sequential, 60s) has only about 300"
    (ttft,) = describe(read(tmp_path, "{mode: sequential, in_flight: 2, for: 60s}", gate)).gates
    assert ttft.sentence.endswith("has them if one takes at most 0.06 s")


SWAPPED = "{mode: sequential, in_flight: 1, for: 60s}"


def test_check_says_that_versions_are_swapped(tmp_path: Path) -> None:
    path = tmp_path / "loads.yaml"
    path.write_text(f"{TOP.replace('}', ', swap: true}', 1)}stages: [{SWAPPED}]\n")
    facts = describe(load(str(path)))
    assert facts.steps[1] == (
        "swap versions before each turn: llm version 1 leaves before llm version 2 comes, and the reverse"
    )


@pytest.mark.parametrize(
    ("stage", "more", "expected"),
    [
        ("{mode: paired, in_flight: 1, for: 60s}", "", "stages.0.mode: target.swap loads one version at a time"),
        (SWAPPED, "load: {cache: warm}\n", "load.cache: warm asks both versions before the run"),
        (SWAPPED, "on_fail: {route: baseline}\n", "on_fail: target.swap puts back what served before"),
        (SWAPPED, "deploy: {rate: 5/s}\n", "deploy: target.swap loads one version at a time"),
    ],
)
def test_what_does_not_go_with_swaps(tmp_path: Path, stage: str, more: str, expected: str) -> None:
    path = tmp_path / "loads.yaml"
    path.write_text(f"{TOP.replace('}', ', swap: true}', 1)}{more}stages: [{stage}]\n")
    with pytest.raises(ScenarioError, match=expected):
        load(str(path))


def test_swaps_are_between_versions_of_one_model_on_one_server(tmp_path: Path) -> None:
    path, swap = tmp_path / "loads.yaml", TOP.replace("}", ", swap: true}", 1)
    path.write_text(f"{swap.replace('candidate: {model: llm', 'candidate: {model: other')}stages: [{SWAPPED}]\n")
    with pytest.raises(ScenarioError, match="model: expected another version of the baseline's model, llm"):
        load(str(path))
    path.write_text(swap.replace("version: 2}", 'version: 2, url: "grpc://b:8001"}') + f"stages: [{SWAPPED}]\n")
    with pytest.raises(ScenarioError, match="url: versions are swapped on one server"):
        load(str(path))
