"""long-context: whether a version can serve the goal, context and batch, in the memory that it has.

Promote: the goal was reached as often as asked, and 110 % of its context too; its peak, and the upper 99 % bound of
what the ladder foretold, lie within the limit. Where it ran out of memory and a smaller batch was wanted, the same of
that. Rollback: it ran out of memory, needs more than its limit, or did not serve again after an OOM. A time-out is no
OOM, and a point that was not measured, or whose answer had fewer tokens than it was meant to, decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge import words
from harness.judge.operations.facts import fact, failed
from harness.judge.operations.long_fits import SHORT, TOO_LONG, LongFits, limit_share, long_fits, proven, share_of
from harness.judge.operations.long_margin import long_margin
from harness.judge.statistics.memory_fit import LEAST_POINTS
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings", "needs"]

CLOSE = 0.10
"""How far a measured edge may lie from the foretold one before the fit counts as wrong."""
CANDIDATE = "candidate"
DEADLY = ("out of memory", "stub died", "server died")
"""After these an instance that does not answer is lost; after a time-out it may only be busy still."""


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`memory.goal`, `memory.ramp`, `memory.fit`, `memory.edge`, `memory.margin`, `action`, `recovery`, `failures`, as
    far as there is something to say of them.
    """
    arms = observations.get("arms") or {}
    if CANDIDATE not in arms:
        return ()
    arm = arms[CANDIDATE]
    if arm["load_error"]:
        return (fact("memory.goal", "fail", f"{_who(arm)} cannot even be loaded: {arm['load_error']}"),)
    fits, batch = long_fits(observations, CANDIDATE), _batch(observations)
    found = [
        _goal(observations, fits, batch),
        _ramp(observations, batch),
        _fit(observations, CANDIDATE, fits, "memory.fit"),
        *_edge(observations, fits),
        *_action(observations),
        *_recovery(observations),
        *_others(observations),
        *long_margin(observations, batch, lambda name, size: _climbed(observations, size, name)),
    ]
    return tuple(found)


def done(observations: Facts) -> str:
    goal, batch = observations["goal"], _batch(observations)
    fits = long_fits(observations, CANDIDATE)
    head = words.percent(1 - fits.upper(goal["context"], batch))
    arm = observations["arms"][CANDIDATE]
    said = f"{_who(arm)} serves {goal['context']} tokens at batch {batch}, with {head} of the memory left at the least"
    if batch != goal["batch"]:
        said += f"; batch {goal['batch']} runs out of memory, so max_batch_size is {batch} now"
    return said


def needs(observations: Facts) -> str:
    """What more it would take."""
    arm = (observations.get("arms") or {}).get(CANDIDATE)
    if arm is None or not arm.get("watched"):
        return "readings of memory: a GPU that NVML sees, a metrics page (metrics_url), or the server's process"
    if any(proven(point) < point["context"] for point in arm["points"] if point["outcome"] == "ok"):
        return "answers as long as asked: a smaller `max_tokens`, and a model that does not cut its prompts"
    if any(point["outcome"] not in ("ok", *SHORT, TOO_LONG) for point in arm["points"]):
        return "points that are answered, or run out of memory: a longer `timeout`, or what the errors say"
    return "more points: further `contexts` and `batches` up to the goal"


def _batch(observations: Facts) -> int:
    """The goal's, or what it was reduced to."""
    action = observations.get("action") or {}
    return int(action.get("to") or observations["goal"]["batch"])


def _climbed(observations: Facts, batch: int, name: str = CANDIDATE) -> list[Facts]:
    """The points of the ramp at that batch."""
    phases = ("ramp", "reduced")
    return [
        point for point in observations["arms"][name]["points"] if point["phase"] in phases and point["batch"] == batch
    ]


def _goal(observations: Facts, fits: LongFits, batch: int) -> Finding:
    goal, limit = observations["goal"], limit_share(observations, CANDIDATE)
    arm, what = observations["arms"][CANDIDATE], f"{goal['context']} tokens at batch {batch}"
    at_goal = [point for point in _climbed(observations, batch) if point["context"] == goal["context"]]
    short = [
        point for point in arm["points"]
        if point["outcome"] in SHORT and point["batch"] == batch and point["context"] <= goal["context"]
    ]  # fmt: skip
    if short:
        first = min(short, key=lambda point: point["tokens"])
        said = f"{what}: {_short(first)} at {first['tokens']} tokens"
        return _figure("memory.goal", "fail", said, _shares(arm, at_goal), fits, goal["context"], batch, limit)
    if (watched := arm.get("watched")) is None:
        return fact("memory.goal", "no data", f"no memory of {_who(arm)} could be read")
    shares = _shares(arm, at_goal)
    ran = [point for point in at_goal if proven(point) >= goal["context"]]
    if len(ran) < observations["repeats"] or len(shares) < len(ran):
        shorter = [point["tokens"] for point in at_goal if point["outcome"] == "ok" and point not in ran]
        times = words.count(min(len(ran), len(shares)), "time")
        said = f"{what} was measured {times} of {observations['repeats']}"
        said += f", and had {min(shorter)} tokens only" if shorter else ""
        return _figure("memory.goal", "no data", said, shares, fits, goal["context"], batch, limit)
    top = max(shares)
    said = f"{what} took {words.percent(top)} of {watched.get('of') or watched['what']}"
    if top > limit:
        said += f", more than {words.margin(limit)}"
        return _figure("memory.goal", "fail", said, shares, fits, goal["context"], batch, limit)
    if not fits.known:
        said += f", within {words.margin(limit)}; but nothing is foretold of it"
        return _figure("memory.goal", "inconclusive", said, shares, fits, goal["context"], batch, limit)
    upper = fits.upper(goal["context"], batch)
    said += f"; 99 % sure it takes at most {words.percent(upper)}, limit {words.margin(limit)}"
    outcome: Outcome = "pass" if upper <= limit else "inconclusive"
    return _figure("memory.goal", outcome, said, shares, fits, goal["context"], batch, limit)


