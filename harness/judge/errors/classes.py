"""Failures by class, for information: what one arm alone has, or surely more of than the other.

A candidate may trade one class for another within the margin of the whole: time-outs for `oom`. That is no reason to
roll back, and every reason to look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.judge import words
from harness.judge.errors.failures import Tally, tally_of
from harness.judge.statistics.counts import log_e_value
from harness.judge.statistics.intervals import ALPHA_FAIL
from harness.judge.view import StageView
from harness.types import Finding

MOST = 5
"""Classes that are shown; the most frequent come first."""


def information(view: StageView) -> Iterator[Finding]:
    """`errors.<class>` for each class of failures that tells the arms apart in this stage."""
    arms = tally_of(view, 0), tally_of(view, 1)
    if not all(arm.requests for arm in arms):
        return
    counts = tuple(dict(arm.classes) for arm in arms)
    names = sorted({*counts[0], *counts[1]}, key=lambda name: (-sum(c.get(name, 0) for c in counts), name))
    shown = 0
    for name in names:
        found = _told(view, name, arms, (counts[0].get(name, 0), counts[1].get(name, 0)), len(names))
        if found is not None and shown < MOST:
            shown += 1
            yield found


def _told(
    view: StageView, name: str, arms: tuple[Tally, Tally], counts: tuple[int, int], classes: int
) -> Finding | None:
    more = 1 if counts[1] / arms[1].requests >= counts[0] / arms[0].requests else 0
    less = 1 - more
    # Bursts are many failures of one cause: as many count as do of the whole arm.
    alone = counts[more] * (arms[more].alone / arms[more].failures)
    share = arms[more].requests / (arms[0].requests + arms[1].requests)
    surely = log_e_value(alone, counts[less], share) > math.log(classes / ALPHA_FAIL)
    if counts[less] and not surely:
        return None
    shown = [f"{words.count(counts[arm], 'request')} to {view.names[arm]}" for arm in (0, 1)]
    against = shown[less] if counts[less] else f"none to {view.names[less]}"
    chance = "more than chance explains" if surely else "too few to say that it is no chance"
    rates = tuple(count / arm.requests for count, arm in zip(counts, arms, strict=True))
    return Finding(
        metric=f"errors.{name}",
        outcome="pass",
        reason=f"for information: {shown[more]} failed with {name}, {against}: {chance}",
        kind=view.role,
        stage=view.index,
        unit="pp",
        effect=rates[1] - rates[0],
        baseline=rates[0],
        candidate=rates[1],
        n_baseline=arms[0].requests,
        n_candidate=arms[1].requests,
    )
