"""Answers on their way to scorers and back, and a run on a real Triton whose gates are judged from what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.recording import SCHEMAS, Recording, StreamWriter, changed_files, read_table, seal, stream_path
from harness.run.scoring import Scoring
from harness.scenario import Scenario, load
from harness.scoring import Case, ScorerFailed
from harness.types import Output, Prompt
from tests.run.conftest import SCENARIO, canary, only_folder
from tests.run.measured import last_folder, measured

PROMPTS = tuple(Prompt(f"{n}?", expected=None if n == 2 else str(n)) for n in range(4))


def outputs(folder: Path) -> None:
    """Two stages; the candidate is wrong on prompt 1. Of prompt 2 nobody expects anything."""
    with StreamWriter(stream_path(folder, "outputs", 0), SCHEMAS["outputs"]) as writer:
        for stage in (0, 1):
            for prompt in range(4):
                for arm in ("baseline", "candidate", "stable"):
                    text = "wrong" if (arm, prompt) == ("candidate", 1) else str(prompt)
                    row = Output(stage, stage * 10 + prompt, arm, "generated", text, "", "stop", [], 0, [], [], prompt)
                    writer.append(row)
                    writer.append(row._replace(kind="scored"))


def right(cases: Sequence[Case]) -> list[float]:
    return [float(case.answer == case.expected) for case in cases]


def rows(folder: Path) -> list[dict]:
    table = read_table(folder, "scores")
    assert table is not None
    return table.to_pylist()


def test_each_answer_of_a_stage_is_scored_once(tmp_path: Path) -> None:
    outputs(tmp_path)
    said: list[str] = []
    scoring = Scoring(tmp_path, {"answer": (right, True), "all": (right, False)}, PROMPTS, said.append)
    scoring.stages([0])
    assert said == ["scoring 6 answers by answer", "scoring 8 answers by all"]
    scoring.stages([0, 1])
    scoring.close()
    found = rows(tmp_path)
    keys = [(row["stage"], row["pair_id"], row["arm"], row["scorer"]) for row in found]
    assert len(keys) == len(set(keys)) == 2 * (6 + 8)
    assert {row["arm"] for row in found} == {"baseline", "candidate"}
    wrong = {(row["pair_id"], row["arm"]) for row in found if row["scorer"] == "answer" and row["score"] == 0}
    assert wrong == {(1, "candidate"), (11, "candidate")}
    assert not any(row["error"] for row in found)


def test_a_scorer_that_fails_leaves_its_reason_and_stops_no_other(tmp_path: Path) -> None:
    outputs(tmp_path)

    def fails(cases: Sequence[Case]) -> list[float]:
        raise ScorerFailed("out of luck")

    said: list[str] = []
    scoring = Scoring(tmp_path, {"bad": (fails, False), "answer": (right, True)}, PROMPTS, said.append)
    scoring.stages([0])
    scoring.stages([0])
    scoring.close()
    assert [row["error"] for row in rows(tmp_path) if row["scorer"] == "bad"] == ["out of luck"]
    assert sum(row["scorer"] == "answer" for row in rows(tmp_path)) == 6
    assert said.count("the scorer bad failed: out of luck") == 1


def test_scores_are_sealed_and_checked_like_the_rest(tmp_path: Path) -> None:
    outputs(tmp_path)
    scoring = Scoring(tmp_path, {"answer": (right, True)}, PROMPTS, lambda _: None)
    scoring.stages([0, 1])
    scoring.close()
    sums = seal(tmp_path)
    assert "scores.parquet" in sums
    path = tmp_path / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-9] + b"tampered!")
    assert changed_files(tmp_path, sums) == ("scores.parquet",)


def test_without_scorers_there_is_no_file(tmp_path: Path) -> None:
    outputs(tmp_path)
    scoring = Scoring(tmp_path, {}, PROMPTS, lambda _: None)
    scoring.stages([0])
    scoring.close()
    assert read_table(tmp_path, "scores") is None


def test_a_scorer_that_is_not_there_is_known_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "?"}\n')
    scored = "load: {prompts: prompts.jsonl}\nscorers: {mine: {use: 'missing.py:score'}}\n"
    (tmp_path / "run.yaml").write_text(SCENARIO.replace("load: {timeout: 20s}\n", scored))
    scenario = load(str(tmp_path / "run.yaml"))
    assert isinstance(scenario, Scenario)
    with pytest.raises(UsageError, match=r"scorers.mine: .*missing.py:score: cannot be imported"):
        Scoring.of(scenario, tmp_path, scenario.prompts, lambda _: None)


# -------------------------------------------------------------- on a real Triton

VECTORS = """
name: tiny-vectors
target: {server: embedded}
baseline: {model: tiny, version: 1, build: fp16}
candidate: {model: tiny, version: 2, build: same}
load: {timeout: 20s}
gates:
  - {metric: quality.cosine, max: 0.01}
  - {metric: quality.neighbours, max: 10%}
