"""Quality where an engine gives no distributions: scores, likelihoods, reasons to end; and what is no answer at all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.errors import UsageError
from harness.judge import Evidence, judge_stage, normalise
from harness.types import Finding, Gate, Output
from tests.judge.answered import output, world
from tests.judge.worlds import Llm, S

SCORE = Gate("quality.score", 0.05, "absolute")


def of(evidence: Evidence, metric: str) -> Finding:
    return next(f for f in judge_stage(evidence, 0).findings if f.metric == metric)


def passing(fails: dict[str, set[int]]) -> dict[str, Callable[[str, int], float]]:
    return {"answer": lambda arm, prompt: float(prompt not in fails.get(arm, set()))}


def scored(fails: dict[str, set[int]], prompts: int = 200, gate: Gate = SCORE, times: int = 1) -> Finding:
    return of(world(output, prompts, [gate], scores=passing(fails), times=times), gate.metric)


# -------------------------------------------------------------- scores


def test_the_same_scores_pass_and_flips_are_told() -> None:
    found = scored({"baseline": {1, 2, 3}, "candidate": {2, 3, 4}})
    assert found.outcome == "pass"
    assert found.unit == "pp"
    assert found.effect == pytest.approx(0, abs=1e-12)
    assert (found.baseline, found.candidate) == (pytest.approx(197 / 200), pytest.approx(197 / 200))
    assert "1 turned worse, 1 better" in found.reason


def test_a_drop_beyond_the_margin_fails() -> None:
    found = scored({"candidate": set(range(40))})
    assert found.outcome == "fail"
    assert found.effect == pytest.approx(0.2)
    assert found.interval is not None
    assert found.interval[0] is not None
    assert found.interval[0] > 0.05
    assert "40 turned worse, 0 better" in found.reason


def test_a_better_build_is_no_drop() -> None:
    assert scored({"baseline": set(range(40))}).outcome == "pass"


def test_what_may_be_either_is_inconclusive() -> None:
    assert scored({"candidate": set(range(10))}).outcome == "inconclusive"
    few = scored({}, prompts=11)
    assert few.outcome == "inconclusive"
    assert "at least 12 different prompts" in few.reason


def test_prompts_are_the_sample_however_often_they_are_asked() -> None:
    """20 prompts, each asked 20 times, are no 400 answers: a margin of 5 points takes 73."""
    assert scored({}, prompts=20, times=20).outcome == "inconclusive"
    assert scored({}, prompts=80).outcome == "pass"


def test_graded_scores_are_means() -> None:
    rng = np.random.default_rng(4)
    own, shift = rng.uniform(0.3, 0.7, 200), rng.normal(0, 0.03, 200)

    def graded(drop: float) -> Finding:
        score = {"rouge": lambda arm, prompt: float(own[prompt] + (shift[prompt] - drop) * (arm == "candidate"))}
        return of(world(output, 200, [Gate("quality.score", 0.05, "absolute")], scores=score), "quality.score")

    assert graded(0.0).outcome == "pass"
    assert graded(0.15).outcome == "fail"
    assert graded(0.05).outcome == "inconclusive"
    assert "turned worse" not in graded(0.0).reason


def test_a_drop_of_the_margin_rarely_passes() -> None:
    rng = np.random.default_rng(8)
    passed = 0
    for _ in range(80):
        fails = set(np.flatnonzero(rng.random(90) < 0.05).tolist())
        passed += scored({"candidate": fails}, 90).outcome == "pass"
    assert passed <= 9  # at most 4 expected at 5 %


def test_no_scorer_or_a_failed_one_is_no_data() -> None:
    none = of(world(output, 100, [SCORE]), "quality.score")
    assert (none.outcome, "no scorer" in none.reason) == ("no data", True)
    failed = world(output, 100, [SCORE], scores=passing({}), failed={"answer": "ended with 1: boom"})
    found = of(failed, "quality.score")
    assert found.outcome == "no data"
    assert "the scorer answer failed: ended with 1: boom" in found.reason
    assert judge_stage(failed, 0).verdict == "inconclusive"


@pytest.mark.parametrize("score", [1.5, -0.1, math.nan, math.inf])
def test_a_score_that_is_none_is_no_data(score: float) -> None:
    evidence = world(output, 100, [SCORE], scores={"answer": lambda arm, prompt: score if prompt == 7 else 1.0})
    assert of(evidence, "quality.score").outcome == "no data"


def test_scores_that_only_the_baseline_has_are_no_data() -> None:
    whole = world(output, 100, [SCORE], scores=passing({}))
    kept = {place: s for place, s in whole.marks.scores["answer"].items() if place[2] == "baseline" or place[1] < 50}
    object.__setattr__(whole.marks, "scores", {"answer": kept})
    found = of(whole, "quality.score")
    assert found.outcome == "no data"
    assert "50 of 100 answers" in found.reason


def test_one_of_several_scorers_is_named() -> None:
    scores = {"json": lambda arm, prompt: 1.0, "exact": lambda arm, prompt: float(arm == "baseline" or prompt > 60)}
    gates = [Gate("quality.score.json", 0.05, "absolute")]
    evidence = world(output, 200, gates, scores=scores)
    assert of(evidence, "quality.score.json").outcome == "pass"
    told = of(evidence, "quality.score.exact")
    assert told.reason.startswith("for information: v2 scores")
    assert (told.outcome, told.margin) == ("pass", None)
    unnamed = of(world(output, 200, [SCORE], scores=scores), "quality.score")
    assert unnamed.outcome == "no data"
    assert "exact, json" in unnamed.reason
    missing = of(world(output, 9, [Gate("quality.score.bleu", 0.05, "absolute")], scores=scores), "quality.score.bleu")
    assert "no scores of bleu" in missing.reason


def test_a_look_in_mid_stage_waits_for_the_scores() -> None:
    evidence = world(output, 100, [SCORE], scores=passing({"candidate": set(range(90))}), cut_ns=50 * S)
    assert judge_stage(evidence, 0).verdict != "promote"


# -------------------------------------------------------------- likelihoods and reasons to end


def likelihood(shift: float, spread: float = 0.02) -> Finding:
    rng = np.random.default_rng(1)
    own, noise = rng.normal(-0.5, 0.2, 100), rng.normal(0, spread, 100)

    def make(arm: str, prompt: int, number: int) -> Output:
        mean = own[prompt] + (noise[prompt] - shift if arm == "candidate" else 0.0)
        return output(arm, prompt, logprob=float(mean) * 8, logprob_tokens=8)

    return of(world(make, 100, [Gate("quality.logprob", limit=0.05)]), "quality.logprob")


def test_a_drift_of_the_own_likelihood_fails_in_both_directions() -> None:
    assert likelihood(0.0).outcome == "pass"
    less, more = likelihood(0.2), likelihood(-0.2)
    assert (less.outcome, more.outcome) == ("fail", "fail")
    assert less.effect == pytest.approx(0.2, abs=0.01)
    assert less.unit == "nats"
    assert "less likely" in less.reason
    assert "more likely" in more.reason
    assert likelihood(0.05).outcome == "inconclusive"


def test_an_engine_that_gives_none_is_no_data() -> None:
    gates = [Gate("quality.logprob", limit=0.05)]
    assert of(world(output, 50, gates), "quality.logprob").outcome == "no data"

    def half(arm: str, prompt: int, number: int) -> Output:
        known = arm == "baseline" or prompt % 2
        return output(arm, prompt, logprob=-4.0 if known else 0.0, logprob_tokens=8 if known else -1)

    found = of(world(half, 50, gates), "quality.logprob")
    assert (found.outcome, "sign of failure on v2" in found.reason) == ("no data", True)


def ended(never: set[int], usual: str = "stop") -> Finding:
    def make(arm: str, prompt: int, number: int) -> Output:
        return output(arm, prompt, finish_reason="length" if arm == "candidate" and prompt in never else usual)

    return of(world(make, 200, [Gate("quality.finish", 0.05, "absolute")]), "quality.finish")


def test_answers_that_never_end_are_a_drift() -> None:
    assert ended(set()).outcome == "pass"
    found = ended(set(range(60)))
    assert found.outcome == "fail"
    assert "'stop'" in found.reason
    assert "30.0 %" in found.reason


def test_a_drift_to_the_most_frequent_reason_is_one_too() -> None:
    def make(arm: str, prompt: int, number: int) -> Output:
        return output(arm, prompt, finish_reason="stop" if arm == "baseline" and prompt < 80 else "length")

    assert of(world(make, 200, [Gate("quality.finish", 0.05, "absolute")]), "quality.finish").outcome == "fail"


def test_no_reasons_at_all_are_no_data() -> None:
    evidence = world(
        lambda arm, prompt, number: output(arm, prompt, finish_reason=""),
        50,
        [Gate("quality.finish", 0.05, "absolute")],
    )
    assert of(evidence, "quality.finish").outcome == "no data"


# -------------------------------------------------------------- perplexity


def test_perplexity_is_a_ratio_above_the_floor() -> None:
    near = Llm(kl=0.005, gates=(Gate("quality.perplexity", 0.30),)).paired()
    found = of(near.evidence(), "quality.perplexity")
    assert found.unit == "ratio"
    assert found.margin == pytest.approx(1.30)
    assert found.effect is not None
    assert found.effect > 0.8
    assert found.baseline == pytest.approx(0.0, abs=1e-9)
    far = of(Llm(kl=1.5, gates=(Gate("quality.perplexity", 0.05),)).paired().evidence(), "quality.perplexity")
    assert far.outcome == "fail"
    assert "higher for v2" in far.reason


def test_the_ratio_is_that_of_the_likelihoods() -> None:
    """Every token of v1's text is half as likely for v2: its perplexity is twice v1's."""

    def halved(out: Output) -> Output:
        if out.kind == "scored" and out.arm == "candidate":
            own = [x - math.log(2) * (i % out.k == 0) for i, x in enumerate(out.topk_logprobs)]
            return out._replace(topk_logprobs=own)
        return out

    def first(out: Output) -> Output:
        """Tokens that are the likeliest ids, so that each is in the top k."""
        fixed = out._replace(token_ids=out.topk_ids[:: out.k])
        return halved(fixed)

    run = Llm(mangle=first, gates=(Gate("quality.perplexity", 0.05),)).paired()
    found = of(run.evidence(), "quality.perplexity")
    assert found.effect == pytest.approx(2.0, rel=1e-6)
    assert found.outcome == "fail"


def test_tokens_outside_of_the_top_k_bound_it_and_do_not_pass() -> None:
    """In Llm's world tokens are numbered by prompt and are not among the ids: nothing is known but a bound."""
    found = of(Llm(gates=(Gate("quality.perplexity", 0.05),)).paired().evidence(), "quality.perplexity")
    assert found.outcome == "inconclusive"
    assert "load.logprobs" in found.reason


