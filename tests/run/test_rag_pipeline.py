"""The built-in RAG scenario on a real Triton: two ensembles, compared as users see them and step by step."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.assets import scenarios_dir
from harness.recording import Recording
from tests.run.conftest import canary, only_folder

pytestmark = [pytest.mark.triton, pytest.mark.weights, pytest.mark.embedding]
STEPS = ["rag_tokenizer", "rag_embedding", "rag_search", "rag_prompt", "smollm2"]


@pytest.fixture
def light(tmp_path: Path) -> Path:
    """The scenario for times alone: answers of one token, and none is scored."""
    text = (scenarios_dir() / "rag-pipeline.yaml").read_text()
    text = re.sub(r"^.*quality\.kl.*\n", "", text, flags=re.M)
    text = text.replace("prompts/", f"{scenarios_dir()}/prompts/").replace("max_tokens: 6", "max_tokens: 1")
    path = tmp_path / "rag-pipeline.yaml"
    path.write_text(text)
    return path


def test_a_slow_step_is_named_and_its_share_of_the_difference_is_told(light: Path, tmp_path: Path) -> None:
    """Too short for a verdict, long enough for the steps."""
    done = canary(
        "run", light, "--set", "candidate.build=slow", "--set", "stages.0.for=15s", "--out", tmp_path / "out", "--json"
    )
    assert done.code == 3, done.stderr
    verdict = json.loads(done.stdout)
    found = {f["metric"]: f for f in verdict["findings"] if f["metric"].startswith("steps.")}
    assert list(found) == [f"steps.{model}" for model in STEPS]
    embedding = found["steps.rag_embedding"]
    assert embedding["effect"] > 3
    assert embedding["n_baseline"] > 0
    assert embedding["n_candidate"] > 0
    assert "in version 2" in embedding["reason"]
    assert "that the candidate's ensemble takes longer" in embedding["reason"]
    for model in set(STEPS) - {"rag_embedding"}:
        assert "serves both arms" in found[f"steps.{model}"]["reason"]
    assert found["steps.smollm2"]["effect"] > 3 * embedding["baseline"], "most of the time is the language model's"

    folder = only_folder(tmp_path / "out")
    samples = Recording.open(folder).samples.to_pylist()
    assert {sample["status"] for sample in samples} == {"ok"}
    assert {(sample["arm"], sample["model"]) for sample in samples} == {("baseline", "rag_v1"), ("candidate", "rag_v2")}
    assert min(sample["isl"] for sample in samples if sample["assignment"] == "plan") > 60, "passages are in the prompt"
    for name in ("report.md", "report.html"):
        report = (folder / name).read_text().replace("\\", "")
        assert "rag_embedding version 2" in report
        assert "rag_v2, end to end" in report
    assert canary("judge", folder, "--json").stdout == done.stdout


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("build", "time", "codes"), [("int8", "75s", {0, 3}), ("slow", "400s", {1})])
def test_each_build_gets_the_verdict_it_deserves(tmp_path: Path, build: str, time: str, codes: set[int]) -> None:
    """A good build is never rolled back; a minute promotes it on a quiet machine. A slow one is rolled back as soon as
    there are pairs enough, whatever time the machine takes for them.
    """
    done = canary(
        "run", "rag-pipeline", "--set", f"candidate.build={build}", "--set", f"stages.0.for={time}",
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.code in codes, done.stderr
    failed = [f["metric"] for f in json.loads(done.stdout)["findings"] if f["outcome"] == "fail"]
    assert ("ttft.p50" in failed) == (build == "slow")


@pytest.mark.slow
@pytest.mark.alone
def test_a_broken_step_fails_the_ensemble_and_strays_are_not_blamed(light: Path, tmp_path: Path) -> None:
    """Triton counts a failed request of an ensemble twice; the guard against strays knows."""
    done = canary("run", light, "--set", "candidate.build=erring", "--out", tmp_path / "out", "--json")
    assert done.code == 1, done.stderr
    verdict = json.loads(done.stdout)
    assert [f["metric"] for f in verdict["findings"] if f["outcome"] == "fail"] == ["errors"]


def test_an_ensemble_has_no_second_version(tmp_path: Path) -> None:
    done = canary("run", "rag-pipeline", "--set", "candidate.version=2", "--out", tmp_path / "out")
    assert done.code == 2
    assert "rag_v2 has one configuration for all versions, so it has only version 1" in done.stderr
