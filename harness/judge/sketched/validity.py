"""The checks of a measurement of which only counts are known.

Not to be told from counts: a beginning unlike the rest (it only informs). Nor from a sketch: which worker was late or
fell silent, requests that repeat a number, and times that run backwards but for response times, which are in no bin.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.judge.columns import ARMS, BASELINE, CANDIDATE
from harness.judge.sketched import load
from harness.judge.sketched.view import CountedEvidence, CountedView
from harness.judge.validity import (
    Examined,
    cache,
    delivery,
    generator,
    lag,
    planned,
    saturation,
    steady,
    tokens,
    workers,
)
from harness.judge.validity.audit import audit
from harness.judge.validity.fault import Fault, informs


def examine(view: CountedView) -> Examined:
    """As `validity.examine`."""
    latency_s = load.latency(view)
    late = load.late(view, latency_s)
    sent = load.sent(view)
    machine = generator.measure(view, latency_s)
    loads = load.loads(view)
    caches = cache.measure(view)
    faults: Iterable[Fault | None] = (
        _version(view),
        planned.requests(view),
        *workers.judge(view),
        lag.judge(view, late, machine, latency_s),
        delivery.judge(view, sent, machine),
        *generator.judge(view, machine, latency_s),
        saturation.judge(view, loads),
        planned.attribution(view),
        planned.share(view),
        planned.torn(view, *view.counts.pairs) if view.plan.mode == "paired" and view.final else None,
        planned.repeated(view, view.counts.twice) if view.plan.mode == "paired" else None,
        planned.backwards(view, view.counts.backwards),
        planned.baseline(view),
        planned.scores(view),
        tokens.judge(view),
        *cache.judge(view, caches),
        *steady.judge(view, ()),
        _told(view),
    )
    known = tuple(one for one in faults if one is not None)
    return Examined(audit(view, late, sent, machine, (), loads, caches), known)


def _told(view: CountedView) -> Fault | None:
    assert isinstance(view.evidence, CountedEvidence)
    return informs(view, "sketched", view.evidence.told) if view.evidence.told else None


def _version(view: CountedView) -> Fault | None:
    for arm in (BASELINE, CANDIDATE):
        wanted = view.evidence.versions.get(ARMS[arm])
        named = {name: n for (of, name), n in sorted(view.counts.versions.items()) if of == arm and name}
        other = {name: n for name, n in named.items() if name != wanted}
        if wanted and other:
            return planned.other_version(view, arm, sum(other.values()), sum(named.values()), min(other))
    return None
