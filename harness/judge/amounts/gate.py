"""What is no time and no failure: throughput, goodput, memory, energy. Which rule a gate on them is."""

from __future__ import annotations

from harness.judge.amounts import energy, goodput, memory, throughput
from harness.judge.amounts.relative import missing, spoken
from harness.judge.rule import Rule, settled
from harness.judge.view import StageView
from harness.types import Gate


def judge(view: StageView, gate: Gate) -> Rule:
    """Limits hold in any stage; a margin only where both arms have the same load at the same time."""
    if gate.limit is not None:
        return memory.limit(view, gate) if gate.metric == "memory.peak" else goodput.share(view, gate)
    if view.plan.mode == "sequential":
        what = spoken(gate.metric)
        return settled(missing(view, gate, f"{what} is compared where both arms are asked at once, not in turns"))
    if gate.metric == "memory.peak":
        return memory.compare(view, gate)
    if gate.metric == "energy":
        return energy.compare(view, gate)
    return goodput.compare(view, gate) if gate.metric == "goodput" else throughput.compare(view, gate)
