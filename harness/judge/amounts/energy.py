"""Joules of an arm's own GPUs for each of its answers, block by block.

By the GPUs' energy counters; a card that has none tells its power, which is summed up from poll to poll. Both arms have
the same load, so idle power is in it for both; and where a closed loop makes one arm wait for the other, what it draws
meanwhile.
"""

from __future__ import annotations

import numpy as np

from harness.judge import words
from harness.judge.amounts import rates
from harness.judge.amounts.rates import LEAST_ANSWERS, Amounts
from harness.judge.amounts.relative import LEAST_BLOCKS, Relative, missing, spoken, too_few
from harness.judge.amounts.watched import Scene, Watched, gpus, own_gpus, unwatched
from harness.judge.columns import OK, Floats
from harness.judge.rule import Rule, settled
from harness.judge.view import StageView
from harness.types import Gate

ENERGY, POWER = "gpu.energy", "gpu.power"


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule of a margin on `energy`."""
    for name, answers in zip(view.names, view.answered, strict=True):
        if not answers:
            return settled(missing(view, gate, f"{name} answered nothing: no answer to share the energy among"))
    found = own_gpus(view, ENERGY)
    counted = not isinstance(found, str)
    if not counted and any(map(len, gpus(Scene.of(view), POWER).values())):
        found = own_gpus(view, POWER)
    if isinstance(found, str):
        return settled(missing(view, gate, found))
    if (gap := unwatched(found)) is not None:
        return settled(missing(view, gate, f"{gap}: what it drew is not known"))
    drawn = [each.value if counted else _joules(each) for each in found]
    if any((np.diff(joules) < 0).any() for joules in drawn):
        return settled(missing(view, gate, "an energy counter began anew in this stage: the driver was reset"))
    # Nothing is known of what was drawn before the first reading and after the last.
    begin, end = max(int(each.t_ns[0]) for each in found), min(int(each.t_ns[-1]) for each in found)
    begin, end = max(begin, rates.span(view)[0]), min(end, rates.span(view)[1])
    at = rates.edges(begin, end, max(view.answered))
    worse = None
    if at is not None:
        one, two = (
            Amounts(rates.summed(at, arm.done_ns[arm.status == OK]), np.diff(np.interp(at, each.t_ns, joules)))
            for arm, each, joules in zip(view.arms, found, drawn, strict=True)
        )
        worse = rates.worse(view, gate.metric, one, two) if one.much.any() else None
    if worse is None:
        reason = (
            f"{spoken(gate.metric)} needs {LEAST_BLOCKS} blocks of time in which both arms draw power, and "
            f"{LEAST_ANSWERS} answers; there are {max(view.answered)} in {words.duration((end - begin) / 1e9)}"
        )
        return settled(too_few(view, gate, reason, None))
    each_one, each_two = (float(part.per.sum() / max(part.much.sum(), 0.5)) for part in (one, two))
    waits = " and what is drawn while one arm waits for the other" if view.plan.in_flight else ""
    values = f"{each_two:.3g} J of {found[1].name} against {each_one:.3g} J of {found[0].name}"
    note = f", idle power{waits} included" + ("" if counted else "; summed up from power, read from poll to poll")
    return Relative(view, gate, worse, each_one, each_two, values, note).rule()


def _joules(power: Watched) -> Floats:
    """What was drawn up to each reading (trapezoids)."""
    steps = np.diff(power.t_ns) / 1e9 * (power.value[1:] + power.value[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(steps)])
