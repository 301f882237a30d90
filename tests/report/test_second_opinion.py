"""Looks and a second opinion in a terminal: they fit, and nothing in them is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from harness.report import draw_opinion, looks_table
from harness.types import Finding, Look, MetricOpinion, SecondOpinion, StageVerdict
from tests.report.test_terminal import drawn

TOLD = "Kayenta passes it: 60 points an arm differ by z = 1.7 where it takes 3.1; ours fails it"
METRICS = (
    MetricOpinion("errors", "Pass", "pass", True, "both pass it", "errors", True, (60, 60)),
    MetricOpinion(
        "request_latency.p99", "Pass", "fail", False, TOLD, "latency", False, (60, 57), "ms", 1.7, 2.311, 8.1,
        (-1.73, 19.0),
    ),
)  # fmt: skip
OPINION = SecondOpinion(
    "NetflixACAJudge-v1.0", "pass", 100.0, False, "its pass does not agree with our rollback", METRICS,
    {"errors": 100.0, "latency": 100.0}, ("quality.kl",), 5.0, 95.0, 75.0,
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_an_opinion_fits_and_is_whole(width: int) -> None:
    rows = drawn(draw_opinion(OPINION), width)
    text = " ".join(" ".join(rows).split())
    assert max(cell_len(row) for row in rows) <= width
    assert "…" not in text
    assert "request_latency.p99 Pass ✗ fail 60 and 57 1.7 2.311 -1.73 to 19.0 ms" in text
    assert "errors (critical) Pass ✓ pass 60 – – –" in text
    assert f"≠ request_latency.p99: {TOLD}" in text
    assert "= errors: both pass it" in text
    assert "no series of points is made of quality.kl" in text


def test_a_sentence_cannot_steer_the_terminal() -> None:
    evil = replace(OPINION, metrics=(replace(METRICS[0], reason="a\x1b[2Jb\nc"),), reason="x\x1b[31m")
    assert "\x1b" not in "".join(drawn(draw_opinion(evil)))


def test_nothing_to_compare() -> None:
    rows = drawn(draw_opinion(replace(OPINION, metrics=(), left_out=())))
    assert "score 100" in rows[0]


def look(after_s: float, outcome: str, verdict: str = "inconclusive") -> Look:
    found = Finding(
        "response_time.p99", outcome, "a reason", stage=1, effect=1.42,  # type: ignore[arg-type]
        interval=(1.132, 1.504), margin=1.1,
    )  # fmt: skip
    return Look(after_s, 300.0, StageVerdict(1, verdict, "a reason", (found,)), decides=verdict == "rollback")  # type: ignore[arg-type]


def test_a_trail_fits_and_is_whole() -> None:
    made = [*(look(10.0 * n, "inconclusive") for n in range(1, 20)), look(200.5, "fail", "rollback")]
    rows = drawn(looks_table(made))
    assert max(cell_len(row) for row in rows) <= 80
    text = [" ".join(row.split()) for row in rows]
    assert text[0] == "20 looks, of which each saw what was done by then:"
    assert text[2:] == [
        "10 s ? inconclusive ? response_time.p99 +42 % +13.2 to +50.4 % +10 %",
        "… 17 more like it",
        "190 s ? inconclusive ? response_time.p99 +42 % +13.2 to +50.4 % +10 %",
        "200.5 s ✗ rollback ✗ response_time.p99 +42 % +13.2 to +50.4 % +10 %",
    ]
