"""Output quality as the page shows it: pairs of distributions over the same, forced tokens.

The reference P is what the baseline said when it generated. The floor is what it says of the same tokens a
second time; the candidate's divergence is read against that floor. KL(P || Q) in nats is over P's top k
tokens and one bucket for the rest, as the judge takes it (a test compares the two; this package does not
import the judge). It is a lower bound; a token that Q does not list counts with the most Q can give it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.report.answers import TOGETHER, Latest, Rows, Tops

if TYPE_CHECKING:
    from harness.recording import Recording

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SMALLEST = 1e-9
# More than this many scored answers add nothing to a curve that is a few hundred pixels wide.
MOST_PAIRS = 20_000
# Pairs of tokens that are held against each other, of all scored answers of an arm: about two seconds.
_MOST_WORK = 200_000_000
_ARMS = ("baseline", "candidate")


@dataclass(frozen=True)
class Example:
    """One prompt's two answers, and how far the candidate was from the baseline on the baseline's tokens. `prompt`: the
    number of what was asked, -1 unknown.
    """

    stage: int
    pair_id: int
    baseline: str
    candidate: str
    kl: float
    agreement: float  # share of tokens with the same first choice
    prompt: int = -1


@dataclass(frozen=True)
class Quality:
    """Per scored answer, mean over its tokens; both arrays of an arm have equal length."""

    kl: Mapping[str, Floats]  # arm to nats per token; "baseline" is the floor
    agreement: Mapping[str, Floats]  # arm to share of tokens with the same first choice
    examples: tuple[Example, ...]
    pairs: int  # generated answers that both arms gave
    differing: int  # of these, with different text or tokens

    def __bool__(self) -> bool:
        return bool(self.pairs) or any(len(values) for values in self.kl.values())


def quality(recording: Recording, examples: int = 3) -> Quality:
    """From the outputs of a recording; an empty Quality where none were compared. Of very many answers only some are
    scored, evenly apart: those that MOST_PAIRS and _MOST_WORK allow.
    """
    table = recording.outputs
    if table is None or not table.num_rows:
        return Quality({arm: np.empty(0) for arm in _ARMS}, {arm: np.empty(0) for arm in _ARMS}, (), 0, 0)
    rows = Rows(table)
    reference, candidate = (Latest.of(rows, arm) for arm in _ARMS)
    kl, agreement = {}, {}
    by_pair: dict[int, tuple[float, float]] = {}
    for arm in _ARMS:
        scored = rows.all("scored", arm)
        scored = scored[reference.has(rows.pair_id[scored])]
        scored = scored[:: max(1, -(-len(scored) // MOST_PAIRS), -(-rows.work(scored) // _MOST_WORK))]
        pairs = rows.pair_id[scored]
        means, same = _scored(rows, reference.rows_of(pairs), scored)
        known = ~np.isnan(means)
        kl[arm], agreement[arm] = means[known], same[known]
        if arm == "candidate":
            # A pair that was scored twice counts with its first.
            found = zip(pairs[known].tolist(), kl[arm].tolist(), agreement[arm].tolist(), strict=True)
            by_pair = {pair: (mean, share) for pair, mean, share in reversed(list(found))}
    both = np.intersect1d(reference.pairs, candidate.pairs)
    differing = both[rows.differ(reference.rows_of(both), candidate.rows_of(both))].tolist()
    scored_ones = (pair for pair in differing if pair in by_pair)
    shown = heapq.nsmallest(examples, scored_ones, key=lambda pair: (-by_pair[pair][0], pair)) or differing[:examples]
    return Quality(
        kl,
        agreement,
        tuple(
            Example(
                int(rows.stage[base]),
                pair,
                rows.text(base),
                rows.text(mine),
                *by_pair.get(pair, (float("nan"), float("nan"))),
                rows.prompt(base),
            )
            for pair in shown
            for base, mine in [(int(of.rows_of(np.array([pair]))[0]) for of in (reference, candidate))]
        ),
        len(both),
        len(differing),
    )


def _scored(rows: Rows, base: Ints, mine: Ints) -> tuple[Floats, Floats]:
    """Mean divergence and agreement of each answer `mine` from its reference; NaN where nothing can be compared."""
    kl, agreement = np.full(len(base), np.nan), np.full(len(base), np.nan)
    for at in range(0, len(base), TOGETHER):
        here = slice(at, at + TOGETHER)
        p, q = Tops.of(rows, base[here]), Tops.of(rows, mine[here])
        tokens = np.minimum(p.tokens, q.tokens)
        for p_k, q_k in sorted(set(zip(p.k.tolist(), q.k.tolist(), strict=True))):
            which = np.flatnonzero((p.k == p_k) & (q.k == q_k) & (tokens > 0))
            if not len(which):
                continue
            number = tokens[which]
            found, same = divergences(*p.stacked(which, number, p_k), *q.stacked(which, number, q_k))
            begin = np.cumsum(number) - number
            kl[at + which] = np.add.reduceat(found, begin) / number
            agreement[at + which] = np.add.reduceat(same.astype(np.float64), begin) / number
    return kl, agreement


def divergences(p_ids: Ints, p_logs: Floats, q_ids: Ints, q_logs: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """KL(P || Q) in nats and whether the first choice is the same, per token.

    Ids and natural log-probabilities have shape (tokens, k), most likely first; the shorter one counts.
    """
    tokens = min(len(p_ids), len(q_ids))
    if not tokens or not p_ids.shape[1] or not q_ids.shape[1]:
        return np.empty(0), np.empty(0, bool)
    p_ids, p_logs, q_ids, q_logs = p_ids[:tokens], p_logs[:tokens], q_ids[:tokens], q_logs[:tokens]
    p, q_known = np.exp(p_logs), np.exp(q_logs)
    match = p_ids[:, :, None] == q_ids[:, None, :]
    found = match.any(axis=2)
    q_tail = np.maximum(1 - q_known.sum(axis=1), _SMALLEST)
    guess = np.minimum(q_known.min(axis=1), q_tail / ((~found).sum(axis=1) + 1))
    q = np.where(found, (match * q_known[:, None, :]).sum(axis=2), guess[:, None])
    p_rest = np.maximum(1 - p.sum(axis=1), 0.0)
    q_rest = np.maximum(1 - q.sum(axis=1), _SMALLEST)
    logs = np.log(np.maximum(p, _SMALLEST)) - np.log(np.maximum(q, _SMALLEST))
    tail = np.where(p_rest > _SMALLEST, p_rest * np.log(np.maximum(p_rest, _SMALLEST) / q_rest), 0.0)
    total = np.where(p > 0, p * logs, 0.0).sum(axis=1) + tail
    same = np.take_along_axis(p_ids, p_logs.argmax(axis=1)[:, None], 1) == np.take_along_axis(
        q_ids, q_logs.argmax(axis=1)[:, None], 1
    )
    return np.maximum(total, 0.0), same[:, 0]
