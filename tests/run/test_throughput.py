"""Throughput and memory as gates, on a real Triton in a closed loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.execute import execute
from harness.scenario import Scenario, load
from tests.run.measured import measured

SCENARIO = """
name: slow-build
target: {server: embedded}
baseline: {model: tiny, version: 1, build: fp16}
candidate: {model: tiny, version: 2, build: {delay_ms: 20}}
load: {timeout: 20s}
gates:
  - {metric: request_throughput, margin: 25%}
  - {metric: memory.peak, margin: 50%}
stages:
  - {mode: paired, in_flight: 1, for: 15s}
"""


@pytest.mark.triton
def test_a_slow_build_is_found_by_its_throughput_though_both_arms_answer_equally_often(tmp_path: Path) -> None:
    (tmp_path / "slow-build.yaml").write_text(SCENARIO)
    scenario = load(str(tmp_path / "slow-build.yaml"))
    assert isinstance(scenario, Scenario)
    result = measured(lambda out: execute(scenario, out, lambda _: None, lambda _: None), tmp_path / "out")
    assert result.error is None
    assert result.exit_code == 1
    found = {finding.metric: finding for finding in result.verdict.findings}
    throughput, memory = found["request_throughput"], found["memory.peak"]
    assert throughput.outcome == "fail"
    assert abs(throughput.n_baseline - throughput.n_candidate) <= 1
    assert throughput.effect is not None
    assert throughput.effect < 0.75
    assert throughput.margin == 0.75
    assert "for each request in flight" in throughput.reason
    assert result.verdict.reason.startswith("Request throughput is ")
    assert memory.outcome in ("pass", "inconclusive"), "a look that rolls back leaves it open"
    assert memory.effect == pytest.approx(1, abs=0.3)
    assert "MiB of the processes of tiny/2 against " in memory.reason