def _figure(
    metric: str, outcome: Outcome, said: str, shares: Sequence[float], fits: LongFits, context: int, batch: int,
    limit: float,
) -> Finding:  # fmt: skip
    upper = fits.upper(context, batch) if fits.known else None
    top = max(shares, default=None)
    return Finding(
        metric, outcome, words.sentence(said), kind="watch", unit="rate", effect=top, candidate=top, margin=limit,
        interval=None if upper is None else (None, upper), n_candidate=len(shares),
    )  # fmt: skip


def _ramp(observations: Facts, batch: int) -> Finding:
    """All the way to 110 %, as often as asked."""
    climbed = _climbed(observations, batch)
    wanted = observations["repeats"] * len(observations["ramp"])
    short = [point for point in climbed if point["outcome"] in SHORT]
    if short:
        first = min(short, key=lambda point: point["tokens"])
        times = words.count(len(short), "time")
        said = f"The ramp at batch {batch} {_short(first)} at {first['tokens']} tokens ({times})"
        return fact("memory.ramp", "fail", said)
    goal = observations["goal"]["context"]
    refused = min((p["context"] for p in climbed if p["outcome"] == TOO_LONG and p["context"] > goal), default=None)
    if refused is not None:
        wanted = observations["repeats"] * sum(share <= 1 for share in observations["ramp"])
    ok = [point for point in climbed if proven(point) >= point["context"]]
    if len(ok) < wanted:
        return fact("memory.ramp", "no data", f"The ramp at batch {batch} has {len(ok)} of its {wanted} points")
    top = max(point["tokens"] for point in ok)
    times = words.count(observations["repeats"], "fresh instance")
    more = "" if refused is None else f"; {refused} are more than the model takes"
    said = f"{top} tokens at batch {batch} were answered in {times}, one after another{more}"
    return fact("memory.ramp", "pass", said)


