"""Outputs brought together: for each pair the reference, what both arms give to it, and what is missing or
broken.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.judge.columns import ARMS, CANDIDATE, Floats
from harness.judge.quality.kl import Ids, chosen, kl_topk, sound, top_token
from harness.judge.quality.outputs import Answer
from harness.judge.view import StageView


@dataclass(frozen=True, slots=True, eq=False)
class PairScore:
    """One scored reference. `prompt` numbers the prompts (pairs of the same reference text share one).

    `kl`: per token, of the baseline (the v1-v1 floor) and of the candidate. `differ`: share of tokens whose
    likeliest candidate is another than the reference's, for either. `loss`: how much less likely (nats a token) either
    finds the reference than the baseline found it when it wrote it; `absent`: of how many of its tokens the candidate
    gives but a bound.
    """

    prompt: int
    kl: tuple[Floats, Floats]
    differ: tuple[float, float]
    loss: tuple[float, float] = (0.0, 0.0)
    absent: int = 0


@dataclass(slots=True)
class Scores:
    """`flips`: by prompt, whether each pair's two answers differ. `missing`: references that only one arm
    scored, by the arm that lacks them. `broken`: answers that are no answers (empty where the other arm's is
    not, not a number, another shape), by arm and kind; `answers`: how many each arm gave.
    """

    pairs: list[PairScore] = field(default_factory=list)
    flips: list[tuple[int, bool]] = field(default_factory=list)
    missing: list[int] = field(default_factory=lambda: [0, 0])
    broken: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    answers: list[int] = field(default_factory=lambda: [0, 0])


def gather(view: StageView) -> Scores:
    """The scores of a stage. Outputs of one pair are joined by `pair_id`, which is unique within a run.

    In a watch stage the references are those of earlier stages that the candidate scored again.
    """
    references: dict[int, Answer] = {}
    floors: dict[int, Answer] = {}
    for answer in view.outputs:
        if answer.arm == "baseline":
            (references if answer.kind == "generated" else floors)[answer.pair_id] = answer
    scores, prompts = Scores(), _Prompts()
    here = [answer for answer in view.outputs if answer.stage == view.index]
    candidates = {a.pair_id: a for a in here if a.arm == "candidate" and a.kind == "generated"}
    _generated(scores, here, references, candidates, prompts)
    scored = {a.pair_id: a for a in here if a.arm == "candidate" and a.kind == "scored"}
    for pair_id in sorted(set(scored) | {a.pair_id for a in here if a.arm == "baseline" and a.kind == "scored"}):
        if pair_id in references:
            _score(scores, references[pair_id], floors.get(pair_id), scored.get(pair_id), prompts, view.evidence.kept)
    if not view.final:
        scores.missing[1] = view.scored(CANDIDATE)[1]  # the others may still be under way
    return scores


class _Prompts:
    """Numbers for prompts. The reference's text tells them apart where outputs do not name the prompt, as those of
    earlier releases.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}

    def number(self, reference: Answer) -> int:
        known: tuple[object, ...] = ("prompt", reference.prompt) if reference.prompt >= 0 else reference.content
        return self._numbers.setdefault(known, len(self._numbers))


def _generated(
    scores: Scores,
    here: list[Answer],
    references: dict[int, Answer],
    candidates: dict[int, Answer],
    prompts: _Prompts,
) -> None:
    for answer in here:
        if answer.kind != "generated" or answer.arm not in ARMS[:2]:
            continue
        arm = ARMS.index(answer.arm)
        scores.answers[arm] += 1
        other = (candidates if arm == 0 else references).get(answer.pair_id)
        kind = _fault(answer, other if other is not None and other.stage == answer.stage else None, arm)
        if kind:
            scores.broken[arm][kind] += 1
    for pair_id, answer in sorted(candidates.items()):
        reference = references.get(pair_id)
        if reference is not None:
            scores.flips.append((prompts.number(reference), answer.content != reference.content))


def _fault(answer: Answer, other: Answer | None, arm: int) -> str:
    """What makes an answer none; "" for one that is one. Its shape is the baseline's to say."""
    if answer.broken_numbers:
        return "log-probabilities that are not numbers"
    if answer.bad:
        return "NaN or infinite numbers"
    if other is None:
        return ""
    if answer.empty and not other.empty:
        return "empty answer"
    if other.logprobs is not None and answer.logprobs is None and answer.token_ids:
        return "output of another shape"
    if arm == 1 and other.shape and answer.shape != other.shape:
        return "output of another shape"
    if other.finish_reason and not answer.finish_reason:
        return "no reason why it ended"
    if _blank(answer) and not _blank(other):
        return "a vector of zeros"
    return ""


def _blank(answer: Answer) -> bool:
    return answer.vector is not None and not answer.vector.any()


def _score(
    scores: Scores, ref: Answer, floor: Answer | None, mine: Answer | None, prompts: _Prompts, kept: dict[Any, Any]
) -> None:
    """`kept`: what was compared before; a look sees most of what the look before it saw."""
    if (ref, floor, mine) not in kept:
        kept[ref, floor, mine] = _compared(ref, floor, mine)
    found: _Compared | None = kept[ref, floor, mine]
    if found is None:
        return  # counted as broken where it was generated
    if mine is None or floor is None:
        scores.missing[1 if mine is None else 0] += 1
    for arm, kind in found.broken:
        scores.broken[arm][kind] += 1
    if found.score is not None:
        scores.pairs.append(replace(found.score, prompt=prompts.number(ref)))


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """`broken`: arms whose answer is none, and why. `score`: its prompt is yet to be numbered."""

    broken: tuple[tuple[int, str], ...]
    score: PairScore | None


def _compared(ref: Answer, floor: Answer | None, mine: Answer | None) -> _Compared | None:
    """None where the reference itself is broken."""
    if ref.topk_ids is None or ref.logprobs is None or not sound(ref.topk_ids, ref.logprobs):
        return None
    broken: list[tuple[int, str]] = []
    usable: list[Answer] = []
    for arm, answer in ((0, floor), (1, mine)):
        if answer is None:
            continue
        if answer.token_ids != ref.token_ids or answer.topk_ids is None or answer.logprobs is None:
            broken.append((arm, "output of another shape"))
        elif not sound(answer.topk_ids, answer.logprobs):
            broken.append((arm, "log-probabilities that are not numbers"))
        else:
            usable.append(answer)
    if len(usable) < 2:
        return _Compared(tuple(broken), None)
    distributions = [_distribution(answer) for answer in usable]
    first, second = (kl_topk(ref.topk_ids, ref.logprobs, ids, logprobs) for ids, logprobs in distributions)
    top = top_token(ref.topk_ids, ref.logprobs)
    differ = [float(np.mean(top_token(ids, logprobs) != top)) for ids, logprobs in distributions]
    own, _ = _likelihood(ref, ref)
    (floor_mean, _), (mean, absent) = (_likelihood(answer, ref) for answer in usable)
    loss = (own - floor_mean, own - mean)
    return _Compared(tuple(broken), PairScore(-1, (first, second), (differ[0], differ[1]), loss, absent))


def _distribution(answer: Answer) -> tuple[Ids, Floats]:
    assert answer.topk_ids is not None
    assert answer.logprobs is not None
    return answer.topk_ids, answer.logprobs


def _likelihood(answer: Answer, ref: Answer) -> tuple[float, int]:
    """The mean log-probability that an answer gives the tokens of `ref`, and how many of them are bounds only."""
    if answer.logprob is not None:
        return answer.logprob, 0
    each, absent = chosen(*_distribution(answer), np.array(ref.token_ids))
    return float(each.mean()), absent
