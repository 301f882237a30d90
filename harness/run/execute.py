"""A run from scenario to verdict: the composition root. Only here does a verdict become an action."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import CanaryError, RecordingError, UsageError, WorldError
from harness.ingress import OwnSplit
from harness.judge import ROUTED, judge
from harness.load import Listen
from harness.run.act import Act
from harness.run.bring import Bring
from harness.run.calibrations import last_calibration
from harness.run.checkout_target import Comparison
from harness.run.conclude import conclude
from harness.run.engines import Engines
from harness.run.folder import RunFolder
from harness.run.generating import start_generator
from harness.run.journal import Journal
from harness.run.placing import DoesNotLoad
from harness.run.put_back import Live, Say, put_back
from harness.run.recovered import Recovery
from harness.run.resume import Carried, asked, go_on, readings_path
from harness.run.sampling import sampler_of
from harness.run.scoring import Scoring
from harness.run.served import served
from harness.run.setting import describe
from harness.run.signals import interruptible
from harness.run.stage import Observe, Walk
from harness.run.swap import Swap, refuse_to_take_away
from harness.run.target import Target, open_target
from harness.run.traffic import Traffic
from harness.run.unfinished import alone
from harness.run.watch import Watch
from harness.scenario import Scenario, plan
from harness.telemetry import Value
from harness.types import ArmName, Decision, StagePlan, StageVerdict, Verdict

AFTERWARDS_S = 10.0
"""How long a rolled-back run waits to see the baseline answer what was the candidate's traffic."""


@dataclass(frozen=True)
class Result:
    """`error` is what cut the run short, if anything did; the recording and its verdict are there all the same."""

    folder: Path
    verdict: Verdict
    error: CanaryError | None
    not_put_back: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        if self.not_put_back:
            return WorldError.exit_code
        return self.error.exit_code if self.error else self.verdict.exit_code


def execute(
    scenario: Scenario, out: Path, observe: Observe, say: Say, listen: Listen | None = None,
    resume: Path | None = None, begun: Callable[[Path], None] = lambda _: None,
    comparison: Comparison | None = None,
) -> Result:  # fmt: skip
    """Run `scenario`, record into a new folder under `out`, judge, act, render.

    `listen`: its load workers are awaited from other hosts. `resume`: the folder of a run of it that died; what that
    had completed counts. `begun` is told the folder once there is one. `comparison`: the arms are its builds.

    Raises UsageError where nothing could be started, and leaves no folder then; every other CanaryError is in the
    result. Whatever is raised, what had been changed was put back.
    """
    # The journal names files: it must mean the same from any working directory.
    about = describe(scenario)
    about["asked"] = asked(scenario)
    about["calibration"] = last_calibration(about)
    if comparison is not None:
        about["git"] = dict(comparison.checkout.about)
    carried = go_on(resume, scenario, about, say) if resume is not None else None
    folder = RunFolder.create(out.resolve(), scenario.name, about)
    folder.lock()
    begun(folder.path)
    run = _Run(scenario, folder, observe, say, listen, carried, comparison)
    error: CanaryError | None = None
    failures: list[str] = []
    with interruptible() as signals:
        try:
            with ExitStack() as stack:
                try:
                    run.go(stack, signals.check)
                    signals.ignore()
                except BaseException as caught:
                    signals.ignore()
                    if not run.settled:
                        folder.meta["finished"] = False
                        failures = put_back(run.journal, say, run.live)
                    if not isinstance(caught, CanaryError):
                        raise
                    error = caught
        finally:
            for failure in failures:
                say(f"NOT PUT BACK: {failure}")
        try:
            if isinstance(error, UsageError) and not run.changed_a_foreign_server:
                shutil.rmtree(folder.path)
                raise error
            folder.meta["outcome"] = {"error": str(error or ""), "not_put_back": failures}
            verdict = conclude(folder)
        finally:
            folder.unlock()
    return Result(folder.path, verdict, error, tuple(failures))