def _fit(observations: Facts, name: str, fits: LongFits, metric: str) -> Finding:
    """Whether the ladder is enough, and what it foretold came true."""
    arm = observations["arms"][name]
    if not fits.known:
        if not arm.get("watched"):
            return fact(metric, "no data", f"no memory of {_who(arm)} could be read")
        return fact(
            metric, "inconclusive",
            f"the ladder has {words.count(fits.points, 'point')} with answer and reading; {LEAST_POINTS} are needed",
        )  # fmt: skip
    tried = [
        (share, fits.upper(point["tokens"], point["batch"]), point)
        for point in arm["points"]
        if point["phase"] != "ladder" and point["outcome"] == "ok" and (share := share_of(arm, point)) is not None
    ]
    wrong = [one for one in tried if one[0] > one[1]]
    terms = " + ".join(("constant", *next(iter(fits.by_device.values()))[0].terms))
    basis = f"{words.count(fits.points, 'isolated point')}, {terms}"
    if len(wrong) > max(1, len(tried) // 20):
        share, upper, point = max(wrong, key=lambda one: one[0] - one[1])
        said = (
            f"The fit ({basis}) is wrong: {point['tokens']} tokens at batch {point['batch']} took "
            f"{words.percent(share)}, at most {words.percent(upper)} was foretold"
        )
        return fact(metric, "inconclusive", said)
    if not tried:
        return fact(metric, "inconclusive", f"The fit ({basis}) was held against no measurement")
    off = max(abs(share - fits.peak(point["tokens"], point["batch"])) for share, _, point in tried)
    said = f"The fit ({basis}) was at most {words.percent(off)} of the memory off in {len(tried)} further measurements"
    return fact(metric, "pass", said)


def _edge(observations: Facts, fits: LongFits) -> list[Finding]:
    """Where memory ends at the goal's batch: foretold, and between which two measurements."""
    if not observations["limits"]["edge"] or not fits.known:
        return []
    batch, goal = observations["goal"]["batch"], observations["goal"]["context"]
    mine = [point for point in observations["arms"][CANDIDATE]["points"] if point["batch"] == batch]
    ok = max((point["tokens"] for point in mine if point["outcome"] == "ok"), default=0)
    bad = min((point["tokens"] for point in mine if point["outcome"] in SHORT), default=None)
    foretold = fits.edge(batch)
    at = f"{foretold:.0f} tokens" if foretold < 1e9 else "no context"
    said = f"At batch {batch} memory ends at {at} by the fit"
    if bad is None:
        outcome: Outcome = "pass" if ok >= goal and foretold >= ok * (1 - CLOSE) else "inconclusive"
        refused = any(point["outcome"] == TOO_LONG for point in mine)
        rest = "the model takes no more" if refused else "more was not tried"
        return [_edge_figure(outcome, f"{said}; {ok} tokens were answered, and {rest}", ok, None, foretold)]
    middle = (ok + bad) / 2 if ok else bad
    off = foretold / middle - 1
    said += f"; {ok} tokens were answered and {bad} were not: {words.percent(abs(off))} off"
    return [_edge_figure("pass" if abs(off) <= CLOSE else "inconclusive", said, ok, bad, foretold)]


def _edge_figure(outcome: Outcome, said: str, ok: float, bad: float | None, foretold: float) -> Finding:
    return Finding(
        "memory.edge", outcome, said, kind="watch", unit="tokens", effect=foretold if foretold < 1e9 else None,
        candidate=None if bad is None else (ok + bad) / 2, interval=(float(ok), None if bad is None else float(bad)),
    )  # fmt: skip


def _action(observations: Facts) -> list[Finding]:
    action = observations.get("action")
    if not action:
        return []
    if action.get("refused"):
        return [fact("action", "inconclusive", f"No smaller batch was tried: {action['refused']}")]
    to, tried = action["to"], ", ".join(map(str, action["tried"]))
    if to is None:
        back = "it is as before again" if action["put_back"] else "it was NOT put back"
        return [fact("action", "fail", f"No batch fits: max_batch_size {tried} did not hold either; {back}")]
    model = observations["arms"][CANDIDATE]["model"]
    said = f"max_batch_size of {model}, of all its versions, was reduced from {action['before']} to {to}, loaded again"
    if action["reads"] != to:
        return [fact("action", "fail", f"{said}, but the server says {action['reads']}")]
    if not action["refuses_more"]:
        return [fact("action", "fail", f"{said}, but a batch of {to + 1} is still taken")]
    kept = "as it is not promoted, it was put back" if action["put_back"] else "the goal holds with it"
    return [fact("action", "pass", f"{said}; the server says {to} and refuses {to + 1}; {kept}")]


def _recovery(observations: Facts) -> list[Finding]:
    """Each instance that ran out of memory has to answer again; one that only took too long decides nothing."""
    short = [
        point
        for point in observations["arms"][CANDIDATE]["points"]
        if point["outcome"] not in ("ok", "preempted", "queued", TOO_LONG)
    ]
    if not short:
        return []
    lost = [point for point in short if point.get("recovered_s") is None]
    if lost:
        first = next((point for point in lost if point["outcome"] in DEADLY), lost[0])
        said = (
            f"After {first['tokens']} tokens at batch {first['batch']} ({first['outcome']}) the instance did not "
            "answer again"
        )
        return [fact("recovery", "fail" if first["outcome"] in DEADLY else "inconclusive", said)]
    slowest = max(point["recovered_s"] for point in short)
    after = "the failure" if len(short) == 1 else f"each of {len(short)} failures"
    return [fact("recovery", "pass", f"After {after} the same instance answered again, within {slowest:.1f} s")]


def _others(observations: Facts) -> list[Finding]:
    """What failed, and was no OOM, as far as its words tell."""
    goal = observations["goal"]["context"]
    others = [
        point
        for point in observations["arms"][CANDIDATE]["points"]
        if point["outcome"] not in ("ok", *SHORT) and not (point["outcome"] == TOO_LONG and point["context"] > goal)
    ]
    if not others:
        return []
    kinds = sorted({point["outcome"] for point in others})
    first = others[0]
    died = any(kind in DEADLY for kind in kinds)
    what = "and the kernel ends a process for memory, too: see its log" if died else "which is no OOM"
    said = (
        f"{words.count(len(others), 'point')} failed otherwise ({', '.join(kinds)}), {what}: at "
        f"{first['tokens']} tokens, batch {first['batch']}: {first['error']}"
    )
    return [fact("failures", "inconclusive", said)]


def _shares(arm: Facts, points: Sequence[Facts]) -> list[float]:
    return [share for point in points if (share := share_of(arm, point)) is not None]


def _short(point: Facts) -> str:
    return {
        "out of memory": "ran out of memory",
        "preempted": "had sequences preempted",
        "queued": "had requests wait for memory",
    }[point["outcome"]]


def _who(arm: Facts) -> str:
    return f"{arm['model']} version {arm['version']}"
