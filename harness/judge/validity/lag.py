"""Whether requests left when they were due.

Lag is `sent - due`, in open loops. It is held against what is measured: 10 % of the faster arm's median latency. Both
arms carry the same lag, and a lag of that size dilutes a difference of 10 % to no less than 9.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import CANDIDATE
from harness.judge.metrics import ERRORS
from harness.judge.statistics.counts import p_more
from harness.judge.times.derived import seconds
from harness.judge.validity import generator
from harness.judge.validity.fault import Fault, Voids, fault, measured, room
from harness.judge.validity.generator import Machine
from harness.judge.view import ALONE, StageView

LAG_SHARE = 0.10
MIN_LAG_S, MIN_MEDIAN_LAG_S = 1e-3, 1e-4
LATE_ALPHA = 0.01
FEW = 20


@dataclass(frozen=True, slots=True)
class Lag:
    """`late` of `n` requests were sent over `limit_s` after they were due. `worker`: the one that was late most often,
    `worker_late` and `worker_n` its own counts. `by_worker`: p99 of each, in seconds.
    """

    n: int
    p50_s: float
    p99_s: float
    limit_s: float
    late: int
    worker: int | None
    worker_late: int
    worker_n: int
    by_worker: dict[int, float]

    @property
    def share(self) -> float:
        return self.late / self.n


def latency(view: StageView) -> float:
    """Median request latency of the faster arm in seconds; 0 where nothing was answered."""
    medians = []
    for arm in view.arms:
        values = seconds(arm, "request_latency")
        values = values[np.isfinite(values)]
        if len(values):
            medians.append(float(np.median(values)))
    return min(medians, default=0.0)


def measure(view: StageView, latency_s: float) -> Lag | None:
    """None in a closed loop, where a request is due when a slot is free, and where send times are unknown."""
    samples = view.samples
    known = (samples.sent_ns >= 0) & samples.due_known & ~samples.score
    if view.plan.rate is None or not known.any():
        return None
    lag_s = (samples.sent_ns[known] - samples.due_ns[known]) / 1e9
    limit_s = max(MIN_LAG_S, LAG_SHARE * latency_s)
    late = lag_s > limit_s
    workers, place = np.unique(samples.worker[known], return_inverse=True)
    each, each_late = np.bincount(place), np.bincount(place, weights=late)
    worst = int(np.argmax(each_late / each))
    p50, p99 = np.quantile(lag_s, [0.5, 0.99])
    return Lag(
        n=len(lag_s),
        p50_s=float(p50),
        p99_s=float(p99),
        limit_s=limit_s,
        late=int(late.sum()),
        worker=int(workers[worst]),
        worker_late=int(each_late[worst]),
        worker_n=int(each[worst]),
        by_worker={int(w): float(np.quantile(lag_s[place == i], 0.99)) for i, w in enumerate(workers.tolist())},
    )


def judge(view: StageView, seen: Lag | None, machine: Machine, latency_s: float) -> Fault | None:
    """More late requests, of all or of one worker, than the gated quantiles leave room for (1 % for a p99, at most
    5 %), or a median lag of a tenth of what is measured. Lag makes times look worse, never better: in a stage that is
    only watched it voids what failed, and stops a promote where half of the requests are late.
    """
    if seen is None or view.plan.purpose == "deploy":
        return None
    most = room(view)
    often = _often(seen.late, seen.n, most)
    one = _often(seen.worker_late, seen.worker_n, most, len(seen.by_worker))
    sustained = seen.n >= FEW and seen.p50_s > max(MIN_MEDIAN_LAG_S, LAG_SHARE * latency_s)
    if not often and not one and not sustained:
        return None
    rate = words.number(seen.n / min(view.elapsed_s, view.plan.duration_s))
    if often or one:
        share = f"{words.percent(seen.share)} of requests ({seen.late} of {seen.n})"
        many = f"{share} left over {words.time(seen.limit_s)} late"
    else:
        many = f"half of the requests left over {words.time(seen.p50_s)} late"
    who = ""
    if len(seen.by_worker) > 1:
        who = f", most often those of worker {seen.worker} ({seen.worker_late} of {seen.worker_n})"
    reason = (
        f"the generator fell behind its own schedule at {rate}/s: {many} (lag p50 {words.time(seen.p50_s)}, "
        f"p99 {words.time(seen.p99_s)}){who}; {generator.cause(machine, seen.worker)}"
    )
    # What v1 takes alone is compared with: lag there would hide what v2 costs it.
    strict = view.role == "comparison" or view.plan.purpose == ALONE
    return fault(view, "lag", reason, voids=our_own(view), stops=strict or seen.share > 0.5)


def _often(late: int, n: int, most: float, among: int = 1) -> bool:
    """Surely over `most`; `among`: of how many workers this is the worst."""
    return late > most * n and p_more(late, n, most) < LATE_ALPHA / among


def our_own(view: StageView) -> Voids:
    """Everything but requests that failed; and those too, where a limit was broken by time-outs, which a generator
    that is too slow brings about by itself.
    """
    failed, late = view.failed(CANDIDATE)
    absolute = any(gate.metric in ERRORS and gate.limit is not None for gate in view.evidence.rules)
    doubtful = absolute and 2 * late > failed
    return lambda finding: measured(finding) or (doubtful and finding.metric in ERRORS)
