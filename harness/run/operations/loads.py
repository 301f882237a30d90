"""Loads of an operation: one generator for each, several at the same time, their recordings in folders of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import CanaryError, UsageError, WorldError
from harness.load import FRONT_END, Generator, LoadSpec
from harness.recording import read_table, seal
from harness.run.operations.course import Course
from harness.run.operations.windows import window
from harness.run.target import access_of
from harness.scenario import SentLoad
from harness.telemetry import Host, Sampler
from harness.triton import Control, access
from harness.types import Arm, ModelInfo

UNENDED_S = 86400.0
FIRST_S = 30.0
"""The first request of a load, and the last answer of one that was ended, take no longer."""
TICK_S = 0.2
HOST_S = 1.0


@dataclass(frozen=True)
class Asked:
    """One load: what it is called, and whom it asks."""

    name: str
    load: SentLoad
    arm: Arm

    @property
    def called(self) -> Arm:
        """The arm with the environment's headers; for one name those of the scenario win."""
        own = {name.lower() for name in self.arm.headers}
        more = {n: value for n, value in access(environment=os.environ).headers.items() if n.lower() not in own}
        return replace(self.arm, headers={**more, **self.arm.headers})

    def info(self) -> ModelInfo:
        """What the server says of the model. Raises UsageError where it does not serve."""
        arm = self.called
        if arm.api == "openai":
            # Such a front end speaks no KServe: as for a canary, its inputs are those of its api.
            return replace(FRONT_END, name=arm.model)
        with Control(arm.url, access_of(arm)) as control:
            served = control.loaded(arm.model)
            if not served or (arm.version is not None and arm.version not in served):
                ready = ", ".join(map(str, served)) or "none"
                raise UsageError(f"{arm.model}: does not serve as asked on {arm.url} (READY: {ready})")
            return control.metadata(arm.model, arm.version)


@dataclass
class _Stage:
    """When it began, on the clock of the recording; `counted`: (from its beginning, how long), in seconds."""

    begin_ns: int | None = None
    done: bool = False
    counted: tuple[float, float] | None = None


@dataclass
class Drive:
    """A load's generator, from its start until its recording is sealed. Use `driving`."""

    asked: Asked
    folder: Path
    generator: Generator
    sampler: Sampler
    stages: dict[int, _Stage] = field(default_factory=dict)
    share: float = 0.0
    """What a second arm gets."""

    def begin(self, index: int, seconds: float) -> None:
        """Send for `seconds`; another stage of it ends."""
        self.stages[index] = _Stage()
        self.generator.stage(replace(self.asked.load.stage(index, seconds), candidate_share=self.share))

    def poll(self) -> None:
        """Take in what the generator said. Raises WorldError, ServerDied."""
        events = self.generator.events(0.0)
        if lost := self.generator.roster.lost:
            raise WorldError(f"{lost[0]}: nobody sends its share of the load")
        for event in events:
            stage = self.stages.get(event.get("index", -1))
            if stage is None:
                continue
            if event["event"] == "stage_begun":
                stage.begin_ns = int(event["t_ns"])
            elif event["event"] == "stage_done":
                stage.done = True

    def counted_ns(self, index: int) -> tuple[int, int]:
        """From when to when requests of a stage that has begun are counted, on the clock of the recording."""
        stage = self.stages[index]
        assert stage.begin_ns is not None
        assert stage.counted is not None
        begin_ns = stage.begin_ns + round(stage.counted[0] * 1e9)
        return begin_ns, begin_ns + round(stage.counted[1] * 1e9)

    def facts(self) -> list[dict[str, Any]]:
        """The windows of every stage that has begun. Once the recording is sealed."""
        samples, readings = (read_table(self.folder, name) for name in ("samples", "readings"))
        found = []
        for index, stage in sorted(self.stages.items()):
            if samples is None or stage.begin_ns is None or stage.counted is None:
                continue
            offset_s, seconds = stage.counted
            load = self.asked.load
            begin_ns = stage.begin_ns + round(offset_s * 1e9)
            found.append(
                {
                    "load": self.asked.name, "rate": load.rate, "in_flight": load.in_flight,
                    **window(
                        samples, index, begin_ns, seconds, open_loop=load.rate is not None, readings=readings
                    ),
                }
            )  # fmt: skip
        return found


