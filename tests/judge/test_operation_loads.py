"""Verdicts on what loads did to each other, and on what a night gained and cost: from facts made by hand."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest

from harness.judge import judge_operation
from harness.judge.operations import night
from harness.judge.operations.blocks import Compared, means, rates, times
from harness.judge.operations.loads import errors
from harness.types import Verdict
from tests.judge.loads import URL, bins, generator, multi_model_server, night_batch, setting, two_deployments, window


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {finding.metric: finding.outcome for finding in verdict.findings}


def reason(verdict: Verdict, metric: str) -> str:
    (found,) = [finding.reason for finding in verdict.findings if finding.metric == metric]
    return found


# ---------------------------------------------------------------- the comparison


def blocks(rng: np.random.Generator, count: int, median_s: float, n: int = 40, between: float = 0.1) -> list[Any]:
    """Blocks with a common factor each: requests of one second resemble each other."""
    found = []
    for level in np.exp(between * rng.standard_normal(count)):
        took = median_s * level * np.exp(0.3 * rng.standard_normal(n))
        found.append({"seconds": 1.0, "done": rng.poisson(n * level), "times": {"response_time": bins(took)}})
    return found


@pytest.mark.parametrize("what", ["p50", "p95", "rate"])
def test_a_bound_that_holds_with_95_percent_does(what: str) -> None:
    """Of 100 experiments with a true ratio of 1.5, at most 5 % have an upper bound below it; 12 % is beyond chance."""
    missed = {"upper": 0, "lower": 0}
    for trial in range(100):
        rng = np.random.default_rng([7, trial])
        a, b = blocks(rng, 20, 0.010), blocks(rng, 20, 0.015)
        if what == "rate":
            b = blocks(rng, 20, 0.010, n=60)
            found = rates(a, b, "done", trial)
        else:
            found = times(a, b, "response_time", {"p50": 0.5, "p95": 0.95}[what], trial)
        assert found is not None
        missed["upper"] += found.upper(0.05) < 1.5
        missed["lower"] += found.lower(0.05) > 1.5
    assert max(missed.values()) <= 11, missed


def test_the_interval_is_narrow_enough_to_be_of_use() -> None:
    rng = np.random.default_rng(3)
    found = times(blocks(rng, 20, 0.010), blocks(rng, 20, 0.015), "response_time", 0.5)
    assert found is not None
    assert found.ratio == pytest.approx(1.5, rel=0.15)
    assert found.upper(0.05) / found.lower(0.05) < 1.3


def test_blocks_that_resemble_their_neighbours_widen_it() -> None:
    rng = np.random.default_rng(5)
    still = blocks(rng, 30, 0.01, between=0.2)
    ordered = sorted(still, key=lambda block: np.average(block["times"]["response_time"][0]))
    shuffled, trending = (times(still, each, "response_time", 0.5, 1) for each in (still, ordered))
    assert shuffled is not None
    assert trending is not None
    assert trending.upper(0.05) > 1.3 * shuffled.upper(0.05) - 0.3


def test_too_few_blocks_or_requests_is_no_answer() -> None:
    rng = np.random.default_rng(1)
    assert times(blocks(rng, 4, 0.01), blocks(rng, 20, 0.01), "response_time", 0.5) is None
    assert times(blocks(rng, 20, 0.01), blocks(rng, 20, 0.01), "ttft", 0.5) is None
    assert times(blocks(rng, 20, 0.01, n=10), blocks(rng, 20, 0.01, n=10), "response_time", 0.99) is None
    assert rates([{"seconds": 1.0, "done": 0, "times": {}}] * 9, blocks(rng, 9, 0.01), "done") is None
    assert means([1.0] * 4, [1.0] * 9) is None


def test_what_never_varies_has_an_interval_of_one_point() -> None:
    found = means([2.0] * 10, [3.0] * 10)
    assert isinstance(found, Compared)
    assert found.upper(0.05) == pytest.approx(1.5)
    assert found.lower(0.05) == pytest.approx(1.5)


# ---------------------------------------------------------------- multi-model-server


def test_models_that_live_together_within_the_limits_are_promoted() -> None:
    verdict = judge_operation(multi_model_server())
    assert verdict.verdict == "promote", verdict
    found = outcomes(verdict)
    assert {"embedding.response_time.p50", "llm.ttft.p50", "llm.tpot.p50", "llm.output_token_throughput"} <= set(found)
    assert "llm.response_time.p99" not in found, "400 requests alone: it takes 500"
    assert "embedding.response_time.p99" in found, "800 requests alone"


def test_a_time_that_is_proven_to_be_beyond_its_limit_is_a_rollback() -> None:
    verdict = judge_operation(multi_model_server(together=3.0))
    assert verdict.verdict == "rollback"
    assert outcomes(verdict)["embedding.response_time.p50"] == "fail"
    assert outcomes(verdict)["llm.response_time.p50"] == "pass"
    assert "embedding together, against alone" in verdict.reason


def test_a_time_near_its_limit_is_inconclusive() -> None:
    verdict = judge_operation(multi_model_server(together=2.0))
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict)["embedding.response_time.p50"] == "inconclusive"


def test_throughput_that_falls_is_found_where_no_time_grows() -> None:
    facts = multi_model_server(together=1.0)
    for one in facts["windows"]:
        if one["load"] == "llm" and one["stage"] == 2:
            for block in one["blocks"]:
                block["done"] //= 2
                block["tokens"] //= 2
    verdict = judge_operation(facts)
    assert verdict.verdict == "rollback"
    assert {m for m, o in outcomes(verdict).items() if o == "fail"} == {
        "llm.request_throughput", "llm.output_token_throughput",
    }  # fmt: skip


def test_drift_between_the_two_times_alone_is_no_verdict_on_the_models() -> None:
    verdict = judge_operation(multi_model_server(alone_again=1.8))
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict)["embedding.drift"] == "inconclusive"
    assert "Something else changed meanwhile" in reason(verdict, "embedding.drift")


def test_memory_beyond_its_limit_or_not_seen() -> None:
    assert outcomes(judge_operation(multi_model_server(memory=0.95)))["memory.peak"] == "fail"
    facts = multi_model_server()
    assert reason(judge_operation(facts), "memory.peak") == (
        "Peak memory of gpu0 was 40 GiB, 50.0 % of its 80 GiB, limit 90 %; read every 100.0 ms, what rose and fell in "
        "between is not seen (phase 1); together 1x alone (0.995 to 1.01)"
    )
    facts["memory"][2] = {"missing": "no process is known"}
    verdict = judge_operation(facts)
    assert (verdict.verdict, outcomes(verdict)["memory.peak"]) == ("inconclusive", "no data")
    assert reason(verdict, "memory.peak").startswith("Peak memory of gpu0 was 40 GiB")
    assert "(phase 1); but phase 3: no process is known" in reason(verdict, "memory.peak")
    facts["memory"] = [{"missing": "no process is known"}]
    assert reason(judge_operation(facts), "memory.peak") == ("Memory was not measured: phase 1: no process is known")
    facts["memory"] = []
    assert outcomes(judge_operation(facts))["memory.peak"] == "no data"


def test_requests_that_fail_and_a_generator_that_is_late() -> None:
    facts = multi_model_server()
    facts["windows"][0] = window("embedding", 0, failed=60, lag_s=0.01)
    verdict = judge_operation(facts)
    assert outcomes(verdict)["embedding.errors"] == "fail"
    assert "refused" in reason(verdict, "embedding.errors")
    assert outcomes(verdict)["embedding.load"] == "inconclusive"
    few = multi_model_server()
    few["windows"][0]["blocks"][0]["failed"] = 1
    assert outcomes(judge_operation(few))["embedding.errors"] == "pass"


@pytest.mark.parametrize("together", [1.3, 5.0])
def test_a_run_whose_generator_fell_behind_neither_promotes_nor_rolls_back(together: float) -> None:
    facts = multi_model_server(together=together)
    for number, one in enumerate(facts["windows"]):
        if one["load"] == "embedding":
            slower = together if one["stage"] == 2 else 1.0
            facts["windows"][number] = window("embedding", one["stage"], took_s=0.02 * slower, lag_s=0.05)
    verdict = judge_operation(facts)
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict)["embedding.response_time.p50"] == "inconclusive"
    assert outcomes(verdict)["llm.ttft.p50"] == "pass", "the other load kept up"
    night = night_batch(gain=1.02)
    night["windows"] = [
        window("realtime", one["stage"], lag_s=0.05) if one["rate"] else one for one in night["windows"]
    ]
    verdict = judge_operation(night)
    assert {metric for metric, outcome in outcomes(verdict).items() if outcome == "fail"} == {"gain.request_throughput"}
    assert outcomes(verdict)["back.response_time.p50"] == "inconclusive"


BOTTLENECKS: list[tuple[dict[str, Any], str]] = [
    ({"generator": generator(20, cpu=0.97)}, "Load worker 0 used 97.0 % of a core, so the generator is the bottleneck"),
    ({"held": 3.0, "in_flight": 16}, "3 requests were in flight on average, asked for were 16"),
    ({"generator": generator(20, stall_s=0.08)}, "event loop (worker 0) stood still for 8.0 % of the time"),
    ({"generator": generator(20, steal=[0.3] * 20)}, "Other guests of the same host took 30.0 % of its CPU"),
    ({"cancelled": {"generator out of sockets": 9}}, "9 of 2000 requests were given up by the load generator"),
]


@pytest.mark.parametrize(("change", "expected"), BOTTLENECKS)
def test_a_closed_loop_whose_generator_is_the_bottleneck_counts_neither_way(
    change: dict[str, Any], expected: str
) -> None:
    """Batch jobs gain nothing, because it is the generator that cannot do more."""
    facts = night_batch(gain=1.0)
    for one in facts["windows"]:
        if one["load"] == "batch":
            one |= change
    verdict = judge_operation(facts)
    assert verdict.verdict == "inconclusive", verdict
    found = outcomes(verdict)
    assert found["load.batch"] == found["gain.request_throughput"] == "inconclusive"
    assert found["load.realtime"] == "pass"
    assert expected in reason(verdict, "load.batch")
    assert "because of load.batch" in reason(verdict, "gain.request_throughput")
    # The cause comes first.
    assert expected in verdict.reason
    assert verdict.needs == "a load that this machine can send: more `workers`, or a faster machine"


def test_slots_that_wait_for_a_connection_are_not_in_flight() -> None:
    facts = night_batch()
    for one in facts["windows"]:
        if one["load"] == "batch":
            one["generator"]["workers"]["worker0"]["unsent"] = [8] * 20
    assert "waited for a free connection" in reason(judge_operation(facts), "load.batch")


def test_a_figure_of_the_generator_that_is_missing_never_passes() -> None:
    def cut(load: str, change: Any) -> Verdict:
        facts = night_batch()
        for one in facts["windows"]:
            if one["load"] == load:
                change(one)
        return judge_operation(facts)

    def no_lag(one: Any) -> None:
        for block in one["blocks"]:
            block["times"].pop("send_lag", None)

    for load, change in [
        ("batch", lambda one: one.pop("generator")),
        ("batch", lambda one: one["generator"]["workers"].clear()),
        ("batch", lambda one: one["generator"]["workers"]["worker0"].update(cpu=[])),
        ("batch", lambda one: one.pop("held")),
        ("realtime", lambda one: one["generator"]["workers"]["worker0"].update(stall_max=[])),
        ("realtime", no_lag),
    ]:
        verdict = cut(load, change)
        assert outcomes(verdict)[f"load.{load}"] == "no data"
        assert verdict.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("failed", "of", "expected", "because"),
    [
        (
            0,
            20,
            "inconclusive",
            "0 of 20 requests failed (95 % sure: at most 13.9 % do, 1 % may): it takes 299 requests",
        ),
        (0, 299, "pass", "0 of 299 requests failed (95 % sure: at most 1.0 % do, 1 % may)"),
        (5, 500, "inconclusive", "it takes 1,049 requests of which no more fails"),
        (5, 1049, "pass", ""),
        (10, 500, "inconclusive", ""),
        (20, 500, "fail", "at most 1 % of them may"),
    ],
)
def test_errors_are_within_their_limit_once_that_is_shown(failed: int, of: int, expected: str, because: str) -> None:
    found = errors("errors", [{"blocks": [{"due": of, "failed": failed}]}], 0.01)
    assert found.outcome == expected
    assert because in found.reason
    assert errors("errors", [{"blocks": [{"due": 5, "failed": 0}]}], 0.0).outcome == "pass"
    assert errors("errors", [{"blocks": [{"due": 5, "failed": 1}]}], 0.0).outcome == "fail"


def test_quantiles_without_enough_requests_are_named_and_not_judged() -> None:
    facts = multi_model_server()
    for one in facts["windows"]:
        if one["load"] == "llm":
            one["blocks"] = one["blocks"][:5]
    verdict = judge_operation(facts)
    assert {"llm.response_time.p50", "llm.ttft.p50"} <= set(outcomes(verdict))
    assert not {"llm.response_time.p95", "llm.response_time.p99"} & set(outcomes(verdict))
    assert "too few requests (40) to judge p95, p99" in reason(verdict, "llm.load")


# ---------------------------------------------------------------- night-batch


def test_a_night_that_gains_and_gives_back_is_promoted() -> None:
    verdict = judge_operation(night_batch())
    assert verdict.verdict == "promote", verdict
    assert "1.6" in reason(verdict, "gain.request_throughput")
    assert set(outcomes(verdict)) >= {"setting.day", "setting.night", "switch.dusk", "switch.dawn", "load.realtime"}


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"gain": 1.02}, "gain.request_throughput"),
        ({"paid": 9.0}, "paid.response_time.p95"),
        ({"back": 2.0}, "back.response_time.p50"),
        ({"in_switch": 1}, "switch.dusk"),
        ({"day_us": 20_000}, "setting.day"),
    ],
)
def test_each_thing_that_is_wrong_is_a_rollback_of_its_own(change: dict[str, Any], metric: str) -> None:
    verdict = judge_operation(night_batch(**change))
    assert verdict.verdict == "rollback"
    assert outcomes(verdict)[metric] == "fail"
    assert reason(verdict, metric) in verdict.reason


def test_what_only_became_faster_meanwhile_is_no_gain() -> None:
    """1.6 times as much by night, and just as much with the day's setting once more: the server had warmed up."""
    verdict = judge_operation(night_batch(gain=1.6, again=1.6))
    assert verdict.verdict == "inconclusive"
    found = outcomes(verdict)
    assert found["gain.request_throughput"] == found["drift.request_throughput"] == "inconclusive"
    assert "against the day's afterwards" in reason(verdict, "gain.request_throughput")
    assert "Something else changed meanwhile" in reason(verdict, "drift.request_throughput")
    slower = outcomes(judge_operation(night_batch(gain=1.02, again=0.95)))
    assert slower["gain.request_throughput"] == "fail", "against either"
    two = judge_operation(two_deployments(b=1.4, again=1.4))
    assert two.verdict == "inconclusive"
    assert outcomes(two)["b.request_throughput"] == outcomes(two)["drift.request_throughput"] == "inconclusive"


