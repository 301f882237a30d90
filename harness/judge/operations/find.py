"""find-max-load: the highest load at which every objective was shown to hold, and what is known of the next one.

Promote: it was found, and held once more. Rollback: even the low end misses. Where no load was shown either way, where
the load generator fell behind, and where the high end still holds, the limit is not known: inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge import words
from harness.judge.operations.facts import amount, fact, failed
from harness.judge.operations.search import Answer, replay
from harness.judge.operations.trials import Judged, Share, punctual
from harness.types import Finding

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings", "needs"]


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`max_load`, and of the trial on which it rests `load`, `goodput` and each objective by its metric's name."""
    trials, answer = observations.get("trials") or [], None
    if trials:
        judged, answer = replay(observations, trials)
    if answer is None:
        tried = f"{amount(len(trials), 'trial')} of a load ended" if trials else "No load was tried"
        return (fact("max_load", "no data", f"{tried}, and the search did not"),)
    found = [_max_load(observations, judged, answer)]
    at = answer.trial if answer.trial is not None else answer.beyond
    assert at is not None
    trial, seen = trials[at], judged[at]
    if seen.outcome == "behind":
        found.append(fact("load", "inconclusive", f"{_level(observations, trial)}: {seen.reason}"))
    elif answer.trial is not None:
        found.append(punctual(trial, observations["objectives"]))
        found += _of_answer(observations, trial, seen)
    return tuple(found)


def done(observations: Facts) -> str:
    judged, answer = replay(observations, observations["trials"])
    assert answer is not None
    return _max_load(observations, judged, answer).reason


def needs(observations: Facts) -> str:
    """What would tell where the search did not."""
    judged, answer = replay(observations, observations["trials"])
    if answer is None:
        return "an operation that comes to its end: run it again"
    if any(seen.outcome == "behind" for seen in judged):
        return "a faster machine for the load generator, or one of its own"
    if answer.ended == "at least":
        return "a higher end of `between`"
    return "longer trials, or a lower end of `between`"


def _max_load(observations: Facts, judged: Sequence[Judged], answer: Answer) -> Finding:
    metric, trials = "max_load", observations["trials"]
    beyond = "" if answer.beyond is None else _next(observations, trials[answer.beyond], judged[answer.beyond])
    if answer.trial is None:
        assert answer.beyond is not None
        return fact(
            metric, "fail" if answer.ended == "below" else "inconclusive",
            ("Even " if answer.ended == "below" else "No load was shown to hold: ") + beyond,
        )  # fmt: skip
    seen = judged[answer.trial]
    level = _level(observations, trials[answer.trial])
    said = f"{level} holds {_objectives(observations)} ({_sure(observations)}: {_holds(observations, seen)})"
    ends = f"; {beyond}" if beyond else f"; more than {level} was not tried"
    at_least = "" if answer.ended == "found" else "At least "
    return Finding(
        metric, "pass" if answer.ended == "found" else "inconclusive",
        f"{at_least}{said}{ends}; goodput {words.number(seen.good)}/s", kind="watch",
        unit="1/s" if observations["open_loop"] else "1", candidate=answer.level, n_candidate=seen.shares[0].n,
    )  # fmt: skip


def _of_answer(observations: Facts, trial: Facts, seen: Judged) -> list[Finding]:
    """The figures on which the answer rests; these hold, or there would be none."""
    level = _level(observations, trial)
    sent = sum(block["due"] for block in trial["blocks"]) / trial["seconds"]
    of = f"{words.percent(seen.good / sent)} of the {words.number(sent)}/s that were sent" if sent else "nothing sent"
    found = [
        Finding(
            "goodput", "pass", f"{level}: {words.number(seen.good)}/s held every limit, {of}", kind="watch",
            unit="1/s", candidate=seen.good, n_candidate=seen.shares[0].n,
        )
    ]  # fmt: skip
    for objective, share in zip(observations["objectives"], seen.shares, strict=True):
        worth = f", worth {share.n / share.effect:.0f} independent ones" if share.effect >= 1.05 else ""
        said = f"{level}: {_share(objective, share)}{worth}; {words.percent(share.high)} at most, "
        said += f"{words.percent(share.allowed)} may"
        found.append(
            Finding(
                objective["metric"], "pass", said, kind="watch", unit="1", candidate=share.value,
                interval=(share.low, share.high), margin=share.allowed, n_candidate=share.n,
            )
        )  # fmt: skip
    return found


def _next(observations: Facts, trial: Facts, seen: Judged) -> str:
    """What is known of the lowest load that was not shown to hold."""
    level = _level(observations, trial)
    if seen.outcome == "behind":
        return f"{level} could not be sent ({seen.reason})"
    if seen.outcome == "misses":
        return f"{level} misses {_which(observations, seen)}"
    if seen.reason:
        return f"{level} is undecided ({seen.reason})"
    pairs = zip(observations["objectives"], seen.shares, strict=True)
    open_ = [(objective, share) for objective, share in pairs if share.high > share.allowed]
    said = " and ".join(
        f"{_share(objective, share)}, {words.percent(share.low)} to {words.percent(share.high)}"
        for objective, share in open_
    )
    return f"{level} is undecided ({said})"


def _which(observations: Facts, seen: Judged) -> str:
    if seen.reason:
        return f"{_it(observations)} ({seen.reason})"
    broken = [
        (objective, share)
        for objective, share in zip(observations["objectives"], seen.shares, strict=True)
        if share.low > share.allowed
    ]
    said = " and ".join(_share(objective, share) for objective, share in broken)
    if len(observations["objectives"]) == 1:
        return f"it ({said})"
    return f"{' and '.join(objective['words'] for objective, _ in broken)} ({said})"


def _it(observations: Facts) -> str:
    return "it" if len(observations["objectives"]) == 1 else "them"


def _objectives(observations: Facts) -> str:
    return " and ".join(objective["words"] for objective in observations["objectives"])


def _sure(observations: Facts) -> str:
    return f"{observations['confidence'] * 100:.4g} % sure"


def _holds(observations: Facts, seen: Judged) -> str:
    return " and ".join(
        f"at most {words.percent(share.high)} of {share.n:,} {_verb(objective)}"
        for objective, share in zip(observations["objectives"], seen.shares, strict=True)
    )


def _share(objective: Facts, share: Share) -> str:
    return f"{words.percent(share.value)} of {share.n:,} {_verb(objective)}"


def _verb(objective: Facts) -> str:
    if not objective["within"]:
        return "fail"
    return "are beyond a limit" if objective["metric"] == "goodput" else "are slower"


def _level(observations: Facts, trial: Facts) -> str:
    return f"{trial['level']:g}/s" if observations["open_loop"] else f"{trial['level']:g} in flight"
