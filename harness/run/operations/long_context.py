"""long-context: each version loaded alone; a ladder, the ramp to the goal, the edge; on OOM a smaller batch."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from harness.embedded import EmbeddedServer, reference_build
from harness.errors import LoadFailed, UnsafeChange, UsageError
from harness.failures import kind_of
from harness.judge import SHORT, TOO_LONG, LongFits, judge_operation, limit_share, long_derived, long_fits, proven
from harness.recording import seal, stream_path
from harness.run.engines import Engines
from harness.run.models import Rules, lent_versions, load, max_batch, set_max_batch, unload
from harness.run.operations.course import Course, Place
from harness.run.operations.long_edge import next_context
from harness.run.operations.long_points import Asker
from harness.run.operations.long_watch import Readings, Watched, choose, reading
from harness.run.operations.memory import plain
from harness.run.strays import POLL_S, WINDOW_S, StrayCount, counted
from harness.scenario import RAMP, LongArm, LongContext, PlaceConfig
from harness.telemetry import Sampler, engine_of, gpus, sources

EVERY_S, GPU_S = 0.05, 0.02
MOST_TRIES = 10
UNSEEN = (
    "memory is read of a page that is renewed every 2 s (Triton) or 30 s (DCGM exporter), and some answers took less "
    "than twice that: their peaks may not have been on it, and do not count; run where the GPU is, for NVML"
)
SILENT = (
    "the engine took its memory when it was loaded, and no page tells of its KV cache: no memory is watched, because "
    "what is flat would always fit"
)
RULES = Rules(versioned_clients=True, dependents=False)
"""That nobody asks was seen before the first change, and is looked at before each further one."""
AGAIN = replace(RULES, unfit=True)
"""A version that was loaded here alone before fits, whatever an engine keeps of the memory of the last one."""
SETTLE_S = 5.0
"""Processes of an engine may end, and give their memory back, a moment after Triton says that it has gone."""


def observe(course: Course) -> None:
    """What serves before serves again at the end, whatever happens in between."""
    scenario = course.scenario
    assert isinstance(scenario, LongContext)
    goal, limits = scenario.goal, scenario.limits
    course.note(
        goal={"context": goal.context, "batch": goal.batch}, contexts=list(scenario.contexts),
        batches=list(scenario.batches), ramp=list(RAMP), repeats=scenario.repeats, max_tokens=scenario.max_tokens,
        limits={"memory": plain(limits.memory), "margin": limits.margin, "edge": limits.edge}, every_s=EVERY_S,
        gpu_every_s=GPU_S,
        on_oom=scenario.on_oom is not None, arms={}, action=None, notes=[],
    )  # fmt: skip
    place = _open(course, scenario)
    place.site.say = lambda _: None  # versions come and go dozens of times, and none of it is news
    models = tuple(dict.fromkeys(arm.model for arm in scenario.arms.values()))
    if len(place.site.servers) > 1:
        raise UsageError(
            f"{scenario.target.url} stands for {len(place.site.servers)} servers: the one that is asked has to be the "
            "one whose memory is read: name one"
        )
    if place.server is None:
        _nobody_asks(course, place, models)
    t0_ns = time.monotonic_ns()
    with ExitStack() as stack:
        lent = {model: stack.enter_context(lent_versions(place.site, model, rules=RULES)) for model in models}
        stack.callback(setattr, place.site, "say", course.say)
        sampler = _sampler(course, scenario, place.server, t0_ns)
        sampler.start()
        stack.callback(seal, course.folder.path)
        stack.callback(sampler.stop)
        readings = stack.enter_context(reading(course.folder.path, t0_ns, EVERY_S))
        for name, arm in scenario.arms.items():
            measured = MeasuredArm(course, scenario, place, name, arm, models, readings)
            if measured.run():
                if name == "candidate" and measured.act():
                    lent[arm.model].keep_config()
                course.note(derived={**course.facts.get("derived", {}), name: long_derived(course.facts, name)})
            measured.nobody_else()
        course.facts["notes"] += list(sampler.notes)
    if course.facts["action"] and not course.facts["action"].get("kept"):
        course.facts["action"]["put_back"] = True
    course.note(after={model: place.ready(model) for model in models})


class MeasuredArm:
    """One version, measured while nothing else of the scenario is loaded."""

    def __init__(
        self, course: Course, scenario: LongContext, place: Place, name: str, arm: LongArm, models: tuple[str, ...],
        readings: Readings,
    ) -> None:  # fmt: skip
        self._course, self._scenario, self._place = course, scenario, place
        self._name, self._arm, self._models, self._readings = name, arm, models, readings
        self._asker: Asker | None = None
        self._strays: StrayCount | None = None
        self._facts: dict[str, Any] = {
            "model": arm.model, "version": arm.version, "kv_bits": arm.kv_bits, "points": [], "load_error": "",
        }  # fmt: skip
        course.facts["arms"][name] = self._facts

    def run(self) -> bool:
        """All that there is to measure of it; False where it cannot even be loaded."""
        try:
            self._fresh()
        except LoadFailed as error:
            self._facts["load_error"] = str(error)
            self._course.save()
            return False
        assert self._asker is not None
        batch, most = self._scenario.goal.batch, self._asker.max_batch
        if 0 < most < max(batch, *self._scenario.batches):
            raise UsageError(f"{self._arm.model}: max_batch_size is {most}, and a batch of more was asked for")
        shortest = min(self._scenario.contexts[0], round(RAMP[0] * self._scenario.goal.context))
        if not self._asker.holds(shortest):
            raise UsageError(
                f"{self._arm.model}: {shortest} tokens have no room for a word beside its template and "
                f"{self._scenario.max_tokens} tokens of answer: longer `contexts`, and a longer goal"
            )
        self._ladder()
        self._climb("ramp", batch)
        if self._name == "candidate" and self._scenario.limits.edge:
            self._edge(batch)
        return True

    def act(self) -> bool:
        """Where the goal ran out of memory, the largest batch that fits, if that was asked for.

        Whether it is to stay: a smaller batch is of no use to a version that is not promoted with it.
        """
        goal = self._scenario.goal
        short = any(
            point["outcome"] == "out of memory" and point["batch"] == goal.batch and point["context"] <= goal.context
            for point in self._facts["points"]
        )
        if not short or self._scenario.on_oom is None:
            return False
        assert self._asker is not None
        if self._asker.max_batch < 1:
            self._course.note(action={"refused": f"{self._arm.model} forms its batches itself: max_batch_size is 0"})
            return False
        before, model = self._asker.max_batch, self._arm.model
        tried: list[int] = []
        self._course.note(action={"before": before, "goal": goal.batch, "tried": tried, "to": None, "put_back": False})
        action = self._course.facts["action"]
        while (size := self._next_batch(tried[-1] if tried else goal.batch)) and action["to"] is None:
            self._course.say(f"{model}: max_batch_size {tried[-1] if tried else before} -> {size}")
            try:
                with self._course.journal.action("max_batch", f"{self._place.control.url}/{model}", wanted=size):
                    set_max_batch(self._place.site, model, size, rules=AGAIN)
            except UsageError as error:  # nothing was changed
                self._course.note(action={"refused": str(error)})
                return False
            tried.append(size)
            if self._holds(self._climb("reduced", size)):
                action |= {
                    "to": size,
                    "refuses_more": self._asker.refused(size + 1),
                    "reads": max_batch(self._place.site, model, self._version),
                }
            self._course.save()
        action["kept"] = judge_operation({**self._course.facts, "finished": True}).verdict == "promote"
        return bool(action["kept"])

    def _holds(self, points: list[dict[str, Any]]) -> bool:
        """Whether the goal, and what is beyond it as far as the model takes it, was answered each time."""
        goal = self._scenario.goal.context
        return bool(points) and all(
            proven(point) >= point["context"] or (point["outcome"] == TOO_LONG and point["context"] > goal)
            for point in points
        )

    @property
    def _version(self) -> int:
        assert self._arm.version is not None
        return self._arm.version

    def _fits(self) -> LongFits:
        return long_fits(self._course.facts, self._name)

    def _next_batch(self, above: int) -> int:
        """The largest below `above` whose prediction is within the limit; 1 where none is; 0 where 1 was tried."""
        goal, limit = self._scenario.goal, limit_share(self._course.facts, self._name)
        fits = self._fits()
        safe = [batch for batch in range(1, above) if fits.known and fits.upper(goal.context, batch) <= limit]
        return max(safe, default=1 if above > 1 else 0)

    def _ladder(self) -> None:
        """Each point in an instance of its own: what an allocator keeps of one is not counted for the next."""
        grid = [(context, batch) for context in self._scenario.contexts for batch in self._scenario.batches]
        for number, (context, batch) in enumerate(sorted(grid, key=lambda point: (point[0] * point[1], point[1]))):
            if self._beyond(context, batch):
                continue
            if number:
                self._fresh()
            self._point("ladder", context, batch)

    def _climb(self, phase: str, batch: int) -> list[dict[str, Any]]:
        """The ramp, as often as asked, each time in a fresh instance, until it fails."""
        found = []
        for repeat in range(self._scenario.repeats):
            self._fresh()
            for share in RAMP:
                point = self._point(phase, round(share * self._scenario.goal.context), batch, repeat)
                found.append(point)
                if point["outcome"] != "ok":
                    break
        return found

    def _edge(self, batch: int) -> None:
        """Until it is known between which two contexts memory ends, or there is no more to be learned."""
        assert self._asker is not None
        for _ in range(MOST_TRIES):
            ok, bad = self._bracket(batch)
            if bad is None and self._takes_no_more(batch):
                return
            fits = self._fits()
            foretold = fits.edge(batch) if fits.known else None
            context = next_context(ok, bad, foretold, self._scenario.goal.context, self._scenario.limits.edge)
            if context is None or not self._asker.holds(context):
                return
            self._fresh()
            point = self._point("edge", context, batch)
            if point["outcome"] not in ("ok", *SHORT):
                return

    def _bracket(self, batch: int) -> tuple[float, float | None]:
        """The longest context that was answered, and the shortest that ran out of memory."""
        mine = [point for point in self._facts["points"] if point["batch"] == batch]
        ok = [point["tokens"] for point in mine if point["outcome"] == "ok"]
        bad = [point["tokens"] for point in mine if point["outcome"] in SHORT]
        return max(ok, default=0), min(bad, default=None)

    def _takes_no_more(self, batch: int) -> bool:
        return any(point["outcome"] == TOO_LONG and point["batch"] == batch for point in self._facts["points"])

    def _beyond(self, context: int, batch: int) -> bool:
        """Whether less than this ran out of memory already."""
        return any(
            point["outcome"] in SHORT and point["context"] <= context and point["batch"] <= batch
            for point in self._facts["points"]
        )

    def _point(self, phase: str, context: int, batch: int, repeat: int = 0) -> dict[str, Any]:
        assert self._asker is not None
        point = self._asker.point(phase, context, batch, repeat)
        self._facts["points"].append(point)
        if point.get("unseen"):
            self._note(UNSEEN)
        self._course.save()
        self._course.say(f"{self._name}: {point['tokens']} tokens, batch {batch}: {point['outcome']}")
        self._place.check()
        return point

    def _fresh(self) -> None:
        """A new instance, alone. The first one tells what is watched, and how long texts have to be."""
        self.nobody_else()
        site = self._place.site
        with site.changing():
            for model in self._models:
                if any(site.loaded(model).values()):
                    unload(site, model, everything=True, rules=RULES)
            before = self._readings.moment() if self._asker is None else None
            self._load()
        info = self._place.control.metadata(self._arm.model, self._version)
        if self._asker is not None:
            self._asker.info = info
            self._watch_strays(self._asker)
            return
        assert before is not None
        self._asker = Asker(self._place, self._scenario, self._arm, info, self._readings)
        self._watch_strays(self._asker)
        lengths = self._asker.learn()
        watched = choose(
            before, self._readings.moment(), f"{self._arm.model}/{self._version}", self._asker.server_pid
        )  # fmt: skip
        watched = self._told(watched)
        self._asker.watched = watched
        self._facts |= {
            "lengths": lengths, "watched": watched.facts() if watched else None, "max_batch_size": info.max_batch_size,
        }  # fmt: skip
        self._course.save()

    def _told(self, watched: Watched | None) -> Watched | None:
        """None where an engine took its memory at the load and nobody tells of its cache: all that is flat fits."""
        control, arm = self._place.control, self._arm
        if watched is None or watched.preallocated:
            return watched
        served = control.steps(arm.model, self._version) or ((arm.model, self._version),)
        if not any(engine_of(control.config(model, version)) for model, version in served):
            return watched
        engines = Engines(self._scenario.target.metrics_url, self._course.say)
        engines.look([(arm.arm(control.url), control)])
        for note in (*engines.notes, SILENT):
            self._note(note)
        return None

    def _note(self, note: str) -> None:
        if note not in self._course.facts["notes"]:
            self._course.facts["notes"].append(note)

    def _load(self) -> None:
        """Once more after a moment, where it did not fit beside what the last one had not given back yet."""
        rules = RULES if self._asker is None else AGAIN
        for last in (False, True):
            try:
                load(self._place.site, self._arm.model, [self._version], exactly=True, rules=rules)
                return
            except (LoadFailed, UnsafeChange) as error:
                if last or (isinstance(error, LoadFailed) and kind_of(str(error)) != "out of memory"):
                    raise
                time.sleep(SETTLE_S)

    def _watch_strays(self, asker: Asker) -> None:
        """From now on, until the version is taken away."""
        if self._place.server is None:
            control, notes = self._place.control, self._course.facts["notes"]
            self._strays = counted(control, self._arm.model, self._version, lambda: asker.sent, notes.append)

    def nobody_else(self) -> None:
        """Raises UnsafeChange where others ask the version that is measured: it is about to be taken away."""
        strays, self._strays = self._strays, None
        if strays is not None and (seen := strays.last()):
            raise UnsafeChange(
                f"{seen} requests of somebody else reached {self._arm.model} version {self._version} on "
                f"{self._place.control.url}: versions are measured alone, on a server that nobody else asks"
            )


def _open(course: Course, scenario: LongContext) -> Place:
    models: dict[str, dict[int, Any]] = {}
    for arm in scenario.arms.values():
        assert arm.version is not None
        models.setdefault(arm.model, {})[arm.version] = arm.build or (
            reference_build(arm.model) if scenario.embedded else None
        )
    place = PlaceConfig(server=scenario.target.server, url=scenario.target.url, repository=scenario.target.repository)
    return course.open_place(place, models)


def _nobody_asks(course: Course, place: Place, models: tuple[str, ...]) -> None:
    """Raises UnsafeChange where requests arrive: measured versions are taken away and loaded again all the time."""
    course.say(f"watching for {WINDOW_S:g} s whether clients ask {' or '.join(models)}")
    before = _asked(place, models)
    deadline = time.monotonic() + WINDOW_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        if more := _asked(place, models) - before:
            raise UnsafeChange(
                f"{more} requests reached {' or '.join(models)} on {place.control.url}: versions are measured alone, "
                "on a server that nobody else asks"
            )


def _asked(place: Place, models: tuple[str, ...]) -> int:
    return sum(sum(place.counts(model, version).values()) for model in models for version in place.somewhere(model))


def _sampler(course: Course, scenario: LongContext, server: EmbeddedServer | None, t0_ns: int) -> Sampler:
    pid = scenario.target.server_pid if server is None else server.pid
    pages = scenario.target.metrics_url if server is None else (server.metrics_url,)
    urls = [] if scenario.target.url is None else [scenario.target.url]
    folder = course.folder
    reader = gpus(folder.path, t0_ns, [*pages, *urls], pid, interval_s=GPU_S, hold=(folder.lock_fd,))
    return Sampler(sources(pages, pid), stream_path(folder.path, "readings"), t0_ns, EVERY_S, beside=reader)
