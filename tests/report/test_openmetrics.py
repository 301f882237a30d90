"""metrics.txt: all figures of a verdict, as OpenMetrics' own parser, Prometheus' and GitLab's rules read them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from harness.judge import judge_operation
from harness.report.openmetrics import gauges, openmetrics
from harness.types import Finding, StageVerdict, Verdict
from tests.judge.operations import GOOD
from tests.report import factory

META = {"scenario": {"name": "fp8-canary"}}
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def text(verdict: Verdict, meta: dict[str, Any] = META) -> str:
    return openmetrics(gauges(meta, verdict))


def read(families: Any) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }  # fmt: skip


def gitlab(page: str) -> dict[str, str]:
    """By GitLab's rules: a `#` begins a comment anywhere; of the words of a line, as a shell splits it, two count."""
    found: dict[str, str] = {}
    for line in page.splitlines():
        name, *rest = shlex.split(re.sub("#.*$", "", line)) or [""]
        if name and rest:
            assert name not in found
            found[name] = rest[0]
    return found


def of(*findings: Finding) -> Verdict:
    return Verdict("rollback", "because", (StageVerdict(0, "rollback", "because", findings),))


def test_the_figures_are_those_of_the_verdict() -> None:
    found = read(read_openmetrics(text(factory.rollback())))

    def value(name: str, **labels: str) -> float:
        return found["triton_canary_" + name, frozenset({"scenario": "fp8-canary", **labels}.items())]

    assert [value("verdict", verdict=one) for one in ("promote", "rollback", "inconclusive")] == [0, 1, 0]
    (finding,) = (one for one in factory.rollback().findings if one.metric == "tpot.p50")
    labels = {"metric": "tpot.p50", "stage": "1", "kind": "comparison"}
    assert value("outcome", **labels) == 1
    assert value("measured_seconds", arm="baseline", **labels) == finding.baseline
    assert value("measured_seconds", arm="candidate", **labels) == finding.candidate
    assert value("relative_effect_ratio", **labels) == finding.effect
    assert (value("relative_effect_lower_ratio", **labels), value("relative_effect_upper_ratio", **labels)) == (
        finding.interval
    )
    assert value("relative_margin_ratio", **labels) == finding.margin
    errors = {**labels, "metric": "errors"}
    assert (value("effect_ratio", **errors), value("margin_ratio", **errors)) == (0.0, 0.03)
    assert value("outcome", **errors) == 0


@pytest.mark.parametrize(
    "verdict",
    [factory.promote, factory.rollback, factory.inconclusive, factory.empty_verdict],
    ids=lambda v: v.__name__,
)
def test_three_readers_read_the_same(verdict: Callable[[], Verdict]) -> None:
    page = text(verdict())
    assert page.endswith("\n# EOF\n")
    assert "\n\n" not in page
    whole = read(read_openmetrics(page))
    assert whole == read(read_prometheus(page))
    assert sorted(map(float, gitlab(page).values())) == sorted(whole.values())
    assert len(gitlab(page)) == len(whole) == sum(len(one.points) for one in gauges(META, verdict()))


@pytest.mark.parametrize("kind", GOOD)
def test_operations_have_figures_too(kind: str) -> None:
    verdict = judge_operation(GOOD[kind]())
    found = read(read_openmetrics(text(verdict)))
    outcomes = [value for (name, _), value in found.items() if name == "triton_canary_outcome"]
    assert len(outcomes) == len(verdict.findings)
    assert len(gitlab(text(verdict))) == len(found)


def test_what_is_not_known_is_left_out() -> None:
    nothing = Finding("ttft.p50", "no data", "Nobody answered.", interval=(None, None), effect=float("nan"))
    found = read(read_openmetrics(text(of(nothing))))
    assert {name for name, _ in found} == {"triton_canary_verdict", "triton_canary_outcome"}
    assert [value for (name, _), value in found.items() if name == "triton_canary_outcome"] == [4]


@pytest.mark.parametrize(
    ("metric", "unit", "names"),
    [
        ("memory.peak", "ratio", {"measured_bytes", "relative_effect_ratio"}),
        ("energy", "ratio", {"measured_joules", "relative_effect_ratio"}),
        ("output_token_throughput", "1/s", {"measured_per_second", "effect_per_second"}),
        ("goodput", "rate", {"measured_per_second", "effect_ratio"}),
        ("response_time.p99", "s", {"measured_seconds", "effect_seconds"}),
        ("quality.top1", "rate", {"measured_ratio", "effect_ratio"}),
        ("quality.kl", "nats", {"measured_nats", "effect_nats"}),
        ("memory.goal", "rate", {"measured_ratio", "effect_ratio"}),
        ("traffic.strays", "1", {"measured", "effect"}),
        ("osl", "ratio", {"measured", "relative_effect_ratio"}),
        ("own", "cm / s", {"measured_cm_s", "effect_cm_s"}),
    ],
)
def test_units_are_in_the_names(metric: str, unit: str, names: set[str]) -> None:
    families = list(read_openmetrics(text(of(Finding(metric, "pass", "x", unit=unit, effect=2.0, candidate=3.0)))))
    found = {one.name.removeprefix("triton_canary_"): one.unit for one in families}
    assert found.keys() == {"verdict", "outcome", *names}
    assert all(name.endswith(f"_{unit}") for name, unit in found.items() if unit)


def test_no_text_breaks_a_line() -> None:
    evil = "a \"b\" \\ c\n# EOF\n{} 'x' $HOME `id` = 1, #"
    finding = dataclasses.replace(factory.finding("quality.x"), metric=f"quality.{evil}")
    meta = {"scenario": {"name": evil}}
    page = text(of(finding), meta)
    whole = read(read_openmetrics(page))
    assert whole == read(read_prometheus(page))
    shown = "a \"b\" \\ c _ EOF {} 'x' $HOME `id` = 1, _"
    assert all(("scenario", shown) in labels for _, labels in whole)
    assert sorted(map(float, gitlab(page).values())) == sorted(whole.values())
    assert any(f"scenario={shown}," in name for name in gitlab(page))


def test_two_findings_of_one_name_are_two_series() -> None:
    page = text(of(Finding("recovery", "pass", "x"), Finding("recovery", "fail", "y")))
    found = read(read_openmetrics(page))
    outcomes = {
        dict(labels)["metric"]: value for (name, labels), value in found.items() if name == "triton_canary_outcome"
    }
    assert outcomes == {"recovery": 0, "recovery (2)": 1}
