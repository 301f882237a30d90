"""What either arm got through: as a gate (how far the candidate may be below the baseline), and for information."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from harness.judge import words
from harness.judge.amounts import rates
from harness.judge.amounts.rates import LEAST_ANSWERS, SHORTEST_BLOCK_S, Amounts
from harness.judge.amounts.relative import LEAST_BLOCKS, Relative, missing, spoken, too_few
from harness.judge.amounts.watched import per_gpu
from harness.judge.columns import BASELINE, CANDIDATE, OK, Floats, Ints
from harness.judge.rule import Rule, settled
from harness.judge.statistics.intervals import Spread
from harness.judge.times.derived import lengths
from harness.judge.view import StageView
from harness.types import Finding, Gate

KEPT_UP = 0.95
"""The share of what was sent in the second half of the stage that an arm answers there if it keeps up."""


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule of a margin on `request_throughput`, `output_token_throughput` or `throughput_per_gpu`."""
    tokens = gate.metric == "output_token_throughput"
    if tokens and (unknown := of_no_length(view, gate)) is not None:
        return settled(unknown)
    found = over_gpus(view, gate)
    if isinstance(found, Finding):
        return settled(found)
    gpus, per = found
    weights = tuple(np.nan_to_num(lengths(arm)) if tokens else np.ones(len(arm)) for arm in view.arms)
    of_what = "output tokens" if tokens else "answers"
    return judged(view, gate, (weights[0], weights[1]), of_what, gpus=gpus, per=per)


def over_gpus(view: StageView, gate: Gate) -> tuple[tuple[int, int], str] | Finding:
    """By how many GPUs the rate of each arm is divided, and the words for it."""
    if gate.metric != "throughput_per_gpu":
        return (1, 1), ""
    found = per_gpu(view)
    return missing(view, gate, found) if isinstance(found, str) else found


def of_no_length(view: StageView, gate: Gate) -> Finding | None:
    """An arm that answered, and of whose answers nobody says how long any is."""
    silent = [v for arm, v in enumerate(view.names) if view.answered[arm] and not view.tokens(arm)[0]]
    if not silent:
        return None
    return missing(view, gate, f"nobody counted the tokens of {' and '.join(silent)}; load.tokenizer would count them")


def judged(
    view: StageView, gate: Gate, weights: tuple[Floats, Floats], of_what: str, *, gpus: tuple[int, int] = (1, 1),
    per: str = "",
) -> Rule:  # fmt: skip
    """`weights`: what each request of either arm is worth if it was answered (1, its tokens, 0 if it was not good)."""
    answered = tuple(arm.status == OK for arm in view.arms)
    silent = of_nothing(view, gate)
    if silent is not None:
        return settled(silent)
    begin, end = rates.span(view)
    at = rates.edges(begin, end, max(view.answered))
    if at is None:
        return settled(too_short(view, gate, (end - begin) / 1e9))
    amounts = []
    for arm, ok, worth, of_gpus in zip(view.arms, answered, weights, gpus, strict=True):
        paid = worth[ok & (worth > 0)]
        grain = 0.5 * float(paid.mean()) if len(paid) else 0.5
        much = rates.summed(at, arm.done_ns[ok], worth[ok])
        amounts.append(Amounts(much, rates.elapsed(view, arm, at) * of_gpus, grain))
    one, two = one_grain(*amounts)
    if not one.much.any():
        late = f"no answer of {view.names[0]} came before the planned end of the stage"
        return settled(missing(view, gate, f"{late}: nothing to compare {view.names[1]} with"))
    worse = rates.worse(view, gate.metric, one, two)
    if worse is None:
        return settled(too_short(view, gate, (end - begin) / 1e9))
    set_by_load = gate.metric != "goodput" and _set_by_load(view, at)
    return said(view, gate, worse, (one.rate, two.rate), f"{of_what} a second{per}", set_by_load=set_by_load)


def said(
    view: StageView, gate: Gate, worse: Spread, each: tuple[float, float], unit: str, *, set_by_load: bool
) -> Rule:
    """The rule, and the words for what was measured. `each`: the rates of both arms, in `unit`."""
    one, two = each
    values, note = f"{two:.3g} against {one:.3g} {unit}", ""
    if view.plan.in_flight:
        values += ", for each request in flight"
        note = ": in a closed loop that both arms share they answer equally often, so what counts is how fast"
    elif set_by_load:
        note = ": both answered what was sent, so the load set it, not the model"
    return Relative(view, gate, worse, one, two, values, note).rule()


