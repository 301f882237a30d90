"""Divergence on the top k, against exact computation on whole distributions."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judge.quality.kl import kl_topk, sound, top_token

VOCABULARY, TOKENS = 60, 40


def distributions(seed: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (TOKENS, VOCABULARY))
    other = logits + rng.normal(0, shift, logits.shape)
    return tuple(x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (logits, other))  # type: ignore[return-value]


def top(logprobs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.argsort(-logprobs, axis=1)[:, :k]
    return ids, np.take_along_axis(logprobs, ids, 1)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0])
def test_the_whole_vocabulary_gives_the_exact_divergence(shift: float) -> None:
    p, q = distributions(1, shift)
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    assert kl_topk(*top(p, VOCABULARY), *top(q, VOCABULARY)) == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("shift", [0.05, 0.5, 2.0, 5.0])
def test_fewer_tokens_never_make_a_divergence_up(k: int, shift: float) -> None:
    p, q = distributions(2, shift)
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    partial = kl_topk(*top(p, k), *top(q, k))
    assert (partial >= 0).all()
    assert partial.mean() <= exact.mean() + 1e-9


def test_ten_tokens_see_most_of_it() -> None:
    p, q = distributions(3, 0.5)
    exact = float((np.exp(p) * (p - q)).sum(axis=1).mean())
    assert kl_topk(*top(p, 10), *top(q, 10)).mean() > 0.6 * exact


def test_a_distribution_is_no_distance_from_itself() -> None:
    p, _ = distributions(4, 0)
    assert kl_topk(*top(p, 5), *top(p, 5)) == pytest.approx(0, abs=1e-9)


def test_the_order_of_the_tokens_does_not_matter() -> None:
    p, q = distributions(5, 0.5)
    ids, logprobs = top(q, 8)
    turned = kl_topk(*top(p, 8), ids[:, ::-1], logprobs[:, ::-1])
    assert turned == pytest.approx(kl_topk(*top(p, 8), ids, logprobs))


def test_disjoint_tops_are_far_apart() -> None:
    sure = np.log(np.array([[0.99, 0.005]]))
    far = kl_topk(np.array([[1, 2]]), sure, np.array([[3, 4]]), sure)
    assert far[0] > 3
    assert np.isfinite(far).all()


def test_what_is_no_log_probability_is_not_sound() -> None:
    ids = np.array([[1, 2]])
    assert sound(ids, np.log(np.array([[0.6, 0.4]])))
    assert not sound(ids, np.array([[np.nan, -1.0]]))
    assert not sound(ids, np.array([[-np.inf, -1.0]]))
    assert not sound(ids, np.array([[0.5, -1.0]]))
    assert not sound(ids, np.log(np.array([[0.9, 0.9]])))
    assert not sound(None, None)


def test_top_token() -> None:
    assert top_token(np.array([[7, 9], [3, 4]]), np.array([[-2.0, -1.0], [-0.1, -3.0]])).tolist() == [9, 3]
