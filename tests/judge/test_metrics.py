"""Names of metrics and what a gate on each may say."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.judge import KNOWN, default_gates, known_metric, normalise
from harness.types import Gate


def test_known_metrics() -> None:
    assert all(known_metric(name) for name in KNOWN)
    assert known_metric("ttft")
    for name in ("", "latency", "ttft.p42", "quality", "throughput", "validity.version"):
        assert not known_metric(name)


def test_gates_are_filled_in() -> None:
    gates = normalise([Gate("errors"), Gate("ttft"), Gate("osl"), Gate("tpot.p99", limit=0.2)])
    assert gates == (
        Gate("errors", 0.01, "absolute"),
        Gate("ttft.p50", 0.10),
        Gate("osl", 0.10),
        Gate("tpot.p99", limit=0.2),
    )
    assert normalise(gates) == gates
    assert normalise([Gate("quality.kl", 0.06, "absolute")]) == (Gate("quality.kl", None, "absolute", 0.06),)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate("latency"), "known are errors"),
        (Gate("errors", 0.03), "percentage points"),
        (Gate("errors", 0.0, "absolute"), "above 0"),
        (Gate("errors", limit=1.5), "below 1"),
        (Gate("ttft.p50", 0.01, "absolute"), "relative margin"),
        (Gate("ttft.p50", 0.1, limit=0.3), "one of them"),
        (Gate("ttft.p50", -0.1), "from 0 up"),
        (Gate("ttft.p50", float("nan")), "from 0 up"),
        (Gate("quality.kl"), "takes a limit"),
        (Gate("quality.kl", 0.1), "takes a limit"),
        (Gate("osl", limit=8), "relative margin"),
        (Gate("request_throughput", limit=8), "relative margin"),
        (Gate("energy", limit=8), "relative margin"),
        (Gate("request_throughput", 1.0), "below 1"),
        (Gate("goodput", 0.05), "needs limits on ttft"),
        (Gate("goodput", 0.05, within={"osl": 3}), "needs limits on ttft"),
        (Gate("goodput", 0.05, within={"ttft": 0.0}), "above 0"),
        (Gate("goodput", limit=1.0, within={"ttft": 0.5}), "above 0 and below 1"),
        (Gate("ttft.p50", 0.05, within={"ttft": 0.5}), "only goodput"),
    ],
)
def test_wrong_gates_get_one_clear_line(gate: Gate, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        normalise([gate])
    assert "\n" not in str(raised.value)
    assert gate.metric in str(raised.value)


def test_a_metric_is_gated_once() -> None:
    with pytest.raises(UsageError, match="2 times"):
        normalise([Gate("ttft"), Gate("ttft.p50")])


def test_default_gates() -> None:
    names = [g.metric for g in default_gates(token_model=True, requests=5000)]
    assert names == ["errors", "ttft.p50", "tpot.p50"]
    few = [g.metric for g in default_gates(token_model=False, requests=999)]
    assert few == ["errors", "response_time.p50", "response_time.p90"]
    assert "response_time.p99" in [g.metric for g in default_gates(token_model=False, requests=1000)]
