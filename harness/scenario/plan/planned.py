"""A stage to every request it will send. The generator walks this while it sends: it costs well under 1 us a request.

Prompts come in random order without repetition; when all were used, in another random order. A trace's rows come in
their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.scenario.plan.arrivals import due_times
from harness.scenario.plan.assignment import Assignment, block_size, ways
from harness.scenario.plan.draws import Draws, stream
from harness.types import ArmName, Experiment, PlannedRequest, StagePlan
from harness.types import Assignment as AssignmentWord

# Payloads of a model that takes no prompts: PlannedRequest.prompt then numbers them.
PAYLOADS = 64

Numbers = NDArray[np.intp]


def requests(
    stage: StagePlan, seed: int, prompts: int, trace_ns: Sequence[int] = (), *, worker: int = 0, workers: int = 1,
    experiment: Experiment | None = None,
) -> Iterator[PlannedRequest]:  # fmt: skip
    """The requests of a stage in the order of their due times: lazy, pure, the same on any machine.

    Open loop: all that are due before the stage's duration is over. Closed loop: without end, due_ns -1.
    `prompts`: how many there are; 0 for a model that takes none (then PAYLOADS payloads are numbered). `trace_ns`: due
    times of a stage that replays a trace, ascending from 0; its requests ask the prompt of their row.
    Requests that leave together are one here, whose arms are all the baseline; their ids follow its own.
    `worker` of `workers` gets the requests whose number modulo `workers` is its own; together they are the whole plan.
    `experiment`: each request is a unit's, and goes to the unit's arm, whatever the stage's shares.
    """
    # A short first chunk would not show the stage's end to the first block of arms.
    due = due_times(stage, seed, trace_ns, block_size(stage))
    assignment = Assignment(stage, seed)
    order: _Order | _Rows = _Rows() if stage.arrival == "trace" else _Order(prompts or PAYLOADS, seed, stream(stage))
    arms = ways(stage)
    units = _Units(experiment, seed, stream(stage)) if experiment is not None else None
    number, first_id, each = 0, stage.index << 32, stage.together
    for due_ns, ends in due:
        count = len(due_ns)
        mine = slice((worker - number) % workers, count, workers)
        ids = range(first_id + each * (number + mine.start), first_id + each * (number + count), each * workers)
        picks, chosen = assignment.take(count, ends)[mine], order.take(count)
        if units is not None:
            whose = units.take(chosen)[mine].tolist()
            yield from map(PlannedRequest, ids, due_ns[mine].tolist(), chosen[mine].tolist(), *units.columns(whose))
        else:
            to = [arms[pick] for pick in picks.tolist()]
            yield from map(PlannedRequest, ids, due_ns[mine].tolist(), chosen[mine].tolist(), to)
        number += count


class _Order:
    """Every prompt once, in random order, then all again in another."""

    def __init__(self, prompts: int, seed: int, stage: int) -> None:
        self._prompts = prompts
        self._draws = Draws(seed, stage, "prompts")
        self._waiting: Numbers = np.empty(0, dtype=np.intp)

    def take(self, count: int) -> Numbers:
        missing = count - len(self._waiting)
        if missing > 0:
            rounds = -(-missing // self._prompts)
            drawn = self._draws(rounds * self._prompts).reshape(rounds, self._prompts)
            self._waiting = np.concatenate((self._waiting, drawn.argsort(axis=1, kind="stable").ravel()))
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


class _Units:
    """Whose request it is: of a prompt that belongs to a unit that one, else one that is drawn."""

    def __init__(self, experiment: Experiment, seed: int, stage: int) -> None:
        self._experiment = experiment
        self._of_prompts = np.array(experiment.of_prompts, dtype=np.intp)
        self._draws = Draws(seed, stage, "units")
        activity = np.array(experiment.activity or [1.0] * len(experiment.units))
        self._upto = np.cumsum(activity) / activity.sum()
        self._arms: list[tuple[ArmName, ...]] = [(arm,) for arm in experiment.arms]

    def take(self, prompts: Numbers) -> Numbers:
        """Of the next requests, which ask these prompts."""
        if len(self._of_prompts):
            return self._of_prompts[prompts]
        # Rounding may leave the last sum below 1.
        return np.minimum(np.searchsorted(self._upto, self._draws(len(prompts)), side="right"), len(self._upto) - 1)

    def columns(self, units: Sequence[int]) -> tuple[list[tuple[ArmName, ...]], list[str], list[AssignmentWord]]:
        """The arms, the unit and the assignment of requests of these units."""
        names, how = self._experiment.units, self._experiment.assignments
        return [self._arms[unit] for unit in units], [names[unit] for unit in units], [how[unit] for unit in units]


class _Rows:
    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> Numbers:
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.intp)