class _Run:
    """The steps of a run, in order."""

    def __init__(
        self, scenario: Scenario, folder: RunFolder, observe: Observe, say: Say, listen: Listen | None,
        carried: Carried | None, comparison: Comparison | None,
    ) -> None:  # fmt: skip
        self.scenario, self.folder, self.observe, self.say = scenario, folder, observe, say
        self.listen, self.carried, self.comparison = listen, carried, comparison
        self.plan = plan(scenario)
        self.journal = Journal(folder.path)
        # What is carried over lies before.
        self.t0_ns = time.monotonic_ns() - (carried.offset_ns if carried else 0)
        self.live = Live()
        self.swap: Swap | None = None
        self._begun_so_far: Callable[[ArmName], int] = lambda _: 0
        self._said_lost: set[str] = set()
        self.settled = False
        """What the verdict wanted is done: nothing that happens from here on undoes it."""

    @property
    def changed_a_foreign_server(self) -> bool:
        return any(not entry.action.endswith(".start") for entry in self.journal.entries())

    def go(self, stack: ExitStack, interrupted: Callable[[], None]) -> None:
        lease = alone(self.scenario, self.folder.path, self.say)
        stack.callback(lease.release)
        self.lease, self.journal.fence = lease, lease.check
        self.live.fences.append(lease.fence)
        if self.carried is not None:
            self.carried.into(self.folder)
        self.scoring = Scoring.of(self.scenario, self.folder.path, self.plan.prompts, self.say)
        stack.callback(_quietly, self.scoring.close)
        self.say("starting Triton" if self.scenario.target.server else "asking Triton")
        try:
            self.target = self._open(stack)
        except DoesNotLoad as refused:
            self.folder.meta["does_not_load"] = str(refused)
            self._clear()
            self._settle("rollback")
            return
        self.live.controls.update((control.url, control) for control in self.target.controls.values())
        path = readings_path(self.folder.path, self.carried)
        self.sampler = sampler = sampler_of(self.target, self.scenario.telemetry, self.folder, path, self.t0_ns)
        sampler.start()
        stack.callback(_quietly, sampler.stop)
        self.recovery = recovery = Recovery(self.target, sampler, self.say)
        stack.callback(recovery.close)
        self.folder.meta["recovery"] = list(recovery.arms)
        begun = None if self.listen is not None else lambda arm: self._begun_so_far(arm) + recovery.probed(arm)
        self.bring = Bring(self.scenario, self.target, self.journal, self.folder, sampler, self.say, begun)
        self.bring.refuse_traffic(Traffic(self.journal, self.target.routers, self.say))
        if self.scenario.target.swap:
            self._prepare_swaps()
        elif self.scenario.deploy is None:
            self.bring.load(stack)
        self._note_served()
        self.engines = Engines(self.target.pages, self.say)
        self._tell_engines()
        self.generator = start_generator(
            scenario=self.scenario, plan=self.plan, target=self.target, folder=self.folder, t0_ns=self.t0_ns,
            listen=self.listen, say=self.say, stack=stack,
        )  # fmt: skip
        self._begun_so_far = self.generator.begun
        watch = Watch(self.folder)
        stack.callback(watch.close)
        self._open_traffic(watch)
        self.walk = Walk(
            self.folder, self.plan, self.generator, watch, self.t0_ns, self.observe,
            self.scenario.load.timeout_s, lambda: self._check(interrupted),
            lambda: self.bring.guard.alarm_ns if self.bring.guard else None,
            stop_on_loss=self.scenario.load.on_worker_lost == "stop", score=self._stages_over,
            recovery=self.recovery,
            stages=list(self.carried.stages) if self.carried else [],
            verdicts=list(self.carried.verdicts) if self.carried else [],
        )  # fmt: skip
        decision = self._stages(stack)
        if decision == "promote":
            decision = self._after_the_load()
        since_ns = self.walk.now_ns()
        if decision == "promote":
            self.traffic.refuse_overruling()
            self.act.promote()
        elif self.comparison is None:
            self._fail(decision)
        if self.comparison is not None:
            recovery.wait()
            self._stop_load()
            self._clear()
        self._settle(decision)
        if decision != "promote" and self.comparison is None:
            self._see_baseline_answer(since_ns)
        self._stop_load()
        if self.bring.guard:
            self.bring.guard.stop()
        recovery.close()
        sampler.stop()
        self._tell_rollback()
        self.folder.meta["telemetry"] = {**sampler.about, "notes": (*sampler.notes, *self.engines.notes)}

    def _open(self, stack: ExitStack) -> Target:
        where = (self.scenario, self.folder, self.journal, stack)
        return open_target(*where) if self.comparison is None else self.comparison.open(*where, self.say)

    def _clear(self) -> None:
        """What was put somewhere for the comparison alone goes again, whatever came of it."""
        for failure in put_back(self.journal, self.say, self.live):
            raise WorldError(failure)

    def _after_the_load(self) -> Decision:
        """Nothing is acted upon before the load's own end, which may tell of a lost worker or a damaged file. And the
        run acts on the verdict that it will report, not on the sum of its stages.
        """
        self._stop_load()
        # Files of workers on other hosts may have come since.
        mine = self.walk.stages[self.carried.done if self.carried else 0 :]
        self.scoring.stages(stage.plan.index for stage in mine if stage.decided_ns is None)
        self.walk.watch.poll()
        return judge(replace(self.walk.watch.evidence(), finished=True)).verdict

    def _stop_load(self) -> None:
        self.generator.stop()
        self.folder.meta["workers"] = self.generator.roster.records
        self.folder.save()

    def _settle(self, decision: Decision) -> None:
        """From here on the run has come to its own end, and the journal asks for nothing to be put back."""
        self.folder.meta["finished"] = True
        with self.journal.action("run.end", self.scenario.name, wanted=decision):
            self.folder.save()
        self.settled = True

    def _check(self, interrupted: Callable[[], None]) -> None:
        """Raises what ends the run, whatever its traffic does."""
        interrupted()
        self.lease.check()
        self.target.check()
        if self.bring.guard:
            self.bring.guard.check()
        if self.target.front is not None:
            self.traffic.ask()
        what = "the stage ends" if self.scenario.load.on_worker_lost == "stop" else "the others go on"
        for lost in self.generator.roster.lost:
            if lost not in self._said_lost:
                self._said_lost.add(lost)
                self.say(f"{lost}: {what}")

    def _prepare_swaps(self) -> None:
        arm = self.target.arms["baseline"]
        control = self.target.controls.get("baseline")
        if control is None or not self.target.ours_to_change:
            raise UsageError(f"versions of {arm.model} cannot be swapped on {arm.url}: target.url says where")
        if self.scenario.target.server is None:
            refuse_to_take_away(control, arm, self.say)
        self.swap = Swap(self.journal, control, self.target.arms, self.target.repositories["baseline"], self.say)

    def _open_traffic(self, watch: Watch) -> None:
        """The users' traffic: at the ingress, or at the harness's own split."""

        def in_flight(arm: ArmName) -> int:
            watch.poll()
            return self.generator.begun(arm) - watch.ended(arm)

        split = OwnSplit(self.folder.path / "split.json", self.generator.route, in_flight)
        front = self.target.front
        routers = front.routers if front else (split,)
        self.live.ingresses.update((router.target, router) for router in routers)
        self.traffic = Traffic(self.journal, routers, self.say)
        self.act = Act(
            self.scenario, self.target, self.journal, self.traffic, self.say,
            lambda: time.monotonic_ns() - self.t0_ns,
        )  # fmt: skip
        if front is not None:
            self.folder.meta["ingress"] = {
                "routers": [router.target for router in routers],
                "pattern": "turns" if all(router.pattern == "turns" for router in routers) else "random",
                "url": front.entry.url,
            }  # fmt: skip
            self.folder.save()

    def _note_served(self) -> None:
        """So that a run which goes on with this one can tell whether it measures the same."""
        now = served(self.target)
        if self.carried is not None:
            self.carried.check(now)
        self.folder.meta["served"] = now
        self.folder.save()

    def _tell_engines(self) -> None:
        """What nobody will know of the engines that serve now, while it can still be turned on."""
        self.engines.look((arm, self.target.controls.get(name)) for name, arm in self.target.arms.items())

    def _tell_rollback(self) -> None:
        """When the traffic was back at the baseline: the judge holds it against the first bad answer."""
        if self.act.settled_ns is not None:
            self.folder.meta["rollback"] = {"settled_ns": self.act.settled_ns}
            self.folder.save()

    def _stages(self, stack: ExitStack) -> Decision:
        """Stage after stage until one does not say promote."""
        for stage in self.plan.stages[self.carried.done if self.carried else 0 :]:
            name = stage.mode if stage.purpose == "compare" else stage.purpose
            self.say(f"stage {stage.index + 1} of {len(self.plan.stages)}: {name}")
            if stage.mode != "split" or stage.purpose == "alone":
                self.generator.route(None)  # a comparison needs its arms, whatever the traffic's split is
            else:
                moved = self.traffic.stage(stage.candidate_share)
                if moved and stage.routed and stage.candidate_share:
                    self.say(f"back with one command: {self.traffic.way_back}")
            if stage.routed:
                self._note_routed()
            if self.swap is not None:
                self.swap.to("candidate" if stage.candidate_share else "baseline")
                self._tell_engines()
            verdict = self._walk(stage, stack)
            if verdict.verdict != "promote":
                return verdict.verdict
            if stage.purpose == "warm-up":
                self._tell_plan(verdict)
        return "promote"

    def _walk(self, stage: StagePlan, stack: ExitStack) -> StageVerdict:
        if stage.purpose != "deploy":
            return self.walk.stage(stage)
        verdict = self.bring.deploy(stage, self.generator.spec.models["baseline"], stack, self.walk.stage)
        self._tell_engines()
        return verdict

    def _stages_over(self, indices: Iterable[int]) -> None:
        """Before a stage is judged as a whole."""
        stages = list(indices)
        if any(stage.index in stages and stage.routed for stage in self.plan.stages):
            self._note_routed()
        self.scoring.stages(stages)

    def _note_routed(self) -> None:
        """What the ingress has given to each arm so far, as it counts itself."""
        for arm, count in self.traffic.requests().items():
            self.sampler.record(Value("ingress", arm, ROUTED, float(count), "1"))

    def _tell_plan(self, warm_up: StageVerdict) -> None:
        """What the noise of a warm-up says of the stage that it was for."""
        for finding in warm_up.findings:
            if finding.metric.startswith("plan."):
                self.say(finding.reason.removeprefix("for information: "))

    def _fail(self, decision: Decision) -> None:
        """Not promoted, so back to the baseline. Without `on_fail`: all as before, but a bad version keeps no users."""
        self.generator.route(0.0)
        if self.scenario.on_fail is None:
            if self.target.front is None:
                self.recovery.wait()
            self.recovery.stop()
            for failure in put_back(self.journal, self.say, self.live):
                raise WorldError(failure)
            if decision == "rollback" and self.target.front is not None:
                self.act.back()
            return
        self.act.back()
        guard = self.bring.guard
        alarm = guard is not None and guard.alarm_ns is not None
        if not alarm:  # whoever asks the candidate unasked must not wait for it
            self.recovery.wait()
        self.recovery.stop()
        if guard:
            guard.stop()
        self.act.leave(alarm=alarm)

    def _see_baseline_answer(self, since_ns: int) -> None:
        """Where traffic still flows, watch it arrive: the recording then shows that the baseline took over."""
        deadline_ns = since_ns + int(AFTERWARDS_S * 1e9)
        last = self.walk.stages[-1]
        flows = last.decided_ns is not None and last.end_ns == last.decided_ns
        while flows and not self.walk.watch.served("baseline", since_ns) and self.walk.now_ns() < deadline_ns:
            self.generator.events(0.25)
            self.walk.watch.poll()
            self.walk.show("judged", None, None)


def _quietly(stop: Callable[[], None]) -> None:
    """On the way out: what ended the run is the error to report."""
    with suppress(RecordingError):
        stop()
