"""Stages of a file and what they become: ramps, steps, sweeps, replays, warm-ups, and splits of three."""

import dataclasses
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import Scenario, describe, load, plan
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
