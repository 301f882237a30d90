"""What each step of an ensemble took, from the counters that Triton keeps: sums of time and numbers of answers.

Guarantee: a mean is the growth of a sum divided by the growth of its count over the same polls, so it is exact for
the requests that were answered between the first and the last of them. Where a counter fell (its model was loaded
anew) that poll's growth is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
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
        grown = _grown(table.filter(pc.equal(table["device"], device)), begin_ns, end_ns)
        answers = float(grown[_ANSWERED].sum())
        if answers:
            known = [found[whole] for whole, (name,) in wholes.items() if whole in found and name in who]
            found[device] = _means(device, who, grown, answers, known)
    return tuple(found[device] for device in (*asked, *wholes) if device in found)


def _means(
    device: str, who: tuple[str, ...], grown: Mapping[str, Floats], answers: float, wholes: Sequence[StepTimes]
) -> StepTimes:
    queue_s, input_s, infer_s, output_s, total_s = (float(grown[name].sum() / answers) for name in (*_PARTS, _TOTAL))
    all_s = sum(whole.total_s * whole.answers for whole in wholes)
    share = total_s * sum(whole.answers for whole in wholes) / all_s if all_s else math.nan
    error_s = _error(grown[_TOTAL], grown[_ANSWERED])
    return StepTimes(device, who, round(answers), queue_s, input_s, infer_s, output_s, total_s, error_s, share)


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


def _grown(table: pa.Table, begin_ns: int, end_ns: int | None) -> dict[str, Floats]:
    """How much each counter grew from poll to poll."""
    counters = {metric: _counter(table, metric) for metric in (_ANSWERED, *_PARTS, _TOTAL)}
    polls = reduce(np.intersect1d, (t_ns for t_ns, _ in counters.values()))
    if end_ns is not None:
        polls = polls[polls <= end_ns]
    polls = polls[max(int((polls <= begin_ns).sum()) - 1, 0) :]
    grown = {name: np.diff(value[np.searchsorted(t_ns, polls)]) for name, (t_ns, value) in counters.items()}
    sound = np.all([growth >= 0 for growth in grown.values()], axis=0)
    return {name: growth[sound] for name, growth in grown.items()}


def _counter(table: pa.Table, metric: str) -> tuple[npt.NDArray[np.int64], Floats]:
    """When it was read, each once and in order, and what it was."""
    rows = table.filter(pc.equal(table["metric"], metric))
    t_ns, first = np.unique(rows["t_ns"].to_numpy(), return_index=True)
    return t_ns, rows["value"].to_numpy()[first]


def _error(spent: Floats, answered: Floats) -> float:
    """Of the ratio of two sums, by linearisation, each poll a unit."""
    polls = int((answered > 0).sum())
    if polls < 3:
        return math.nan
    residual = spent - spent.sum() / answered.sum() * answered
    return float(np.sqrt(polls / (polls - 1) * (residual**2).sum()) / answered.sum())
