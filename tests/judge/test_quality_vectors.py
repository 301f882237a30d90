"""Embeddings: vectors that turned, neighbours that changed, and what the baseline does itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.judge import judge_stage
from harness.types import Finding, Gate, Output
from tests.judge.answered import output, world

COSINE = Gate("quality.cosine", limit=0.01)
NEIGHBOURS = Gate("quality.neighbours", limit=0.10)
WIDTH = 32
Turn = Callable[[str, int, int], float]
"""How much noise is in the vector of an arm to an input, the number-th time."""


def found(
    metric: str, noise: Turn, *, inputs: int = 60, times: int = 1, gates: tuple[Gate, ...] = (COSINE,)
) -> Finding:
    rng = np.random.default_rng(3)
    own = rng.normal(0, 1, (inputs, WIDTH))

    def make(arm: str, prompt: int, number: int) -> Output:
        vector = own[prompt] + noise(arm, prompt, number) * rng.normal(0, 1, WIDTH)
        return output(
            arm, prompt, text="", digest="d", finish_reason="", vector=vector.tolist(), shape=f"v FP32 [{WIDTH}]"
        )

    evidence = world(make, inputs, gates, times=times)
    return next(f for f in judge_stage(evidence, 0).findings if f.metric == metric)


def of_candidate(amount: float) -> Turn:
    return lambda arm, prompt, number: amount * (arm == "candidate")


def test_the_same_vectors_pass_and_turned_ones_fail() -> None:
    same = found("quality.cosine", of_candidate(0.0))
    assert (same.outcome, same.effect) == ("pass", pytest.approx(0.0, abs=1e-6))
    assert "not known" in same.reason
    turned = found("quality.cosine", of_candidate(0.5))
    assert turned.outcome == "fail"
    assert turned.effect == pytest.approx(1 - 1 / np.sqrt(1.25), abs=0.02)


def test_what_the_baseline_does_itself_is_taken_off() -> None:
    noisy = found("quality.cosine", lambda arm, prompt, number: 0.3, times=4)
    assert noisy.baseline is not None
    assert noisy.baseline > 0.03
    assert noisy.outcome == "pass"
    assert "v1-v1 floor of" in noisy.reason
    assert found("quality.cosine", lambda arm, prompt, number: 0.3).outcome == "fail"


def test_neighbours() -> None:
    assert found("quality.neighbours", of_candidate(0.0), gates=(NEIGHBOURS,)).outcome == "pass"
    lost = found("quality.neighbours", of_candidate(3.0), gates=(NEIGHBOURS,))
    assert lost.outcome == "fail"
    assert lost.effect is not None
    assert lost.effect > 0.5
    few = found("quality.neighbours", of_candidate(0.0), inputs=20, gates=(NEIGHBOURS,))
    assert (few.outcome, "at least 21" in few.reason) == ("no data", True)


def test_a_turn_of_all_vectors_together_keeps_neighbours() -> None:
    """Another basis: cosine says that nothing is as it was, neighbours that a search finds the same."""
    rng = np.random.default_rng(5)
    basis, _ = np.linalg.qr(rng.normal(0, 1, (WIDTH, WIDTH)))
    own = rng.normal(0, 1, (60, WIDTH))

    def make(arm: str, prompt: int, number: int) -> Output:
        return output(arm, prompt, vector=(own[prompt] @ basis if arm == "candidate" else own[prompt]).tolist())

    findings = {f.metric: f for f in judge_stage(world(make, 60, (COSINE, NEIGHBOURS)), 0).findings}
    assert findings["quality.cosine"].outcome == "fail"
    assert findings["quality.neighbours"].outcome == "pass"


def test_no_vectors_or_too_few_are_no_data() -> None:
    none = next(f for f in judge_stage(world(output, 60, (COSINE,)), 0).findings if f.metric == "quality.cosine")
    assert (none.outcome, none.reason) == ("no data", "no answer is recorded as a vector")

    def shorter(arm: str, prompt: int, number: int) -> Output:
        return output(arm, prompt, vector=[1.0, float(prompt)][: 1 if arm == "candidate" else 2])

    lost = next(f for f in judge_stage(world(shorter, 60, (COSINE,)), 0).findings if f.metric == "quality.cosine")
    assert (lost.outcome, "sign of failure on v2" in lost.reason) == ("no data", True)
