"""Load workers that died, fell silent, or came late."""

from __future__ import annotations

import math

import numpy as np

from harness.judge import words
from harness.judge.evidence import LoadWorker
from harness.judge.sketched.counts import Sender
from harness.judge.sketched.view import CountedView
from harness.judge.validity.fault import Fault, fault, informs
from harness.judge.validity.signals import span
from harness.judge.view import StageView
from harness.types import StagePlan

GAP_SHARE, GAP_S = 0.25, 5.0
FEW = 10


def judge(view: StageView) -> list[Fault]:
    """What run.json says of lost workers and files; where it says nothing of one, what its requests say."""
    found = _damaged(view) + _lost(view)
    if not found:
        quiet = _quiet(view)
        found = [quiet] if quiet else []
    return found


def _senders(view: StageView) -> tuple[dict[int, Sender], set[int]]:
    """Who sent something in this stage, and whoever did so far."""
    if isinstance(view, CountedView):
        return dict(view.counts.senders), {worker for counts in view.stages(so_far=True) for worker in counts.senders}
    due, worker = view.samples.due_ns, view.samples.worker
    found = {}
    for number, count in view.sent_by.items():
        mine = due[worker == number]
        found[number] = Sender(count, int(mine.min()), int(mine.max()))
    return found, set(np.unique(view.so_far.worker).tolist())


def _lost(view: StageView) -> list[Fault]:
    begin, end = span(view)
    found = []
    for worker in view.evidence.workers:
        if worker.lost_ns is None or worker.lost_ns > end or view.index in worker.done:
            continue
        if worker.lost_ns >= begin:
            at = words.duration((worker.lost_ns - begin) / 1e9)
            why = f" ({worker.reason})" if worker.reason else ""
            left = "what it had sent until then is kept, and its share of the load is missing from then on"
            found.append(fault(view, "workers", f"{_who(worker)} was lost {at} into the stage{why}: {left}"))
        else:
            found.append(informs(view, "workers", f"{_who(worker)} had been lost before this stage began"))
    return found


def _damaged(view: StageView) -> list[Fault]:
    """Nobody can say which requests are missing, so none of its stages is whole."""
    found = []
    for worker in view.evidence.workers:
        if any(name.startswith("samples") for name in worker.damaged):
            names = ", ".join(worker.damaged)
            found.append(fault(view, "workers", f"files of {_who(worker)} did not come whole: {names}"))
    return found


def _who(worker: LoadWorker) -> str:
    return f"load worker {worker.worker}" + (f" on {worker.host}" if worker.host else "")


def _quiet(view: StageView) -> Fault | None:
    """A worker that fell silent while others went on, began long after them, or sent nothing at all."""
    always, ever = _dealt(view.plan)
    sent, known = _senders(view)
    gone = sorted(worker for worker in known - set(sent) if worker < ever)
    if gone and view.total >= FEW * (len(sent) + len(gone)):
        return fault(view, "workers", f"load worker {gone[0]} of earlier stages sent nothing in this one")
    if len(sent) < 2:
        return None
    begin, end = min(one.first_ns for one in sent.values()), max(one.last_ns for one in sent.values())
    bar = max(GAP_SHARE * (end - begin), GAP_S * 1e9)
    for worker, (count, first, last) in sorted(sent.items()):
        gap = max(first - begin, end - last)
        if worker < always and count >= FEW and gap > bar:
            return fault(view, "workers", f"load worker {worker} sent nothing for {words.duration(gap / 1e9)}")
    return None


def _dealt(plan: StagePlan) -> tuple[float, float]:
    """Workers below the first number have something to send all the time, others below the second for a while: the
    slots of a closed loop are dealt out in turn, and there may be fewer than workers.
    """
    if plan.in_flight is None:
        return math.inf, math.inf
    last = plan.in_flight if plan.in_flight_to is None else plan.in_flight_to
    return min(plan.in_flight, last), max(plan.in_flight, last)
