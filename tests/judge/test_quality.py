"""Output quality above the floor; broken and missing answers."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harness.judge import judge, judge_stage
from harness.types import Finding, Gate, Output, StageVerdict
from tests.judge.worlds import GATES, Llm, S

KL = Gate("quality.kl", limit=0.06)


def found(verdict: StageVerdict, metric: str) -> Finding:
    return next(f for f in verdict.findings if f.metric == metric)


def kl(run: Llm, metric: str = "quality.kl") -> Finding:
    return found(judge_stage(run.evidence(), 0), metric)


def test_a_close_build_passes_and_a_far_one_fails() -> None:
    near = kl(Llm(kl=0.03).paired())
    assert near.outcome == "pass"
    assert near.effect is not None
    assert 0.005 < near.effect < 0.06
    far = kl(Llm(kl=0.4).paired())
    assert far.outcome == "fail"
    assert far.unit == "nats"
    assert "nats a token above the v1-v1 floor" in far.reason
    assert "limit 0.06" in far.reason


def test_a_far_build_is_stopped_before_the_stage_ends() -> None:
    evidence = Llm(kl=0.6).paired().evidence()
    assert judge_stage(evidence, 0, now_ns=45 * S).verdict == "rollback"


def test_what_lies_on_the_limit_rarely_passes() -> None:
    """The prompts of a run are a draw: each run has other ones, and the mean over all is at the limit."""
    runs = [Llm(seed=s, kl=0.2, prompts=400) for s in range(15)]
    effects = [kl(run.paired()).effect or 0.0 for run in runs]
    truth = sum(effects) / len(effects)
    at_limit = [Llm(seed=100 + s, kl=0.2, prompts=400, gates=(Gate("quality.kl", limit=truth),)) for s in range(60)]
    passed = sum(kl(run.paired(45)).outcome == "pass" for run in at_limit)
    assert passed <= 7  # 2 expected at 5 %; the truth is an estimate itself


def test_the_floor_is_taken_off() -> None:
    """The baseline disagrees with itself as much as the candidate does: nothing is in excess."""

    def noisy(output: Output) -> Output:
        if output.kind != "scored":
            return output
        turned = [x - 0.4 * (i % output.k == 0) for i, x in enumerate(output.topk_logprobs)]
        return output._replace(topk_logprobs=turned)

    result = kl(Llm(mangle=noisy).paired())
    assert result.baseline is not None
    assert result.baseline > 0.02
    assert result.effect == pytest.approx(0, abs=1e-9)
    assert result.outcome == "pass"


def test_prompts_are_the_sample_and_not_tokens() -> None:
    few = kl(Llm(kl=0.03, prompts=5).paired())
    assert few.outcome == "inconclusive"
    assert "12 different prompts" in few.reason


def test_disagreement_and_flips_are_reported_and_can_be_gated() -> None:
    run = Llm(kl=0.2).paired()
    verdict = judge_stage(run.evidence(), 0)
    assert found(verdict, "quality.top1").reason.startswith("for information")
    assert found(verdict, "quality.flips").margin is None
    run.gates = (*GATES, Gate("quality.top1", limit=0.05), Gate("quality.flips", limit=0.99))
    verdict = judge_stage(run.evidence(), 0)
    assert found(verdict, "quality.top1").outcome == "fail"
    assert found(verdict, "quality.flips").outcome in ("pass", "inconclusive")
    run.gates = (Gate("quality.top1", limit=0.9),)
    assert found(judge_stage(run.evidence(), 0), "quality.top1").outcome == "pass"


def test_p99_needs_tokens_and_then_judges() -> None:
    gate = (Gate("quality.kl.p99", limit=0.5),)
    assert kl(Llm(kl=0.05, gates=gate).paired(60), "quality.kl.p99").outcome == "inconclusive"
    assert kl(Llm(kl=0.02, gates=gate, tokens=16).paired(120), "quality.kl.p99").outcome == "pass"
    assert kl(Llm(kl=3.0, gates=gate, tokens=16).paired(120), "quality.kl.p99").outcome == "fail"


# -------------------------------------------------------------- broken and missing


def of_candidate(output: Output, kind: str) -> bool:
    return output.arm == "candidate" and output.kind == kind


def every_third(output: Output) -> bool:
    return output.pair_id % 3 == 0


def nan(output: Output) -> Output:
    if of_candidate(output, "scored") and every_third(output):
        return output._replace(topk_logprobs=[math.nan] * len(output.topk_logprobs))
    return output


def infinite(output: Output) -> Output:
    if of_candidate(output, "generated") and every_third(output):
        return output._replace(topk_logprobs=[-math.inf] * len(output.topk_logprobs))
    return output


def empty(output: Output) -> Output:
    if of_candidate(output, "generated") and every_third(output):
        return output._replace(text="", token_ids=[], topk_ids=[], topk_logprobs=[])
    return output


def reshaped(output: Output) -> Output:
    if of_candidate(output, "scored") and every_third(output):
        return output._replace(topk_ids=output.topk_ids[:-1], topk_logprobs=output.topk_logprobs[:-1])
    return output


@pytest.mark.parametrize("mangle", [nan, infinite, empty, reshaped])
def test_answers_that_are_none_are_failures(mangle: object) -> None:
    evidence = Llm(mangle=mangle).paired().evidence()  # type: ignore[arg-type]
    verdict = judge_stage(evidence, 0)
    assert verdict.verdict == "rollback"
    assert found(verdict, "quality.broken").outcome == "fail"


@pytest.mark.parametrize("mangle", [nan, infinite, empty, reshaped])
def test_a_few_of_them_are_never_promoted_unseen(mangle: object) -> None:
    def rarely(output: Output) -> Output:
        number = output.pair_id & 0xFFFF
        return mangle(output) if number in (9, 30, 60, 90) else output  # type: ignore[operator,no-any-return]

    verdict = judge_stage(Llm(mangle=rarely).paired().evidence(), 0)
    assert verdict.verdict != "promote"
    assert found(verdict, "quality.broken").candidate


def test_both_arms_broken_is_not_the_candidates_fault() -> None:
    def both(output: Output) -> Output:
        return output._replace(topk_logprobs=[math.nan] * len(output.topk_logprobs))

    assert judge(Llm(mangle=both).paired().evidence()).verdict == "inconclusive"


def test_scores_missing_on_the_candidate_alone_are_no_data() -> None:
    def dropped(output: Output) -> Output | None:
        return None if of_candidate(output, "scored") else output

    verdict = judge_stage(Llm(mangle=dropped).paired().evidence(), 0)
    assert found(verdict, "quality.kl").outcome == "no data"
    assert verdict.verdict == "inconclusive"


def test_without_any_outputs_there_is_no_data() -> None:
    evidence = dataclasses.replace(Llm().paired().evidence(), outputs=())
    assert found(judge_stage(evidence, 0), "quality.kl").outcome == "no data"


# -------------------------------------------------------------- split stages


def test_a_build_that_turns_bad_is_seen_in_a_split() -> None:
    run = Llm(kl=0.01).paired()
    run.kl = 0.6
    run.split(1.0, 60)
    result = found(judge_stage(run.evidence(), 1), "quality.kl")
    assert (result.kind, result.outcome) == ("watch", "fail")


def test_a_split_scores_the_references_of_the_paired_stage() -> None:
    run = Llm(kl=0.03).paired().split(1.0, 30)
    result = found(judge_stage(run.evidence(), 1), "quality.kl")
    assert result.outcome == "pass"
    assert result.n_candidate >= 20
    assert "nothing speaks against it" in result.reason
