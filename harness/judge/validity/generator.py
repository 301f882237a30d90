"""Whether the generator and its machine had room: CPU, pauses of the event loop, requests held back, steal, clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.judge import words
from harness.judge.validity.fault import Fault, fault, informs, nothing, objectives, room
from harness.judge.validity.signals import Series, series, span
from harness.judge.view import StageView

FULL_CORE, FULL_HOST = 0.90, 0.95
# As harness.load.outcome words it.
OUT_OF_SOCKETS = "generator out of sockets"
MAX_UNSENT = 0.001
SUSTAINED = 0.5
MIN_READINGS = 3
MIN_STALL_S, STALL_SHARE = 5e-3, 0.10
STEAL, MUCH_STEAL = 0.05, 0.10
CLOCK_SHARE, MAX_CLOCK_ERROR_S = 0.10, 0.5
SILENT_S = 10.0
FEW_UNSENT = 5


@dataclass(frozen=True, slots=True)
class Worker:
    """`cpu` in cores (mean), `full`: the share of readings at which its core was full, `standing_s`: time in pauses
    longer than the limit, `unsent`: most requests that waited to be sent.
    """

    cpu: float | None = None
    full: float = 0.0
    stall_s: float | None = None
    standing_s: float = 0.0
    unsent: int | None = None
    clock_error_s: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What readings say; None where there are none. `stall_limit_s`: pauses up to this do not matter here."""

    workers: Mapping[int, Worker]
    passed_s: float
    stall_limit_s: float
    host_cpu: float | None = None
    host_full: float = 0.0
    steal: float | None = None

    @property
    def standing(self) -> float:
        """Of the worker that stood still longest: the share of the stage."""
        return max((worker.standing_s for worker in self.workers.values()), default=0.0) / self.passed_s


def measure(view: StageView, latency_s: float) -> Machine:
    """`latency_s`: what is measured, see `lag.latency`; 0 if nothing was answered."""
    begin, end = span(view)
    limit_s = max(MIN_STALL_S, STALL_SHARE * latency_s)
    read = {name: _by_worker(view, name) for name in ("cpu", "stall_max", "unsent", "clock_error")}
    told = {w.worker: w.clock_error_s for w in view.evidence.workers if w.clock_error_s is not None}
    workers = {}
    for number in sorted(set(told).union(*read.values())):
        cpu, stall, unsent, clock = (read[name].get(number) for name in ("cpu", "stall_max", "unsent", "clock_error"))
        workers[number] = Worker(
            cpu=float(cpu.value.mean()) if cpu else None,
            full=float((cpu.value >= FULL_CORE).mean()) if cpu and len(cpu) >= MIN_READINGS else 0.0,
            stall_s=float(stall.value.max()) if stall else None,
            standing_s=float(stall.value[stall.value > limit_s].sum()) if stall else 0.0,
            unsent=int(unsent.value.max()) if unsent else None,
            clock_error_s=float(clock.value.max()) if clock else told.get(number),
        )
    host, steal = (series(view, "host", name).get("host") for name in ("cpu.utilization", "cpu.steal"))
    return Machine(
        workers=workers,
        passed_s=max((end - begin) / 1e9, 1e-9),
        stall_limit_s=limit_s,
        host_cpu=float(host.value.mean()) if host else None,
        host_full=float((host.value >= FULL_HOST).mean()) if host and len(host) >= MIN_READINGS else 0.0,
        steal=float(steal.value.mean()) if steal else None,
    )


def _by_worker(view: StageView, metric: str) -> dict[int, Series]:
    found = series(view, "generator", metric)
    return {int(device[6:]): one for device, one in found.items() if device[:6] == "worker" and device[6:].isdigit()}


def cause(machine: Machine, worker: int | None) -> str:
    """What was too slow, in a clause: of one worker (None: of any)."""
    chosen = [w for number, w in machine.workers.items() if worker is None or number == worker]
    said = []
    cpu = max((w.cpu for w in chosen if w.full >= SUSTAINED and w.cpu is not None), default=None)
    if cpu is not None:
        said.append(f"its core was full ({words.percent(cpu)} used): give the load more workers, or less to do")
    unsent = max((w.unsent for w in chosen if w.unsent is not None), default=0)
    if unsent >= FEW_UNSENT and cpu is None and machine.host_full < SUSTAINED:
        said.append(f"up to {unsent} requests waited for a free connection: the limit of connections holds them back")
    stall_s = max((w.stall_s for w in chosen if w.stall_s is not None), default=0.0)
    if stall_s > machine.stall_limit_s:
        said.append(f"its event loop stood still for up to {words.time(stall_s)}")
    if machine.host_full >= SUSTAINED and machine.host_cpu is not None:
        said.append(f"the machine's CPU was full ({words.percent(machine.host_cpu)})")
    if machine.steal is not None and machine.steal >= STEAL:
        said.append(f"other guests of the same host took {words.percent(machine.steal)} of its CPU")
    return "; ".join(said) or "no reading says why"


