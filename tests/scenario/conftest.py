"""A scenario file to change in tests."""

from pathlib import Path

import pytest

ISSUE = """\
name: fp8-canary
target: {server: embedded}            # or {url: "grpc://triton:8001"}
baseline: {model: smollm2, version: 1}
candidate: {model: smollm2, version: 2, build: fp8}
load: {prompts: prompts/questions.jsonl, max_tokens: 8}
gates:
  - {metric: errors, margin: 3pp}
  - {metric: ttft.p50, margin: 10%}
  - {metric: tpot.p50, margin: 10%}
  - {metric: quality.kl, max: 0.06}
stages:
  - {mode: paired, in_flight: 1, for: 90s}
  - {mode: split, candidate: 10%, rate: 1/s, for: 20s}
  - {mode: split, candidate: 50%, rate: 1/s, for: 30s}
  - {mode: split, candidate: 100%, rate: 1/s, for: 20s}
on_fail: {route: baseline, unload: candidate}
on_promote: {keep_baseline: 10s, then: unload}
"""


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    """The example that the vocabulary began with, word for word, and three prompts beside it."""
    path = tmp_path / "canary.yaml"
    path.write_text(ISSUE)
    prompts = tmp_path / "prompts" / "questions.jsonl"
    prompts.parent.mkdir()
    prompts.write_text('{"prompt": "One?"}\n{"prompt": "Two?", "topic": "numbers"}\n\n{"prompt": "Three?"}\n')
    return path


def changed(path: Path, old: str, new: str) -> Path:
    """The file with one text replaced, which must be there exactly once."""
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))
    return path
