"""How numbers are written, and what the page computes by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judge.quality.kl import kl_topk
from harness.recording import Recording
from harness.report import facts, panels, words
from harness.report.about import summary_line
from harness.report.quality import divergences, quality
from harness.types import Finding, Gate, Reading, StageVerdict, Verdict
from tests.report import factory


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0 s"),
        (0.0000481, "48.1 µs"),
        (0.0481, "48.1 ms"),
        (0.57, "570 ms"),
        (0.99996, "1.00 s"),
        (1.234, "1.23 s"),
        (83.0, "83.0 s"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 %"),
        (0.1, "10 %"),
        (0.1234, "12.3 %"),
        (0.0002, "0.02 %"),
        (1.0, "100 %"),
        (3.5, "350 %"),
        (5e21, ">10,000 %"),
    ],
)
def test_percent(value: float, text: str) -> None:
    assert words.percent(value) == text


@pytest.mark.parametrize(
    ("finding", "texts"),
    [
        (
            Finding("ttft.p50", "pass", "", effect=1.123, interval=(1.08, 1.16), margin=1.1),
            ("+12.3 %", "+8 to +16 %", "+10 %"),
        ),
        (
            Finding("errors", "pass", "", unit="pp", effect=0.0, interval=(0.0, 0.03), margin=0.03),
            ("0 pp", "0 to +3 pp", "+3 pp"),
        ),
        (
            Finding("quality.kl", "fail", "", unit="nats", effect=0.41, interval=(0.4, None), margin=0.06),
            ("0.410 nats", "at least 0.400 nats", "0.0600 nats"),
        ),
        (
            Finding("ttft.p50", "pass", "", unit="s", effect=0.18, interval=(None, 0.2), margin=0.25),
            ("180 ms", "at most 200 ms", "250 ms"),
        ),
        (Finding("ttft.p50", "no data", ""), ("–", "–", "–")),
        (
            Finding("ttft.p50", "pass", "", effect=math.inf, interval=(1.0, math.inf)),
            ("–", "at least 0 %", "–"),
        ),
    ],
)
def test_a_finding_in_its_own_unit(finding: Finding, texts: tuple[str, str, str]) -> None:
    assert (words.effect(finding), words.interval(finding), words.margin(finding)) == texts


def test_gates_in_words() -> None:
    rules = [words.gate_rule(gate) for gate in factory.GATES]
    assert rules == [
        "at most 3 percentage points above the baseline", "at most 10 % worse than the baseline",
        "at most 10 % worse than the baseline", "never above 0.0600",
    ]  # fmt: skip
    assert words.gate_rule(Gate("ttft.p50", limit=0.5)) == "never above 500 ms"


def test_the_divergence_is_the_judges_own() -> None:
    random = np.random.default_rng(11)
    logits = random.normal(0, 2, (50, 30))
    moved = logits + random.normal(0, 0.5, logits.shape)

    def top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        ids = np.argsort(-logs, axis=1)[:, :k]
        return ids, np.take_along_axis(logs, ids, axis=1)

    p, q = top(logits, 5), top(moved, 5)
    ours, same = divergences(*p, *q)
    np.testing.assert_allclose(ours, kl_topk(*p, *q), rtol=1e-12)
    np.testing.assert_array_equal(same, logits.argmax(1) == moved.argmax(1))
    full, _ = divergences(*top(logits, 30), *top(moved, 30))
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    others = np.exp(moved) / np.exp(moved).sum(1, keepdims=True)
    np.testing.assert_allclose(full, (weights * np.log(weights / others)).sum(1), rtol=1e-6)
    assert (ours <= full + 1e-9).mean() > 0.9


def test_quality_tells_floor_from_drift() -> None:
    found = quality(factory.recording(plans=factory.PLANS[:1], drifts=1.0))
    assert len(found.kl["baseline"]) == len(found.kl["candidate"]) == found.pairs
    assert found.kl["baseline"].mean() < 1e-5 < 0.05 < found.kl["candidate"].mean()
    assert found.agreement["baseline"].mean() == 1.0
    assert found.agreement["candidate"].mean() < 0.95
    assert [example.kl for example in found.examples] == sorted((e.kl for e in found.examples), reverse=True)
    assert 0 < found.differing <= found.pairs
    assert not quality(factory.nothing())


def test_counters_are_shown_by_their_speed_and_gauges_as_they_are() -> None:
    rows = [Reading(n * factory.NS, "triton", "m/1", "inference.queue_duration", 0.5 * n, "s") for n in range(5)]
    rows += [Reading(n * factory.NS, "host", "host", "memory.used", 2.0**30, "bytes") for n in range(5)]
    rows += [Reading(5 * factory.NS, "triton", "m/1", "inference.queue_duration", 0.1, "s")]  # began anew
    recording = Recording(
        factory.Path("run"), {}, factory.nothing().samples, readings=factory.table(rows, factory.READINGS)
    )
    series = facts.readings(recording)
    (queue,) = panels.panels(series, panels.REST)
    assert (queue.unit, queue.lines[0].value.tolist()) == ("1", [0.5] * 4)
    assert "queue" in queue.title
    (memory,) = panels.panels(series, panels.MEMORY)
    assert (memory.unit, set(memory.lines[0].value)) == ("bytes", {2.0**30})
    assert [(row.metric, row.samples, row.high) for row in panels.rows(series)] == [
        ("memory.used", 5, "1.00 GiB"), ("inference.queue_duration, per second", 6, "0.500"),
    ]  # fmt: skip


def test_counts_are_whole_numbers() -> None:
    found = Finding("traffic.strays", "fail", "x", kind="watch", unit="1", effect=1200.0, margin=0.0)
    assert (words.effect(found), words.margin(found), words.measured(found.metric, 1.0)) == ("1,200", "0", "1")


def test_a_rollback_that_protects_the_traffic_says_nothing_of_the_build() -> None:
    strays = Finding("traffic.strays", "fail", "x", kind="watch", unit="1", effect=1.0, margin=0.0)
    errors = Finding("errors", "fail", "x", unit="pp", effect=0.5, margin=0.03)
    for findings, sentence in (((strays,), words.PROTECTED), ((strays, errors), words.ONE_SENTENCE["rollback"])):
        verdict = Verdict("rollback", "x", (StageVerdict(0, "rollback", "x", findings),))
        assert summary_line(verdict) == sentence
