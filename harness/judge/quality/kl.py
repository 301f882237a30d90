"""Divergence between two distributions over tokens of which only the top k are known.

P is the reference, Q what an arm gives to the same positions. Tokens outside P's top k are one bucket, the
tail. KL(P || Q) over the k tokens and the tail is a lower bound of the full divergence (merging outcomes
never adds to it), and exact where k is the whole vocabulary. A token of P's that is not in Q's own top k has
a Q-probability that is unknown, but at most Q's k-th; it is taken as min(that, an equal part of Q's tail):
the largest value that it can plausibly have, so a divergence is never made up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.judge.columns import Floats

LEAST = 1e-9
# Log-probabilities are float32 of a rounded sum: a total this much over 1 is rounding, not damage.
ROUNDING = 1e-3

Ids = npt.NDArray[Any]


def kl_topk(p_ids: Ids, p_logprobs: Floats, q_ids: Ids, q_logprobs: Floats) -> Floats:
    """KL(P || Q) in nats for each token; ids and log-probabilities of shape (tokens, k), k may differ."""
    p = np.exp(p_logprobs)
    q_known = np.exp(q_logprobs)
    same = p_ids[:, :, None] == q_ids[:, None, :]
    found = same.any(axis=2)
    q = (same * q_known[:, None, :]).sum(axis=2)
    q_tail = np.maximum(1 - q_known.sum(axis=1), LEAST)
    absent = (~found).sum(axis=1)
    guess = np.minimum(q_known.min(axis=1), q_tail / (absent + 1))
    q = np.where(found, q, guess[:, None])
    p_rest = np.maximum(1 - p.sum(axis=1), 0.0)
    q_rest = np.maximum(1 - q.sum(axis=1), LEAST)
    inside = np.where(p > 0, p * (np.log(np.maximum(p, LEAST)) - np.log(np.maximum(q, LEAST))), 0.0).sum(axis=1)
    tail = np.where(p_rest > LEAST, p_rest * np.log(np.maximum(p_rest, LEAST) / q_rest), 0.0)
    return np.asarray(np.maximum(inside + tail, 0.0), np.float64)


def chosen(ids: Ids, logprobs: Floats, tokens: Ids) -> tuple[Floats, int]:
    """The log-probability of each of `tokens`, and of how many it is but an upper bound: those not in the top k, which
    are given what `kl_topk` gives them, the k-th or an equal part of the rest.
    """
    same = ids == np.asarray(tokens)[:, None]
    known = same.any(axis=1)
    p = np.exp(logprobs)
    rest = np.maximum(1 - p.sum(axis=1), LEAST)
    bound = np.log(np.minimum(p.min(axis=1), rest))
    found = np.where(same, logprobs, -np.inf).max(axis=1)
    return np.where(known, found, np.maximum(bound, np.log(LEAST))), int((~known).sum())


def sound(ids: Ids | None, logprobs: Floats | None) -> bool:
    """Whether these are log-probabilities at all: finite, not above 0, of a total of at most 1."""
    if ids is None or logprobs is None or not np.isfinite(logprobs).all():
        return False
    return bool((logprobs <= ROUNDING).all() and (np.exp(logprobs).sum(axis=1) <= 1 + ROUNDING).all())


def top_token(ids: Ids, logprobs: Floats) -> npt.NDArray[np.int64]:
    """The likeliest token of each row."""
    return np.asarray(ids[np.arange(len(ids)), logprobs.argmax(axis=1)], np.int64)
