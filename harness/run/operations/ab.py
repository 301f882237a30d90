"""ab-test: two arms, a load of many users' requests, and each user with the arm that it was assigned to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import CanaryError
from harness.load import Generator, LoadSpec
from harness.recording import read_table, seal, stream_path
from harness.run.operations.ab_arms import Arms, led, open_arms
from harness.run.operations.course import Course
from harness.run.operations.loads import HOST_S, Asked, Drive, measure
from harness.run.operations.memory import Meter, plain
from harness.run.scoring import Scoring, make_scorers
from harness.scenario import AbTest
from harness.telemetry import Host, Sampler
from harness.types import Arm, ArmName

LOAD = "load"
LETTERS: Mapping[ArmName, str] = {"baseline": "A", "candidate": "B"}


def observe(course: Course) -> None:
    """One stage; the recording lies in the run's own folder, with every request's unit and assignment."""
    scenario = course.scenario
    assert isinstance(scenario, AbTest)
    scorers = make_scorers(scenario.scorers)
    arms = open_arms(course, scenario)
    course.note(
        header=scenario.header, split=scenario.split, labelled=scenario.labelled, analyse=scenario.analyse,
        salt=scenario.salt or scenario.name, seed=scenario.seed, told=arms.told, warm_up_s=scenario.warm_up_s,
        seconds=scenario.duration_s, ingress=_ingress(arms),
        arms={LETTERS[name]: _facts(arm, scenario.arms[name].version) for name, arm in arms.arms.items()},
        metrics=[
            {"metric": one.metric, "margin": one.allowed, "better": one.direction, "in_points": one.in_points}
            for one in scenario.metrics
        ],
        limits={"memory": plain(scenario.limits.memory)},
    )  # fmt: skip
    with led(course, arms), _driving(course, scenario, arms, scorers) as drive:
        course.say(f"{scenario.load.words} for {scenario.duration_s:g} s")
        measure(course, [drive], 0, scenario.warm_up_s, scenario.duration_s)


@contextmanager
def _driving(course: Course, scenario: AbTest, arms: Arms, scorers: Any) -> Iterator[Drive]:
    """The load's generator, ready. At the end the recording is whole, and its window is in the course's facts."""
    folder, load, t0_ns = course.folder.path, scenario.load, time.monotonic_ns()
    asked = {name: Asked(LETTERS[name], load, arm) for name, arm in arms.arms.items()}
    infos = {name: Asked(LETTERS[name], load, arm).info() for name, arm in arms.servers.items()}
    spec = LoadSpec(
        arms={name: one.called for name, one in asked.items()}, models=infos, seed=scenario.seed, prompts=load.texts,
        max_tokens=load.max_tokens, timeout_s=load.timeout_s, logprobs_k=0, chunks=False, t0_ns=t0_ns, folder=folder,
        cache=load.cache, connections=load.connections, texts=bool(scorers), routed=arms.routed,
        experiment=scenario.experiment(),
    )  # fmt: skip
    generator = Generator(spec, folder / "load.log", hold=(course.folder.lock_fd,), workers=load.workers)
    course.stack.callback(generator.kill)
    generator.start()
    limit = scenario.limits.memory
    server = course.places[0].server if course.places else None
    meter = None if limit is None else Meter(course, scenario.target, server, scenario.urls, t0_ns)
    sampler = Sampler([Host()], stream_path(folder, "readings"), t0_ns, HOST_S) if meter is None else meter.sampler
    sampler.start()
    drive = Drive(Asked(LOAD, load, arms.arms["baseline"]), folder, generator, sampler, share=scenario.split)
    try:
        yield drive
        generator.stop()
        if meter is not None and limit is not None:
            course.facts["memory"] = meter.facts(*drive.counted_ns(0), limit)
        if scorers:
            _score(course, scorers, load.texts)
    finally:
        generator.kill()
        # Whatever ended the experiment is the error to report.
        with suppress(CanaryError):
            sampler.stop()
            if meter is not None:
                meter.close()
            seal(folder)
            course.facts["windows"] = [{"part": LOAD, **facts} for facts in drive.facts()]
            course.facts["seen"] = seen(read_table(folder, "samples"))
            course.save()


def seen(samples: pa.Table | None) -> list[dict[str, Any]]:
    """Of each arm and way of assignment: how many units were seen, and their requests. For people; what is judged are
    the samples themselves.
    """
    if samples is None or not samples.num_rows:
        return []
    table = samples.select(["arm", "assignment", "unit"]).append_column(
        "failed", pc.invert(pc.is_in(samples["status"], value_set=pa.array(["ok", "cancelled"])))
    )
    found = table.group_by(["arm", "assignment"]).aggregate(
        [("unit", "count_distinct"), ("unit", "count"), ("failed", "sum")]
    )
    rows = [
        {
            "arm": LETTERS.get(row["arm"], row["arm"]), "assignment": row["assignment"],
            "units": row["unit_count_distinct"], "requests": row["unit_count"], "failed": row["failed_sum"],
        }
        for row in found.to_pylist()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row["arm"], row["assignment"]))


def _score(course: Course, scorers: Any, prompts: Any) -> None:
    scoring = Scoring(course.folder.path, scorers, prompts, course.say)
    try:
        scoring.stages([0])
    finally:
        scoring.close()


def _facts(arm: Arm, version: int | None) -> dict[str, Any]:
    return {"model": arm.model, "version": version, "url": arm.url, "api": arm.api}


def _ingress(arms: Arms) -> str:
    """Where requests went in, "" without an ingress."""
    return arms.arms["baseline"].url if arms.routed is not None else ""
