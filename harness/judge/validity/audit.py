"""The numbers of the self-audit in one place, for the verdict and the report."""

from __future__ import annotations

from collections.abc import Iterable

from harness.judge.columns import ARMS, BASELINE, CANDIDATE
from harness.judge.validity.delivery import Delivery
from harness.judge.validity.generator import Machine, Worker
from harness.judge.validity.lag import Lag
from harness.judge.validity.saturation import Load
from harness.judge.validity.steady import WarmUp
from harness.judge.view import StageView
from harness.types import Audit, CacheUse, WorkerAudit


def audit(
    view: StageView,
    lag: Lag | None,
    sent: Delivery,
    machine: Machine,
    warm_ups: tuple[WarmUp, ...],
    loads: tuple[Load, ...],
    caches: tuple[CacheUse, ...],
) -> Audit:
    """What each theme measured. In a stage that was cut short some of what was due is still in flight."""
    each = machine.workers.values()
    served = {load.arm: load.served for load in loads}
    unsteady = any(one.seconds is None for one in warm_ups)
    return Audit(
        lag_p50_s=lag.p50_s if lag else None,
        lag_p99_s=lag.p99_s if lag else None,
        lag_limit_s=lag.limit_s if lag else None,
        late=lag.share if lag else None,
        planned=sent.planned if view.final else None,
        sent=sent.sent,
        in_flight_planned=sent.in_flight_planned,
        in_flight=sent.in_flight,
        cpu=_most(one.cpu for one in each),
        stall_s=_most(one.stall_s for one in each),
        standing=machine.standing if any(one.stall_s is not None for one in each) else None,
        unsent=_whole(_most(one.unsent for one in each)),
        clock_error_s=_most(one.clock_error_s for one in each),
        host_cpu=machine.host_cpu,
        steal=machine.steal,
        warm_up_s=None if unsteady else _most(one.seconds for one in warm_ups),
        served_baseline=served.get(BASELINE),
        served_candidate=served.get(CANDIDATE),
        overloaded=tuple(ARMS[load.arm] for load in loads if load.overloaded),
        caches=caches,
        workers=_workers(view, lag, machine),
    )


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _workers(view: StageView, lag: Lag | None, machine: Machine) -> tuple[WorkerAudit, ...]:
    requests = view.sent_by
    late = lag.by_worker if lag else {}
    found = []
    for number in sorted({*requests, *machine.workers}):
        seen = machine.workers.get(number, Worker())
        found.append(WorkerAudit(number, requests.get(number, 0), late.get(number), seen.cpu, seen.stall_s))
    return tuple(found)
