"""What a run says of the last calibration of its rig: how old it is, what it found, and whether it was this rig."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.judge import words
from harness.judge.statistics.counts import rate_lower, rate_upper
from harness.types import Finding

if TYPE_CHECKING:
    from harness.judge.view import StageView

METRIC = "validity.calibration"
_RIG = {"cpu": "processor", "threads": "threads", "memory_bytes": "memory", "gpus": "GPUs"}
NONE = (
    "this target and model were never calibrated: `triton-canary calibrate` with the same scenario measures how often "
    "identical builds are rolled back here"
)


def sentence(meta: Mapping[str, Any]) -> str | None:
    """From run.json, which the calibration was copied into when the run began; None where nobody looked for one."""
    if "calibration" not in meta:
        return None
    known = meta["calibration"]
    if not isinstance(known, Mapping):
        return NONE
    rolled_back = known["verdicts"]["rollback"]
    count, of = int(rolled_back["count"]), int(rolled_back["of"])
    what = "A/A runs" if known["how"] == "runs" else "A/A pairs made of a recorded baseline"
    if count:
        bound = f"95 %: {rate_lower(count, of, 0.025) * 100:.1f} to {rate_upper(count, of, 0.025) * 100:.1f} %"
    else:
        bound = f"95 %: at most {words.percent(rate_upper(0, of, 0.05))}"
    other = differences(known.get("host"), meta.get("host"))
    rig = "on this rig" if not other else f"on another rig ({'; '.join(other)})"
    made = f"calibrated {_age(known.get('made_utc'), meta.get('started_utc'))}{rig}"
    return f"{made}: {count} of {of} {what} {'was' if count == 1 else 'were'} rolled back ({bound})"


def differences(then: Any, now: Any) -> list[str]:
    """In what two fingerprints of a machine differ, in words; what either does not say is no difference."""
    found = []
    for key, name in _RIG.items():
        one, two = (_shown(key, host) for host in (then, now))
        if one is not None and two is not None and one != two:
            found.append(f"{name} {one}, now {two}")
    return found


def _shown(key: str, host: Any) -> str | None:
    if not isinstance(host, Mapping) or host.get(key) is None:
        return None
    value = host[key]
    if key == "memory_bytes":
        return f"{value / 2**30:.0f} GiB"
    if key == "gpus":
        named = [f"{gpu.get('name')} (driver {gpu.get('driver')})" for gpu in value if isinstance(gpu, Mapping)]
        return ", ".join(named) or "none"
    return str(value)


def _age(then: Any, now: Any) -> str:
    """`3 days before `; "" where either time is unknown."""
    try:
        passed_s = (datetime.fromisoformat(str(now)) - datetime.fromisoformat(str(then))).total_seconds()
    except (ValueError, TypeError):
        return ""
    for length, unit in ((86400, "day"), (3600, "hour")):
        if passed_s >= 2 * length:
            return f"{words.count(int(passed_s // length), unit)} before, "
    return f"{words.count(max(round(passed_s / 60), 0), 'minute')} before, "


def told(view: StageView) -> Finding | None:
    """`validity.calibration`, for information, in the first stage that compares; None where nobody looked for one."""
    text = view.evidence.calibrated
    if text is None or view.role != "comparison" or view.plan.purpose != "compare":
        return None
    if any(one.plan.index < view.index and one.plan.purpose == "compare" for one in view.evidence.stages):
        return None
    return Finding(METRIC, "pass", f"for information: {text}", kind="validity", stage=view.index)