# -------------------------------------------------------------- no answers


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"text": "  "}, "empty answer"),
        ({"finish_reason": ""}, "no reason why it ended"),
        ({"bad": 3}, "NaN or infinite numbers"),
        ({"shape": "y FP32 [3]"}, "output of another shape"),
        ({"logprob": math.inf, "logprob_tokens": 4}, "log-probabilities that are not numbers"),
        ({"vector": [0.0, 0.0]}, "a vector of zeros"),
    ],
)
def test_what_is_no_answer_fails(change: dict[str, object], kind: str) -> None:
    plain: dict[str, object] = {"shape": "y FP32 [2]", "vector": [1.0, 2.0], "logprob": -2.0, "logprob_tokens": 4}

    def make(arm: str, prompt: int, number: int) -> Output:
        return output(arm, prompt, **{**plain, **(change if arm == "candidate" and prompt % 4 == 0 else {})})

    verdict = judge_stage(world(make, 120, [Gate("errors", 0.03, "absolute")]), 0)
    broken = next(f for f in verdict.findings if f.metric == "quality.broken")
    assert (verdict.verdict, broken.outcome) == ("rollback", "fail")
    assert kind in broken.reason


def test_a_call_of_a_tool_is_an_answer() -> None:
    evidence = world(
        lambda arm, prompt, number: output(arm, prompt, text="x" * (arm == "baseline"), tool_calls='[{"name": "f"}]'),
        50, [Gate("errors", 0.03, "absolute")],
    )  # fmt: skip
    assert not [f for f in judge_stage(evidence, 0).findings if f.metric == "quality.broken"]


# -------------------------------------------------------------- gates


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate("quality.score"), "absolute margin such as 2pp"),
        (Gate("quality.score", 0.02), "absolute margin"),
        (Gate("quality.score", 0.0, "absolute"), "above 0"),
        (Gate("quality.score.exact", limit=0.1), "absolute margin"),
        (Gate("quality.finish", 1.5, "absolute"), "below 1"),
        (Gate("quality.perplexity", limit=0.1), "relative margin such as 2%"),
        (Gate("quality.perplexity", 0.1, "absolute"), "relative margin"),
        (Gate("quality.cosine"), "takes a limit"),
        (Gate("quality.score."), "unknown metric"),
    ],
)
def test_wrong_gates_get_one_clear_line(gate: Gate, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        normalise([gate])
    assert "\n" not in str(raised.value)