def judge(view: StageView, machine: Machine, latency_s: float) -> list[Fault]:
    """Pauses that reach the gated quantiles, and in a closed loop a full core, stop a promote. The rest informs:
    whether requests left in time is measured itself.
    """
    if view.plan.purpose == "deploy":
        return []
    found = [_pauses(view, machine), _core(view, machine), _clocks(view, machine, latency_s), _silent(view, machine)]
    found += [_host(view, machine), _sockets(view)]
    return [one for one in found if one is not None]


def _pauses(view: StageView, machine: Machine) -> Fault | None:
    """While the loop stands still nothing is sent and no answer is stamped."""
    many = [w for w in machine.workers.values() if w.standing_s > 0]
    if not many or machine.standing <= room(view):
        return None
    number = max(machine.workers, key=lambda n: machine.workers[n].standing_s)
    worker = machine.workers[number]
    if worker.standing_s <= (worker.stall_s or 0.0):
        return None  # one pause is an accident: it reaches few requests, in both arms
    reason = (
        f"the event loop of worker {number} stood still for {words.percent(machine.standing)} of the time, up to "
        f"{words.time(worker.stall_s or 0.0)} at once: nothing was sent and no answer was stamped then"
    )
    return fault(view, "generator", reason)


def _core(view: StageView, machine: Machine) -> Fault | None:
    """A full core delays what a closed loop measures, in both arms alike: differences look smaller than they are. So
    what failed has failed; what passed has not passed. In an open loop lag tells whether it mattered.
    """
    full = {number: w for number, w in machine.workers.items() if w.full >= SUSTAINED}
    if not full:
        return None
    number = max(full, key=lambda n: full[n].full)
    used = f"worker {number} used {words.percent(full[number].cpu or 0.0)} of a core"
    if view.plan.rate is not None:
        return informs(view, "generator", f"{used}; whether that made requests late says validity.lag")
    reason = f"{used}: the generator is the bottleneck, so differences between servers look smaller than they are"
    return fault(view, "generator", f"{reason}; give the load more workers", voids=nothing)


def _clocks(view: StageView, machine: Machine, latency_s: float) -> Fault | None:
    """An offset cancels in a request's own times, which are of one clock; blocks are cut across workers."""
    errors = {number: w.clock_error_s for number, w in machine.workers.items() if w.clock_error_s is not None}
    if not errors:
        return None
    number = max(errors, key=lambda n: errors[n])
    error_s = errors[number]
    told = f"the clock of worker {number} is known to {words.time(error_s)} only"
    if error_s > MAX_CLOCK_ERROR_S:
        return fault(view, "clock", f"{told}: its requests cannot be put among those of other workers")
    if len(errors) > 1 and latency_s > 0 and error_s > CLOCK_SHARE * latency_s:
        return informs(view, "clock", f"{told}, a request takes {words.time(latency_s)}")
    return None


def _silent(view: StageView, machine: Machine) -> Fault | None:
    """A worker that sends and says nothing of itself, where others do."""
    sent = set(view.sent_by)
    heard = {number for number, worker in machine.workers.items() if worker.cpu is not None}
    silent = sorted(sent - heard)
    if not heard or not silent or machine.passed_s < SILENT_S:
        return None
    return fault(view, "generator", f"worker {silent[0]} sent requests and recorded nothing of its own state")


def _sockets(view: StageView) -> Fault | None:
    """Requests that this machine had no file descriptor or port for were never asked of any server."""
    lost = view.called(OUT_OF_SOCKETS)
    if lost <= MAX_UNSENT * view.total:
        return None
    reason = (
        f"{lost} of {view.total} requests found no socket free on the load generator: raise its limit of open "
        "files, or give load.connections"
    )
    return fault(view, "generator", reason)


def _host(view: StageView, machine: Machine) -> Fault | None:
    steal = machine.steal or 0.0
    if steal >= MUCH_STEAL:
        # Arms of equal load suffer it together; a number from elsewhere has no such partner.
        reason = f"other guests of the same host took {words.percent(steal)} of its CPU, which no build can help"
        return fault(view, "host", reason, voids=objectives, stops=False)
    if steal >= STEAL:
        return informs(view, "host", f"other guests of the same host took {words.percent(steal)} of its CPU")
    if machine.host_full >= SUSTAINED and machine.host_cpu is not None:
        full = words.percent(machine.host_cpu)
        return informs(view, "host", f"the CPU of the load's machine was full ({full} used on average)")
    return None
