"""find-max-load: one model under one load after another, until the highest that holds its objectives is known."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.embedded import EmbeddedServer, reference_build
from harness.judge import BLOCKS, Ask, Search, judged
from harness.recording import PartsTail
from harness.run.operations.course import Course
from harness.run.operations.loads import Asked, Drive, driving, measure
from harness.run.operations.memory import Meter, metered, plain
from harness.run.operations.windows import window
from harness.scenario import FindMaxLoad, PlaceConfig
from harness.types import Arm

PART = "loads"
LOAD = "load"
SLOWEST = 0.9
SETTLE_S, SETTLES = 0.2, 20


def observe(course: Course) -> None:
    """Each trial is a stage of the same generator; what it was like decides which load is tried next."""
    scenario = course.scenario
    assert isinstance(scenario, FindMaxLoad)
    server = _start(course, scenario) if scenario.embedded else None
    objectives = [
        {"metric": one.metric, "words": one.words, "allowed": one.allowed, "within": one.limits}
        for one in scenario.objectives
    ]
    course.note(
        model=scenario.model, version=scenario.version, open_loop=scenario.open_loop, between=list(scenario.between),
        trial_s=scenario.trial_s, warm_up_s=scenario.warm_up_s, precision=scenario.precision,
        confidence=scenario.confidence, repeats=scenario.repeats, objectives=objectives, trials=[],
        memory=plain(scenario.memory),
    )  # fmt: skip
    asked = Asked(LOAD, scenario.load_at(scenario.between[0]), _arm(scenario, server))
    t0_ns = time.monotonic_ns()
    with (
        metered(course, scenario.target, server, scenario.urls, t0_ns, scenario.memory) as meter,
        driving(course, scenario.seed, [asked], PART, t0_ns) as (drive,),
    ):
        samples, readings = PartsTail(drive.folder, "samples"), PartsTail(drive.folder, "readings")
        try:
            _search(course, scenario, _Trials(course, scenario, drive, samples, readings, objectives, meter))
        finally:
            samples.close()
            readings.close()


def _search(course: Course, scenario: FindMaxLoad, trials: _Trials) -> None:
    steps = Search(course.facts).run()
    try:
        ask = next(steps)
        while True:
            facts = trials.make(ask)
            found = judged(course.facts, facts)
            facts["found"] = {
                "outcome": found.outcome, "reason": found.reason,
                "bounds": [[share.low, share.high] for share in found.shares],
            }  # fmt: skip
            course.facts["trials"].append(facts)
            course.save()
            course.say(f"{scenario.load_at(ask.level).words} for {ask.seconds:g} s: {found.outcome}")
            ask = steps.send(found)
    except StopIteration:
        return


class _Trials:
    """Loads, one after another, on one generator."""

    def __init__(
        self, course: Course, scenario: FindMaxLoad, drive: Drive, samples: PartsTail, readings: PartsTail,
        objectives: Sequence[Mapping[str, Any]], meter: Meter | None,
    ) -> None:  # fmt: skip
        self._course, self._scenario, self._drive = course, scenario, drive
        self._samples, self._readings, self._objectives = samples, readings, objectives
        self._meter = meter
        self._stages = 0

    def make(self, ask: Ask) -> dict[str, Any]:
        """The facts of a trial; the server is at rest afterwards."""
        load = self._scenario.load_at(ask.level)
        rows, stage, begin_ns = self._send(load, self._scenario.warm_up_s, ask.seconds)
        begin_ns += round(self._scenario.warm_up_s * 1e9)
        facts = {
            "purpose": ask.purpose, "level": ask.level, "seconds": ask.seconds,
            "window": {
                "load": LOAD, "part": PART, "rate": load.rate, "in_flight": load.in_flight,
                **window(
                    rows, stage, begin_ns, ask.seconds, open_loop=load.rate is not None, readings=self._readings.table
                ),
            },
            **trial_facts(rows, begin_ns, ask.seconds, self._objectives),
            **self._memory(begin_ns, ask.seconds),
        }  # fmt: skip
        self._settle(rows)
        return facts

    def _memory(self, begin_ns: int, seconds: float) -> dict[str, Any]:
        """What was used meanwhile, where that has a limit: of the model alone, where its processes are its own."""
        limit = self._scenario.memory
        if self._meter is None or limit is None:
            return {}
        end_ns = begin_ns + round(seconds * 1e9)
        return {"memory": self._meter.facts(begin_ns, end_ns, limit, device=self._device, where="trial")}

    @property
    def _device(self) -> str:
        """What readings call it."""
        version = self._scenario.version or (1 if self._scenario.embedded else None)
        return "" if version is None else f"{self._scenario.model}/{version}"

    def _send(self, load: Any, warm_up_s: float, seconds: float) -> tuple[pa.Table, int, int]:
        stage, self._stages = self._stages, self._stages + 1
        self._drive.asked = replace(self._drive.asked, load=load)
        measure(self._course, [self._drive], stage, warm_up_s, seconds)
        # Its facts are the trial's, and no window beside it.
        begin_ns = self._drive.stages.pop(stage).begin_ns
        assert begin_ns is not None
        self._samples.poll()
        self._readings.poll()
        table = self._samples.table
        return table.filter(pc.equal(table["stage"], stage)), stage, begin_ns

    def _settle(self, rows: pa.Table) -> None:
        """A server works on requests that nobody waits for any longer. One that queues behind them is answered when
        they are over, so it would be late in the next trial.
        """
        for _ in range(SETTLES):
            if "timeout" not in pc.unique(rows["status"]).to_pylist():
                return
            alone = self._scenario.load_at(self._scenario.between[0]).model_copy(update={"rate": None, "in_flight": 1})
            rows, _, _ = self._send(alone, 0.0, SETTLE_S)


def trial_facts(
    rows: pa.Table, begin_ns: int, seconds: float, objectives: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What a verdict on the requests due in `seconds` from `begin_ns` on follows from: counts by block of time.

    `rows` has the columns of recording.schema.SAMPLES, of one stage. In each block: requests `due`, `failed` of them
    (time-outs, too), `done` (ended well in it, whenever due), `good` (held every limit), the `median` response time
    (seconds), and for each objective those `beyond` its limits and those of the `slowest` tenth, measured by the limit
    that they used most of. A limit on a time that an answer does not have (tpot of one token) holds; `measured` tells
    for each objective how many answers had any of its times.
    """
    due, sent, first, done = (
        rows[name].to_numpy().astype(np.float64) for name in ("due_ns", "sent_ns", "first_ns", "done_ns")
    )
    status, osl = rows["status"].to_numpy(), rows["osl"].to_numpy()
    ok, counted = status == "ok", status != "cancelled"
    edges = begin_ns + np.round(np.arange(BLOCKS + 1) * (seconds * 1e9 / BLOCKS))
    by_due, by_done = (np.searchsorted(edges, t, side="right") - 1 for t in (due, done))
    counted &= (by_due >= 0) & (by_due < BLOCKS)
    block, failed = by_due[counted], ~ok[counted]
    response, tokens = done - due, (first >= 0) & (osl >= 1)
    times = {
        "response_time": response,
        "request_latency": done - sent,
        "ttft": np.where(tokens, first - sent, math.nan),
        "tpot": np.where(tokens & (osl > 1), (done - first) / np.maximum(osl - 1, 1), math.nan),
    }
    uses = []
    measured = []
    for objective in objectives:
        parts = [times[name][counted] / (limit * 1e9) for name, limit in objective["within"].items()]
        parts = [np.where(failed, math.inf, part) for part in parts]
        every = np.array([*parts, np.where(failed, math.inf, 0.0)])
        uses.append(np.nan_to_num(every, nan=0.0, posinf=math.inf).max(axis=0))
        measured.append(int(np.isfinite(np.array(parts)).any(axis=0).sum()) if parts else len(failed))
    beyond = [_counts(block[used > 1]) for used in uses]
    slowest = [
        _counts(block[used > np.quantile(used, SLOWEST, method="lower")]) if len(used) else _counts(block)
        for used in uses
    ]
    good = _counts(block[np.all([used <= 1 for used in uses], axis=0) & ~failed])
    number, lost = _counts(block), _counts(block[failed])
    ended = _counts(by_done[ok & (by_done >= 0) & (by_done < BLOCKS)])
    return {
        "measured": measured,
        "blocks": [
            {
                "seconds": seconds / BLOCKS, "due": number[b], "failed": lost[b], "done": ended[b], "good": good[b],
                "beyond": [counts[b] for counts in beyond], "slowest": [counts[b] for counts in slowest],
                "median": _median(response[counted][(block == b) & ~failed]),
            }
            for b in range(BLOCKS)
        ],
    }  # fmt: skip


def _counts(blocks: Any) -> list[int]:
    return [int(count) for count in np.bincount(blocks, minlength=BLOCKS)]


def _median(response_ns: Any) -> float | None:
    return round(float(np.median(response_ns)) / 1e9, 6) if len(response_ns) else None


def _start(course: Course, scenario: FindMaxLoad) -> EmbeddedServer:
    build = scenario.build or reference_build(scenario.model)
    place = course.open_place(PlaceConfig(server="embedded"), {scenario.model: {scenario.version or 1: build}})
    assert place.server is not None
    return place.server


def _arm(scenario: FindMaxLoad, server: EmbeddedServer | None) -> Arm:
    url = scenario.target.url
    if server is not None:
        url = server.http_url if scenario.over == "http" or scenario.api != "kserve" else server.grpc_url
    assert url is not None
    return scenario.arm(url)
