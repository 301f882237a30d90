"""One value an answer, side by side for both arms by prompt: a score, a log-probability, a reason to end.

The candidate's answers are those of the stage. The baseline's are those of the stage, too, and for prompts that it was
not asked there (a split) those of earlier stages. So no pairs are needed, only that both arms were asked the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from harness.judge.metrics import scorer_of
from harness.judge.quality.excess import Row
from harness.judge.quality.outputs import Answer
from harness.judge.view import StageView

Value = Callable[[Answer], float | None]


@dataclass(slots=True)
class Values:
    """`rows`: of prompts that both arms have a value for. `lost`: the candidate's answers without one, to prompts where
    the baseline has one; `held`: those with one. `lack`: why there is nothing at all, where that is known. `usual`: the
    baseline's most frequent reason to end. `floor`: the first value of the rows is a floor that was measured.
    """

    rows: list[Row] = field(default_factory=list)
    lost: int = 0
    held: int = 0
    lack: str = ""
    usual: str = ""
    floor: bool = False


def logprobs(view: StageView) -> Values:
    """Less is worse, so the rows have it with the sign turned: nats a token that are lost."""
    if all(_own_logprob(answer) is None for answer in view.outputs if _generated(answer, "baseline")):
        return Values(lack=f"{view.names[0]} gives no log-probability of its own answers")
    return _side_by_side(view, lambda answer: None if answer.broken_numbers else _negative(_own_logprob(answer)))


def finishes(view: StageView) -> Values:
    """1 where an answer ended for the baseline's most frequent reason."""
    reasons = Counter(a.finish_reason for a in view.outputs if _generated(a, "baseline") and a.finish_reason)
    if not reasons:
        return Values(lack=f"{view.names[0]} says of no answer why it ended")
    usual = min(reasons, key=lambda reason: (-reasons[reason], reason))
    found = _side_by_side(view, lambda answer: float(answer.finish_reason == usual))
    found.usual = usual
    return found


def scores(view: StageView, metric: str) -> Values:
    """Of the scorer that the metric names, else of the only one. They are taken when a stage is over."""
    marks = view.evidence.marks
    name = scorer_of(metric) or (marks.scorers[0] if len(marks.scorers) == 1 else "")
    if not name or name not in marks.scorers:
        there = f"the run has those of {', '.join(marks.scorers)}" if marks.scorers else "the run had no scorer"
        return Values(lack=f"no scores{f' of {name}' if name else ''} ({there})")
    if view.index in marks.errors.get(name, {}):
        return Values(lack=f"the scorer {name} failed: {marks.errors[name][view.index]}")
    if not view.final and view.record.end_ns is None:
        return Values(lack="scores are taken when the stage is over")
    known = marks.scores.get(name, {})
    return _side_by_side(view, lambda answer: known.get((answer.stage, answer.pair_id, answer.arm)))


def _side_by_side(view: StageView, value: Value) -> Values:
    key = prompt_of(view)
    here: defaultdict[Hashable, list[float]] = defaultdict(list)
    before: defaultdict[Hashable, list[float]] = defaultdict(list)
    for answer in view.outputs:
        if _generated(answer, "baseline"):
            number = value(answer)
            if number is not None and key(answer) is not None:
                (here if answer.stage == view.index else before)[key(answer)].append(number)
    known = {**before, **here}
    first = {prompt: sum(numbers) / len(numbers) for prompt, numbers in known.items()}
    places = {prompt: place for place, prompt in enumerate(first)}
    found = Values()
    for answer in view.outputs:
        prompt = key(answer)
        if answer.stage != view.index or not _generated(answer, "candidate") or prompt not in first:
            continue
        number = value(answer)
        if number is None:
            found.lost += 1
        else:
            found.held += 1
            found.rows.append((places[prompt], first[prompt], number))
    return found


def prompt_of(view: StageView) -> Callable[[Answer], Hashable]:
    """What tells prompts apart: their number, else (in recordings of earlier releases) the baseline's answer to it."""
    said = {a.pair_id: a.content for a in view.outputs if _generated(a, "baseline")}
    return lambda answer: answer.prompt if answer.prompt >= 0 else said.get(answer.pair_id)


def _generated(answer: Answer, arm: str) -> bool:
    return answer.kind == "generated" and answer.arm == arm


def _own_logprob(answer: Answer) -> float | None:
    """The engine's own, else that of the likeliest tokens: a greedy answer is made of them."""
    if answer.logprob is not None or answer.logprobs is None:
        return answer.logprob
    return float(answer.logprobs.max(axis=1).mean())


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
