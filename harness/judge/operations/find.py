"""find-max-load: the highest load at which every objective holds.

Promote: one was found, shown to hold, and shown again by a longer trial. Rollback: even the low end misses, twice.
Inconclusive: nothing was shown; the high end holds, so the highest lies above it; or the load generator was too slow.

The answer is what DistServe calls goodput (Zhong et al., OSDI 2024): the highest rate at which the wanted share of
requests holds its objectives. `goodput` in the sentence is the other sense of the word (vLLM, GenAI-Perf): requests a
second that held all of their limits, at that load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge import words
from harness.judge.amounts.memory import Held, figures
from harness.judge.operations.facts import fact, failed
from harness.judge.operations.memory import METRIC, gate_of
from harness.judge.operations.search import Answer, replay
from harness.judge.operations.trials import Judged, Share
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings", "needs"]

MAX_LOAD = "max_load"
_BEYOND = {"errors": "failed", "goodput": "broke a limit"}


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`max_load`, and each objective at that load (or where it was missed) by its metric."""
    if not observations.get("trials"):
        return ()
    outcomes, answer = replay(observations, observations["trials"])
    if answer is None:
        return (fact(MAX_LOAD, "no data", f"The search was cut short after {words.count(len(outcomes), 'trial')}"),)
    rests_on = answer.beyond if answer.trial is None else answer.trial
    assert rests_on is not None
    shares = zip(observations["objectives"], outcomes[rests_on].shares, strict=True)
    return (
        _max_load(observations, outcomes, answer),
        *(_objective(objective, share, answer) for objective, share in shares),
        *_memory(observations, outcomes[rests_on], answer),
    )


def done(observations: Facts) -> str:
    outcomes, answer = replay(observations, observations["trials"])
    assert answer is not None
    return _sentence(observations, outcomes, answer)


def needs(observations: Facts) -> str:
    """What more it would take."""
    outcomes, answer = replay(observations, observations["trials"])
    ended = answer.ended if answer else None
    if ended == "at least" and _not_sent(observations, outcomes):
        ended = "behind"
    return {
        "at least": "a higher end of `between`",
        "behind": "a load that this machine can send: more `workers`, or a faster machine",
        "undecided": "longer trials (`trial`), or a lower end of `between`",
    }.get(ended or "", "a search that comes to its end")


def _max_load(observations: Facts, outcomes: Sequence[Judged], answer: Answer) -> Finding:
    outcome: Outcome = {"found": "pass", "below": "fail"}.get(answer.ended, "inconclusive")  # type: ignore[assignment]
    trials = observations["trials"]
    level = answer.level
    above = None if answer.beyond is None else float(trials[answer.beyond]["level"])
    return Finding(
        MAX_LOAD, outcome, _sentence(observations, outcomes, answer), kind="watch",
        unit="1/s" if observations["open_loop"] else "1", effect=level, candidate=level,
        interval=None if level is None else (level, above),
        n_candidate=0 if answer.trial is None else outcomes[answer.trial].shares[0].n,
    )  # fmt: skip


def _sentence(observations: Facts, outcomes: Sequence[Judged], answer: Answer) -> str:
    if answer.trial is None:
        assert answer.beyond is not None
        found = _found(observations, outcomes, answer.beyond)
        return {"below": "Even the low end misses: ", "behind": "", "undecided": "No load was shown to hold: "}[
            answer.ended
        ] + found
    holds = outcomes[answer.trial]
    assert answer.level is not None
    parts = [
        f"{'at least ' if answer.ended == 'at least' else ''}{_level(observations, answer.level)} holds "
        + " and ".join(_held(observations, each, share) for each, share in _each(observations, holds))
        + (f", and its memory ({holds.memory.said})" if isinstance(holds.memory, Held) else "")
    ]
    if answer.beyond is not None:
        parts.append(_found(observations, outcomes, answer.beyond))
    elif answer.ended == "at least":
        parts.append("that is the high end, and more was not tried")
    parts += [reason for reason in _not_sent(observations, outcomes)[-1:] if not any(reason in part for part in parts)]
    parts.append(f"goodput {words.number(holds.good)}/s")
    return words.sentence("; ".join(parts))


def _not_sent(observations: Facts, outcomes: Sequence[Judged]) -> list[str]:
    """Why the load generator could not send a level, of those that it could not in their last trial either."""
    last = {trial["level"]: found for trial, found in zip(observations["trials"], outcomes, strict=True)}
    return [found.reason for found in last.values() if found.outcome == "behind"]


def _found(observations: Facts, outcomes: Sequence[Judged], trial: int) -> str:
    """`644/s misses it (2.3 % of 3,220 were slower)`; by name where there are several objectives."""
    found, level = outcomes[trial], _level(observations, observations["trials"][trial]["level"])
    if found.outcome == "behind":
        return f"{level} could not be sent: {found.reason}"
    over = [(each, share) for each, share in _each(observations, found) if share.high > share.allowed]
    alone = len(observations["objectives"]) == 1
    what = " and ".join(f"{'it' if alone else each['words']} ({_seen(each, share)})" for each, share in over)
    why = f": {found.reason}" if found.reason else ""
    if found.outcome == "misses":
        return f"{level} misses {what}{why}" if what else f"{level} misses{why}"
    return f"{level} was not shown to hold {what}{why}"


def _held(observations: Facts, objective: Facts, share: Share) -> str:
    sure = words.margin(observations["confidence"])
    at_most = f"{sure} sure: at most {words.percent(share.high)} of {share.n:,} requests {_slower(objective)}"
    return f"{objective['words']} ({at_most})"


def _seen(objective: Facts, share: Share) -> str:
    low, high = words.percent(share.low), words.percent(share.high)
    return f"{words.percent(share.value)} of {share.n:,} {_slower(objective)}, {low} to {high}"


def _slower(objective: Facts) -> str:
    return _BEYOND.get(objective["metric"], "were slower")


def _objective(objective: Facts, share: Share, answer: Answer) -> Finding:
    """Where the answer was found, or else where the search ended."""
    held = share.n > 0 and share.high <= share.allowed
    missed = share.n > 0 and share.low > share.allowed
    outcome: Outcome = "pass" if held else "fail" if missed and answer.ended == "below" else "inconclusive"
    said = f"{objective['words']}: {_seen(objective, share)}; {words.margin(share.allowed)} may"
    return Finding(
        objective["metric"], outcome, said, kind="watch", unit="rate", effect=share.value,
        interval=(share.low, share.high), margin=share.allowed, candidate=share.value, n_candidate=share.n,
    )  # fmt: skip


def _memory(observations: Facts, found: Judged, answer: Answer) -> list[Finding]:
    """What was used in the trial on which the answer rests."""
    limit, held = observations.get("memory"), found.memory
    if limit is None or held is None:
        return []
    seen, reason = (held, held.said) if isinstance(held, Held) else (None, held)
    outcome: Outcome = "pass"
    if seen is None or (seen.unknown and not seen.broken):
        outcome = "no data"
    elif seen.broken:
        outcome = "fail" if answer.ended == "below" else "inconclusive"
    return [Finding(METRIC, outcome, words.sentence(reason), kind="watch", **figures(gate_of(limit), seen))]


def _each(observations: Facts, found: Judged) -> list[tuple[Facts, Share]]:
    return list(zip(observations["objectives"], found.shares, strict=True))


def _level(observations: Facts, level: float) -> str:
    return f"{level:g}/s" if observations["open_loop"] else f"{level:g} in flight"
