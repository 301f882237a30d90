"""The built-in scenario on the real language model: minutes, so `make test-slow`. `make seeds` repeats it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.recording import Recording
from tests.run.conftest import canary, only_folder

pytestmark = [pytest.mark.triton, pytest.mark.weights, pytest.mark.slow, pytest.mark.alone]


@pytest.mark.parametrize(
    ("build", "metric"), [("fp8-shifted", "quality.kl"), ("slow", "tpot.p50"), ("erring", "errors")]
)
def test_a_faulty_build_is_rolled_back_for_its_fault(tmp_path: Path, build: str, metric: str) -> None:
    """A stage ends as soon as the fault is proven. A time needs 60 pairs, which take a slow machine more than 90 s."""
    options = ("--set", f"candidate.build={build}", "--set", "stages.0.for=4m")
    done = canary("run", "fp8-canary", "--out", tmp_path, "--json", *options)
    assert done.code == 1, done.stderr
    failed = {finding["metric"] for finding in done.verdict["findings"] if finding["outcome"] == "fail"}
    assert metric in failed
    folder = only_folder(tmp_path)
    samples = Recording.open(folder).samples.to_pandas()
    assert (samples[samples.arm == "baseline"].status == "ok").all()
    assert json.loads((folder / "split.json").read_text())["candidate_share"] == 0.0


def test_a_good_build_is_never_rolled_back(tmp_path: Path) -> None:
    """Promoted on a quiet machine; a busy one may widen the intervals until time is not enough, and no further."""
    done = canary("run", "fp8-canary", "--out", tmp_path, "--json")
    assert done.code in (0, 3), done.stderr
    findings = done.verdict["findings"]
    assert not [finding for finding in findings if finding["outcome"] == "fail"]
    quality = [f for f in findings if f["metric"] == "quality.kl" and f["kind"] == "comparison"]
    assert [finding["outcome"] for finding in quality] == ["pass"]
    if done.code == 0:
        config = (only_folder(tmp_path) / "models" / "smollm2" / "config.pbtxt").read_text()
        assert "2" in config.partition("version_policy")[2].partition("}")[0]
    else:
        assert {f["outcome"] for f in findings if f["metric"] == "errors"} <= {"pass", "inconclusive"}
