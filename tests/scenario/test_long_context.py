"""long-context as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import LongContext, describe, load

FILE = """\
kind: long-context
name: long
target: {url: "grpc://triton:8001", repository: models, metrics_url: ["http://triton:8002/metrics"]}
baseline: {model: llm, version: 1}
candidate: {model: llm, version: 2, kv_bits: 8}
goal: {context: 8192, batch: 4}
contexts: [1024, 2048, 4096, 6144]
batches: [1, 2, 4]
limits: {memory: 70GiB, margin: 10%, edge: 0%}
on_oom: {reduce: max_batch_size}
"""


def scenario(folder: Path, text: str = FILE, *overrides: str) -> LongContext:
    file = folder / "long.yaml"
    file.write_text(text)
    found = load(file, overrides)
    assert isinstance(found, LongContext)
    return found


def test_a_whole_file(tmp_path: Path) -> None:
    found = scenario(tmp_path)
    assert list(found.arms) == ["baseline", "candidate"]
    assert found.limits.memory.limit == 70 * 2**30
    assert found.target.repository == str(tmp_path / "models")
    assert found.target.metrics_url == ("http://triton:8002/metrics",)
    assert not found.embedded
    steps = "\n".join(describe(found).steps)
    assert "12 points, each in a fresh instance" in steps
    assert "50%, 75%, 90%, 100%, 110% of 8192 tokens at batch 4, 3 times, each in a fresh instance" in steps
    assert "reduce max_batch_size" in steps
    assert "70GiB of memory" in steps
    assert "look for" not in steps


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("contexts=[1024, 2048]", "expected at least 8 points (contexts times batches), found 6"),
        ("contexts=[2048, 1024, 4096, 6144]", "contexts: expected whole numbers that rise, found [2048,"),
        ("contexts=[8, 16, 32, 64]", "contexts.0: a context holds max_tokens (8) and a prompt"),
        ("batches=[0, 1, 2]", "batches: expected whole numbers that rise"),
        ("limits.memory=lots", "limits.memory: expected"),
        ("baseline=null", "limits.margin: there is no baseline to hold it against"),
        ("candidate.version=1", "candidate.version: expected two versions, found the same twice"),
        ("candidate.version=null", "candidate: it is loaded alone: say which version"),
        ("candidate.build=fp8", "candidate.build: builds are made by the embedded server only; remove it"),
        ("candidate.api=openai", "candidate.api: batches are asked by the v2 protocol: kserve"),
        ("candidate.kv_bits=7", "candidate.kv_bits: expected"),
        ("goal.context=1", "goal.context: expected"),
        ("on_oom.reduce=context", "on_oom.reduce: expected"),
        ("target.server=embedded", "target.metrics_url: the embedded server has its own metrics_url"),
        ("timeout=0s", "timeout: expected 1s to 1d"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(tmp_path, FILE, override)
    assert said in str(caught.value)


def test_a_server_of_ones_own_takes_the_place_of_the_embedded_one(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        FILE.replace("baseline: {model: llm, version: 1}", "baseline: {model: llm, version: 1, build: fp16}")
    )
    found = load(file, url="grpc://other:8001")
    assert isinstance(found, LongContext)
    assert found.target.url == "grpc://other:8001"
    assert found.arms["baseline"].build is None
