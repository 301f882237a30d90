"""Scores and vectors in a split: the candidate's answers there, beside the baseline's to the same prompts before."""

from __future__ import annotations

import dataclasses

from harness.judge import Evidence, judge_stage
from harness.judge.quality.marks import marks
from harness.recording.schema import OUTPUTS, SCORES
from harness.types import Finding, Gate, Score, StageRecord
from tests.judge.answered import ARMS, output
from tests.judge.worlds import VERSIONS, S, plan, sample, table

GATES = (Gate("quality.score", 0.05, "absolute"), Gate("quality.cosine", limit=0.01))


def watched(wrong: int, prompts: int = 100) -> Evidence:
    """A paired stage in which all is right, then one that is the candidate's, which is wrong on the first `wrong`."""
    samples, outputs, scores = [], [], []
    for stage in (0, 1):
        for number in range(prompts):
            pair_id, due = (stage << 32) | number, stage * prompts + number
            for arm in ARMS if stage == 0 else ARMS[1:]:
                bad = stage == 1 and number < wrong
                samples.append(sample(arm, pair_id, due, 0.4, stage=stage))
                vector = [1.0, 0.0] if not bad else [1.0, 1.0]
                outputs.append(output(arm, number, stage=stage, pair_id=pair_id, vector=vector))
                scores.append(Score(stage, pair_id, arm, "answer", float(not bad)))
    stages = [
        StageRecord(plan(0, "paired", float(prompts), rate=1.0), 0, end_ns=prompts * S),
        StageRecord(plan(1, "split", float(prompts), 1.0, rate=1.0), prompts * S, end_ns=2 * prompts * S),
    ]
    evidence = Evidence.from_tables(
        table(samples), table(outputs, OUTPUTS), stages=stages, gates=GATES, versions=VERSIONS, planned=2
    )
    return dataclasses.replace(evidence, marks=marks(table(scores, SCORES)))


def of(evidence: Evidence, metric: str) -> Finding:
    return next(f for f in judge_stage(evidence, 1).findings if f.metric == metric)


def test_a_build_that_turns_bad_is_seen_in_a_split() -> None:
    for metric in ("quality.score", "quality.cosine"):
        found = of(watched(40), metric)
        assert (found.kind, found.outcome) == ("watch", "fail")


def test_one_that_stays_good_has_nothing_against_it() -> None:
    for metric in ("quality.score", "quality.cosine"):
        found = of(watched(0), metric)
        assert found.outcome == "pass"
        assert "nothing speaks against it" in found.reason
        assert found.n_candidate == 100


def test_no_scores_of_a_split_are_no_data() -> None:
    evidence = watched(0)
    kept = {place: score for place, score in evidence.marks.scores["answer"].items() if place[0] == 0}
    unscored = dataclasses.replace(evidence, marks=dataclasses.replace(evidence.marks, scores={"answer": kept}))
    assert of(unscored, "quality.score").outcome == "no data"