stages:
  - {mode: paired, in_flight: 1, for: 4s}
"""


@pytest.mark.triton
@pytest.mark.parametrize(
    ("build", "code", "metric", "outcome"),
    [
        ("same", 0, "quality.cosine", "pass"),
        ("{offset: 0.5}", 1, "quality.cosine", "fail"),
        ("{offset: .inf}", 1, "quality.broken", "fail"),
    ],
)
def test_vectors_of_a_real_server(tmp_path: Path, build: str, code: int, metric: str, outcome: str) -> None:
    (tmp_path / "vectors.yaml").write_text(VECTORS)
    words = ("run", tmp_path / "vectors.yaml", "--json", "--set", f"candidate.build={build}")
    done = measured(lambda out: canary(*words, "--out", out), tmp_path / "out")
    assert done.code == code, done.stderr
    found = {finding["metric"]: finding for finding in done.verdict["findings"]}
    assert found[metric]["outcome"] == outcome
    recording = Recording.open(last_folder(tmp_path / "out"))
    assert recording.outputs is not None
    kept = recording.outputs.to_pylist()
    assert {row["shape"] for row in kept} == {"OUTPUT FP32 [16]"}
    assert {len(row["vector"]) for row in kept} == {16}
    assert {row["prompt"] for row in kept} <= set(range(64))


TALK = """
name: capitals
target: {server: embedded}
baseline: {model: smollm2, version: 1, build: fp16}
candidate: {model: smollm2, version: 2, build: same}
load: {prompts: prompts.jsonl, max_tokens: 3, timeout: 60s}
scorers:
  capital: {use: contains}
  mine: {use: "mine.py:score"}
  program: {command: [python3, -c, "import sys; sys.exit('out of luck')"]}
gates:
  - {metric: quality.score.mine, margin: 30pp}
  - {metric: quality.score.program, margin: 30pp}
  - {metric: quality.logprob, max: 0.5}
stages:
  - {mode: paired, in_flight: 1, for: 25s}
"""


@pytest.mark.triton
@pytest.mark.weights
@pytest.mark.slow
def test_scores_of_a_real_language_model(tmp_path: Path) -> None:
    """A scorer that gives scores is judged; the one that fails is no data, so nothing is promoted."""
    countries = (
        "France",
        "Italy",
        "Spain",
        "Japan",
        "Egypt",
        "Greece",
        "Norway",
        "Poland",
        "Cuba",
        "Peru",
        "China",
        "Chile",
    )
    lines = [f'{{"prompt": "The capital of {name}?", "expected": "{name[:2]}"}}\n' for name in countries]
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    (tmp_path / "mine.py").write_text("def score(prompt, answer, expected):\n    return bool(answer)\n")
    (tmp_path / "talk.yaml").write_text(TALK)
    done = canary("run", tmp_path / "talk.yaml", "--out", tmp_path / "out", "--json")
    assert done.code == 3, done.stderr
    found = {finding["metric"]: finding for finding in done.verdict["findings"]}
    assert found["quality.score.mine"]["baseline"] == found["quality.score.mine"]["candidate"] == 1
    assert found["quality.score.program"]["outcome"] == "no data"
    assert "ended with 1: out of luck" in found["quality.score.program"]["reason"]
    assert found["quality.score.capital"]["reason"].startswith("for information")
    assert found["quality.logprob"]["effect"] == pytest.approx(0, abs=1e-6)  # the same build, one at a time
    again = canary("judge", only_folder(tmp_path / "out"), "--json")
    assert again.verdict["findings"] == done.verdict["findings"]