def one_grain(one: Amounts, two: Amounts) -> tuple[Amounts, Amounts]:
    """With the same grain, so that it favours neither."""
    grain = max(one.grain, two.grain)
    return Amounts(one.much, one.per, grain), Amounts(two.much, two.per, grain)


def of_nothing(view: StageView, gate: Gate) -> Finding | None:
    """An arm that gave no answer: nothing to compare with, or one that was not asked. A candidate that was asked as
    often as the baseline and never answered is judged: it got nothing through.
    """
    v1, v2 = view.names
    if not view.answered[0]:
        asked = words.count(view.asked(BASELINE), "request")
        return missing(view, gate, f"{v1} answered none of {asked}: nothing to compare {v2} with")
    if not view.asked(CANDIDATE):
        return missing(view, gate, f"{v2} was asked nothing")
    if not view.answered[1] and not view.failed(CANDIDATE)[0]:
        return missing(view, gate, f"no request to {v2} came to an end ({view.asked(CANDIDATE)} were cancelled)")
    return None


def too_short(view: StageView, gate: Gate, span_s: float) -> Finding:
    have, least_s = max(view.answered), LEAST_BLOCKS * SHORTEST_BLOCK_S
    reason = (
        f"{spoken(gate.metric)} needs {LEAST_BLOCKS} blocks of time: {words.duration(least_s)} and {LEAST_ANSWERS} "
        f"answers, there are {words.duration(span_s)} and {have}"
    )
    share = min(have / LEAST_ANSWERS, span_s / least_s)
    return too_few(view, gate, reason, view.elapsed_s * max(1 / share - 1, 0.1) if share > 0 else None)


def _set_by_load(view: StageView, at: Ints) -> bool:
    """In an open loop an arm that keeps up answers what is sent, and no more. Of another tool's load nobody knows."""
    if view.evidence.imported is not None or not all(arm.due_known.all() for arm in view.arms):
        return False
    half = np.array([at[len(at) // 2], at[-1]])
    for arm in view.arms:
        sent = float(rates.summed(half, arm.due_ns).sum())
        done = float(rates.summed(half, arm.done_ns[arm.status == OK]).sum())
        if sent == 0 or done < KEPT_UP * sent:
            return False
    return True


def information(view: StageView, *, drift: bool, gated: Collection[str] = ()) -> Iterator[Finding]:
    """`osl` drift (where `drift` and no gate says so), request and output token throughput of both arms, except for
    those that are `gated`.
    """
    tokens = view.tokens(BASELINE), view.tokens(CANDIDATE)
    some = all(together for _, together in tokens)
    if drift and some:
        one, two = (together / answers for answers, together in tokens)
        ratio = two / one
        text = f"answers are {_longer(ratio, *view.names)} ({two:.1f} tokens against {one:.1f})"
        yield _finding(view, "osl", "ratio", one, two, text, ratio)
    if not view.asked(BASELINE) + view.asked(CANDIDATE):
        return
    if "request_throughput" not in gated:
        one, two = (answered / view.elapsed_s for answered in view.answered)
        text = f"{two:.3g} answers a second on {view.names[1]}, {one:.3g} on {view.names[0]}"
        yield _finding(view, "request_throughput", "1/s", one, two, text)
    if some and "output_token_throughput" not in gated:
        one, two = (together / view.elapsed_s for _, together in tokens)
        text = f"{two:.3g} output tokens a second on {view.names[1]}, {one:.3g} on {view.names[0]}"
        yield _finding(view, "output_token_throughput", "1/s", one, two, text)


def _longer(ratio: float, v1: str, v2: str) -> str:
    if round(abs(ratio - 1) * 1000) == 0:
        return f"as long on {v2} as on {v1}"
    return f"{words.percent(abs(ratio - 1))} {'longer' if ratio > 1 else 'shorter'} on {v2} than on {v1}"


def _finding(
    view: StageView, metric: str, unit: str, one: float, two: float, text: str, effect: float | None = None
) -> Finding:
    return Finding(
        metric=metric,
        outcome="pass",
        reason=f"for information: {text}",
        kind=view.role,
        stage=view.index,
        unit=unit,
        effect=effect,
        baseline=one,
        candidate=two,
        n_baseline=view.asked(BASELINE),
        n_candidate=view.asked(CANDIDATE),
    )
