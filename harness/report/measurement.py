"""The measurement itself, from the audits in a verdict: was the load the planned one, and what carried it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.report import words
from harness.types import Audit, StageVerdict, Verdict

Cell = Callable[[Audit], str]
CALIBRATION = "validity.calibration"


@dataclass(frozen=True)
class Table:
    """`rows`: one a stage: its name, the checks that did not pass ("" if none, NONE of a warm-up, of which nothing is
    judged), and cells in the order of `columns`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


def table(verdict: Verdict, names: Mapping[int, str]) -> Table | None:
    """Every stage that has an audit; columns of which nothing is known are left out. None without any audit."""
    audited = [(stage, stage.audit) for stage in verdict.stages if stage.audit is not None]
    if not audited:
        return None
    shown = [(title, cell) for title, cell in _COLUMNS if any(cell(audit) != words.NONE for _, audit in audited)]
    rows = tuple(
        (names.get(stage.stage, str(stage.stage + 1)), faults(stage), tuple(cell(audit) for _, cell in shown))
        for stage, audit in audited
    )
    return Table(tuple(title for title, _ in shown), rows)


def line(verdict: Verdict) -> str:
    """The worst of all stages that were judged, in one line; "" where nothing is known."""
    audits = [stage.audit for stage in verdict.stages if stage.audit is not None and _judged(stage)]
    parts = []
    lag = _worst(audit.lag_p99_s for audit in audits)
    if lag is not None:
        parts.append(f"requests left {words.seconds(lag)} late at most (p99)")
    sent = [audit.sent / audit.planned for audit in audits if audit.planned]
    if sent:
        parts.append(f"{words.percent(min(sent))} of what was due was sent")
    cpu = _worst(audit.cpu for audit in audits)
    if cpu is not None:
        parts.append(f"the generator used {words.percent(cpu)} of a core")
    stall = _worst(audit.stall_s for audit in audits)
    if stall is not None:
        parts.append(f"longest pause {words.seconds(stall)}")
    steal = _worst(audit.steal for audit in audits)
    if steal is not None:
        parts.append(f"steal {words.percent(steal)}")
    return "; ".join(parts)


def calibrated(verdict: Verdict) -> str:
    """What is to be said of the rig's last calibration; "" where nobody looked for one."""
    found = (finding for finding in verdict.findings if finding.metric == CALIBRATION)
    return next((words.plain(finding.reason) for finding in found), "")


def faults(stage: StageVerdict) -> str:
    """The checks of the measurement that did not pass, without their prefix."""
    if not _judged(stage):
        return words.NONE
    found = (f for f in stage.findings if f.kind == "validity" and f.outcome != "pass")
    return ", ".join(dict.fromkeys(finding.metric.removeprefix("validity.") for finding in found))


def _judged(stage: StageVerdict) -> bool:
    """Not so of a warm-up, which only says what the next stage needs."""
    return any(not finding.metric.startswith("plan.") for finding in stage.findings)


def _lag(audit: Audit) -> str:
    if audit.lag_p50_s is None or audit.lag_p99_s is None:
        return words.NONE
    return f"{words.seconds(audit.lag_p50_s)}, {words.seconds(audit.lag_p99_s)}"


def _sent(audit: Audit) -> str:
    if not audit.planned:
        return f"{audit.sent:,}"
    return f"{audit.sent:,} of {audit.planned:,}"


def _late(audit: Audit) -> str:
    if audit.late is None:
        return words.NONE
    return words.percent(audit.late) + (f" over {words.seconds(audit.lag_limit_s)}" if audit.lag_limit_s else "")


def _workers(audit: Audit) -> str:
    """How many, and what each sent, where there are several."""
    if len(audit.workers) < 2:
        return words.NONE
    sent = [worker.requests for worker in audit.workers]
    return f"{len(sent)}, each {min(sent):,} to {max(sent):,} requests"


def _in_flight(audit: Audit) -> str:
    if audit.in_flight is None:
        return words.NONE
    planned = "" if audit.in_flight_planned is None else f" of {audit.in_flight_planned:g}"
    return f"{words.number(audit.in_flight, 2)}{planned}"


def _served(audit: Audit) -> str:
    if audit.served_baseline is None and audit.served_candidate is None:
        return words.NONE
    return f"{words.number(audit.served_baseline)}, {words.number(audit.served_candidate)} /s"


def _caches(audit: Audit) -> str:
    found = (f"{one.cache} {words.percent(one.baseline)}, {words.percent(one.candidate)}" for one in audit.caches)
    return "; ".join(found) or words.NONE


_COLUMNS: tuple[tuple[str, Cell], ...] = (
    ("late p50, p99", _lag),
    ("sent", _sent),
    ("late", _late),
    ("waiting to be sent, most", lambda audit: words.NONE if audit.unsent is None else f"{audit.unsent:,}"),
    ("in flight", _in_flight),
    ("served, each arm", _served),
    ("generator CPU", lambda audit: words.percent(audit.cpu)),
    ("longest pause", lambda audit: words.seconds(audit.stall_s)),
    ("host CPU", lambda audit: words.percent(audit.host_cpu)),
    ("steal", lambda audit: words.percent(audit.steal)),
    ("steady after", lambda audit: words.seconds(audit.warm_up_s)),
    ("cache hits, each arm", _caches),
    ("clock known to", lambda audit: words.seconds(audit.clock_error_s)),
    ("workers", _workers),
)


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