def test_a_dawn_that_was_late_is_told() -> None:
    facts = night_batch()
    facts["switches"][1]["late_s"] = 33.4
    assert "The switch at dawn in 2.0 s (33 s late): 0 of" in reason(judge_operation(facts), "switch.dawn")


def test_a_setting_that_one_version_has_not_is_named() -> None:
    facts = night_batch()
    facts["seen"]["dawn"][URL]["2"] = setting(20_000)
    assert "version 2 has max_queue_delay 20 ms" in reason(judge_operation(facts), "setting.day")
    del facts["seen"]["dawn"][URL]
    assert outcomes(judge_operation(facts))["setting.day"] == "no data"


def test_latency_without_a_limit_is_shown() -> None:
    facts = night_batch(paid=9.0)
    facts["limits"]["latency"] = None
    verdict = judge_operation(facts)
    assert verdict.verdict == "promote"
    assert "no limit" in reason(verdict, "paid.response_time.p95")


def test_a_switch_without_requests_proves_nothing() -> None:
    facts = night_batch()
    facts["windows"] = [one for one in facts["windows"] if one["stage"] != night.SWITCH_DAWN]
    verdict = judge_operation(facts)
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict)["switch.dawn"] == "no data"


def test_two_deployments_show_the_trade() -> None:
    verdict = judge_operation(two_deployments())
    assert verdict.verdict == "promote", verdict
    assert "0.2" in reason(verdict, "trade.response_time.p95")
    assert outcomes(judge_operation(two_deployments(b=1.0)))["b.request_throughput"] == "fail"
    assert outcomes(judge_operation(two_deployments(b_waits=9.0)))["b.response_time.p95"] == "fail"


def test_a_model_without_batches_has_no_option_a() -> None:
    facts = two_deployments()
    facts["no_batches"] = "max_batch_size is 0"
    for key in ("wanted", "seen"):
        del facts[key]
    facts["switches"] = []
    alone = (night.SHARED, night.SEPARATE, night.SHARED_AGAIN)
    facts["windows"] = [one for one in facts["windows"] if one["stage"] in alone]
    verdict = judge_operation(facts)
    assert verdict.verdict == "promote", verdict
    assert not any(metric.startswith(("a.", "trade.", "setting.")) for metric in outcomes(verdict))


@pytest.mark.parametrize("make", [multi_model_server, night_batch, two_deployments])
def test_no_window_that_is_missing_promotes(make: Any) -> None:
    facts = make()
    measured = range(len(facts["windows"]))
    for left_out in itertools.chain([set(measured)], ({number} for number in measured)):
        cut = copy.deepcopy(facts)
        cut["windows"] = [one for number, one in enumerate(facts["windows"]) if number not in left_out]
        verdict = judge_operation(cut)
        if left_out == set(measured):
            assert verdict.verdict == "inconclusive"
        assert verdict.verdict in ("promote", "inconclusive")
