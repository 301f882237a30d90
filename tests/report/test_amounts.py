"""Findings on throughput, memory and energy, as every report writes them."""

from __future__ import annotations

import re

import pytest

from harness.report import words
from harness.report.figures.forest import forest
from harness.types import Finding, Gate

SLOWER = Finding(
    "request_throughput", "fail", "x", effect=0.84, interval=(0.82, 0.86), margin=0.95, baseline=19.8, candidate=16.5
)
LARGER = Finding("memory.peak", "pass", "x", effect=1.05, interval=(1.05, 1.05), margin=1.1, baseline=2**34)
LIMITED = Finding("memory.peak", "pass", "x", unit="bytes", effect=39.0 * 2**30, margin=40.0 * 2**30)
SHARE = Finding("goodput", "fail", "x", unit="rate", effect=0.981, margin=0.99)


def test_in_words() -> None:
    assert (words.effect(SLOWER), words.interval(SLOWER), words.margin(SLOWER)) == ("-16 %", "-18 to -14 %", "-5 %")
    assert (words.effect(LIMITED), words.margin(LIMITED)) == ("39.0 GiB", "40.0 GiB")
    assert (words.effect(SHARE), words.margin(SHARE)) == ("98.1 %", "99 %")
    assert words.measured("request_throughput", 19.8) == "19.8 /s"
    assert words.measured("memory.peak", 2.0**34) == "16.0 GiB"
    assert words.measured("energy", 5.128) == "5.13 J"


@pytest.mark.parametrize(
    ("gate", "rule"),
    [
        (Gate("memory.peak", limit=40.0 * 2**30), "never above 40.0 GiB"),
        (Gate("energy", 0.1), "at most 10 % worse than the baseline"),
        (Gate("goodput", 0.05, within={"ttft": 0.5}), "at most 5 % below the baseline, within ttft 500 ms"),
        (Gate("goodput", limit=0.01, within={"ttft": 0.5}), "at least 99 % of requests, within ttft 500 ms"),
    ],
)
def test_rules(gate: Gate, rule: str) -> None:
    assert words.gate_rule(gate) == rule


def test_the_side_beyond_a_floor_is_below_it() -> None:
    assert [words.falls(finding) for finding in (SLOWER, LARGER, LIMITED, SHARE)] == [True, False, False, True]
    below, margin = _shaded(forest([SLOWER], lambda f: f.metric))
    assert max(below) == pytest.approx(margin, abs=0.1)
    above, margin = _shaded(forest([LARGER], lambda f: f.metric))
    assert min(above) == pytest.approx(margin, abs=0.1)


def _shaded(svg: str) -> tuple[list[float], float]:
    """From where to where it is shaded, and where the margin lies."""
    drawn = re.search(r'<path id="([^"]+)" d="([^"]+)"/></defs><g[^>]*><use href="#\1"[^>]*fill-opacity: 0\.13', svg)
    assert drawn is not None
    margin = re.search(r'd="M ([0-9.]+) [0-9.]+ L \1 [0-9.]+ "[^>]*stroke: var\(--fail\); stroke-width: 1\.4', svg)
    assert margin is not None
    return [float(x) for x in re.findall(r"[ML] ([0-9.]+) ", drawn[2])], float(margin[1])
