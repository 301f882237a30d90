"""Whether the measurement can be trusted. A finding here never fails: it makes a stage inconclusive, or informs.

`examine` also returns the audit: the same numbers, whether or not they are reason for a finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.judge.validity import (
    cache,
    delivery,
    generator,
    imported,
    lag,
    planned,
    saturation,
    steady,
    tokens,
    workers,
)
from harness.judge.validity.audit import audit
from harness.judge.validity.fault import Fault
from harness.judge.view import StageView
from harness.types import Audit


@dataclass(frozen=True, slots=True)
class Examined:
    audit: Audit
    faults: tuple[Fault, ...]


def examine(view: StageView) -> Examined:
    """The audit of a stage, and its faults in the order of what explains what."""
    latency_s = lag.latency(view)
    late = lag.measure(view, latency_s)
    sent = delivery.measure(view)
    machine = generator.measure(view, latency_s)
    warm_ups = steady.measure(view)
    loads = saturation.measure(view)
    caches = cache.measure(view)
    faults: Iterable[Fault | None] = (
        planned.version(view),
        planned.requests(view),
        *imported.judge(view),
        *workers.judge(view),
        lag.judge(view, late, machine, latency_s),
        delivery.judge(view, sent, machine),
        *generator.judge(view, machine, latency_s),
        saturation.judge(view, loads),
        planned.attribution(view),
        planned.share(view),
        planned.pairs(view),
        planned.duplicates(view),
        planned.clock(view),
        planned.baseline(view),
        planned.scores(view),
        tokens.judge(view),
        *cache.judge(view, caches),
        *steady.judge(view, warm_ups),
    )
    known = tuple(one for one in faults if one is not None)
    return Examined(audit(view, late, sent, machine, warm_ups, loads, caches), known)
