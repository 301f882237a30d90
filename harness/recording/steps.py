"""What each step of an ensemble took, from the counters that Triton keeps: sums of time and numbers of answers.

Guarantee: a mean is the growth of a sum divided by the growth of its count over the same polls, so it is exact for
the requests that were answered between the first and the last of them. Where a counter fell (its model was loaded
anew) that poll's growth is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]

_ANSWERED = "inference.request_success"
_TOTAL = "inference.request_duration"
_PARTS = (
    "inference.queue_duration",
    "inference.compute_input_duration",
    "inference.compute_infer_duration",
    "inference.compute_output_duration",
)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An arm that is an ensemble: its own `model/version`, and those of its steps in their order."""

    device: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Means per answered request, in seconds; `arms`: who asks this version. All of a request: `total_s`.

    `error_s`: standard error of `total_s`, from how it differs between polls; NaN with fewer than three that saw an
    answer. `share`: of the time that the ensembles of `arms` take, 0 to 1; NaN where nothing is known of those.
    """

    device: str
    arms: tuple[str, ...]
    answers: int
    queue_s: float
    input_s: float
    infer_s: float
    output_s: float
    total_s: float
    error_s: float
    share: float

    @property
    def model(self) -> str:
        return self.device.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.device.rpartition("/")[2]


def pipelines(meta: Mapping[str, Any]) -> dict[str, Pipeline]:
    """By arm, of run.json: `arms.<arm>.steps`, a list of `model/version`. Arms without steps are left out."""
    arms = meta.get("arms")
    found = {}
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        steps = arm.get("steps") if isinstance(arm, Mapping) else None
        if isinstance(steps, list) and steps:
            device = f"{arm.get('model')}/{arm.get('version') or ''}"
            found[str(name)] = Pipeline(device, tuple(map(str, steps)))
    return found


def step_times(
    readings: pa.Table | None, arms: Mapping[str, Pipeline], begin_ns: int, end_ns: int | None
) -> tuple[StepTimes, ...]:
    """Of the polls from the last one before `begin_ns` to the last one by `end_ns` (None: to the end).

    In the order of the steps, versions of one model side by side; the ensembles themselves come last. What answered
    nothing, or was not read twice, is left out.
    """
    if readings is None or not arms:
        return ()
    wholes = {pipeline.device: (name,) for name, pipeline in arms.items()}
    asked = {device: _askers(device, arms) for device in _in_order(arms)}
    table = readings.filter(pc.equal(readings["source"], "triton"))
    found: dict[str, StepTimes] = {}
    for device, who in (*wholes.items(), *asked.items()):
        times = _of_device(table.filter(pc.equal(table["device"], device)), device, who, begin_ns, end_ns)
        if times is None:
            continue
        known = [found[whole] for whole, (name,) in wholes.items() if whole in found and name in who]
        answers = sum(whole.answers for whole in known)
        all_s = sum(whole.total_s * whole.answers for whole in known) / answers if answers else np.nan
        found[device] = StepTimes(device, who, *times, share=float(times[5] / all_s) if all_s else 1.0)
    return tuple(found[device] for device in (*asked, *wholes) if device in found)


def _in_order(arms: Mapping[str, Pipeline]) -> list[str]:
    """Every step once; a version that only a later arm has comes behind the others of its model."""
    order: list[str] = []
    for pipeline in arms.values():
        for step in pipeline.steps:
            if step in order:
                continue
            same = [i for i, other in enumerate(order) if other.rpartition("/")[0] == step.rpartition("/")[0]]
            order.insert(same[-1] + 1 if same else len(order), step)
    return order


def _askers(device: str, arms: Mapping[str, Pipeline]) -> tuple[str, ...]:
    return tuple(name for name, pipeline in arms.items() if device in pipeline.steps)


def _of_device(
    table: pa.Table, device: str, who: Sequence[str], begin_ns: int, end_ns: int | None
) -> tuple[int, float, float, float, float, float, float] | None:
    """answers, the four parts, the total, its standard error."""
    counters = {metric: _counter(table, metric) for metric in (_ANSWERED, _TOTAL, *_PARTS)}
    polls = sorted(set.intersection(*(set(counter) for counter in counters.values())))
    if end_ns is not None:
        polls = [t for t in polls if t <= end_ns]
    before = [t for t in polls if t <= begin_ns]
    polls = [*before[-1:], *(t for t in polls if t > begin_ns)]
    grown = {metric: np.diff([counter[t] for t in polls]) for metric, counter in counters.items()}
    sound = np.all([growth >= 0 for growth in grown.values()], axis=0)
    answered = grown[_ANSWERED][sound] if len(polls) > 1 else np.empty(0)
    answers = float(answered.sum())
    if not answers:
        return None
    means = [float(grown[metric][sound].sum() / answers) for metric in (*_PARTS, _TOTAL)]
    return round(answers), *means, _error(grown[_TOTAL][sound], answered)  # type: ignore[return-value]


def _counter(table: pa.Table, metric: str) -> dict[int, float]:
    rows = table.filter(pc.equal(table["metric"], metric))
    return dict(zip(rows["t_ns"].to_pylist(), rows["value"].to_pylist(), strict=True))


def _error(spent: Floats, answered: Floats) -> float:
    """Of the ratio of two sums, by linearisation, each poll a unit."""
    polls = int((answered > 0).sum())
    if polls < 3:
        return float("nan")
    residual = spent - spent.sum() / answered.sum() * answered
    return float(np.sqrt(polls / (polls - 1) * (residual**2).sum()) / answered.sum())