@contextmanager
def driving(course: Course, seed: int, asked: Sequence[Asked], folder: str, t0_ns: int) -> Iterator[list[Drive]]:
    """The loads' generators, ready. At the end their windows are in the course's facts, as far as they came.

    Recordings lie in `folder`/NAME of the run's folder. Raises UsageError where a model cannot be asked so.
    """
    drives: list[Drive] = []
    try:
        drives.extend(_start(course, one, seed, course.folder.path / folder / one.name, t0_ns) for one in asked)
        yield drives
        for drive in drives:
            drive.generator.stop()
    finally:
        for drive in drives:
            drive.generator.kill()
        # Whatever ended the operation is the error to report.
        with suppress(CanaryError):
            for drive in drives:
                drive.sampler.stop()
                seal(drive.folder)
                course.facts.setdefault("windows", []).extend(
                    {"part": folder, **facts} for facts in drive.facts()
                )  # fmt: skip
            course.save()


def measure(course: Course, drives: Sequence[Drive], index: int, warm_up_s: float, seconds: float) -> None:
    """Send all of `drives` at the same time; what is due in `seconds` after the warm-up is counted."""
    for drive in drives:
        drive.begin(index, warm_up_s + seconds)
        drive.stages[index].counted = (warm_up_s, seconds)
    patience_s = warm_up_s + seconds + FIRST_S + max(drive.asked.load.timeout_s for drive in drives)
    _wait(course, drives, lambda drive: drive.stages[index].done, patience_s)


def during(course: Course, drives: Sequence[Drive], index: int, change: Callable[[], Any], after_s: float = 1.0) -> Any:
    """What `change` returns, called while all of `drives` send; every request of that time is counted."""
    sent = {drive.asked.name: drive.generator.begun("baseline") for drive in drives}
    for drive in drives:
        drive.begin(index, UNENDED_S)
    _wait(course, drives, lambda drive: drive.generator.begun("baseline") > sent[drive.asked.name] + 1, FIRST_S)
    result = change()
    ends = time.monotonic() + after_s
    _wait(course, drives, lambda _: time.monotonic() >= ends, after_s + FIRST_S)
    for drive in drives:
        drive.generator.end_stage()
    patience_s = FIRST_S + max(drive.asked.load.timeout_s for drive in drives)
    ended_ns = time.monotonic_ns()
    _wait(course, drives, lambda drive: drive.stages[index].done, patience_s)
    for drive in drives:
        stage = drive.stages[index]
        assert stage.begin_ns is not None
        stage.counted = (0.0, (ended_ns - drive.generator.spec.t0_ns - stage.begin_ns) / 1e9)
    return result


def _wait(course: Course, drives: Sequence[Drive], over: Callable[[Drive], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        for drive in drives:
            drive.poll()
        for place in course.places:
            place.check()
        if all(over(drive) for drive in drives):
            return
        if time.monotonic() > deadline:
            raise WorldError(
                f"the load generator is not done after {patience_s:.0f} s: see {drives[0].folder}/load.log"
            )
        time.sleep(TICK_S)


def _start(course: Course, asked: Asked, seed: int, folder: Path, t0_ns: int) -> Drive:
    folder.mkdir(parents=True)
    load = asked.load
    spec = LoadSpec(
        arms={"baseline": asked.called}, models={"baseline": asked.info()}, seed=seed, prompts=load.texts,
        max_tokens=load.max_tokens, timeout_s=load.timeout_s, logprobs_k=0, chunks=False, t0_ns=t0_ns, folder=folder,
        cache=load.cache, connections=load.connections,
    )  # fmt: skip
    generator = Generator(spec, folder / "load.log", hold=(course.folder.lock_fd,), workers=load.workers)
    course.stack.callback(generator.kill)
    generator.start()
    # Beside what the workers say of themselves: the machine that they run on.
    sampler = Sampler([Host()], folder / "readings.arrow", t0_ns, HOST_S)
    sampler.start()
    return Drive(asked, folder, generator, sampler)
