"""One stage: traffic flows, the judge looks now and then, and the first to decide ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from harness.errors import WorldError
from harness.judge import judge_stage
from harness.load import Generator
from harness.run.folder import RunFolder
from harness.run.recovered import Recovery
from harness.run.watch import Watch
from harness.scenario import Plan
from harness.types import RunStatus, StagePlan, StageRecord, StageVerdict

Observe = Callable[[RunStatus], None]

POLL_S = 0.25
LOOK_S = 5.0
HURRY_S = 0.5
"""While the candidate fails requests. The judge may be asked as often as one likes (judge.statistics.boundary)."""
LOOK_SHARE = 0.1
"""Looks of a long run cost more, so they come less often: this much of the time at most is spent on them."""
OVERDUE_S = 120.0
"""How long in-flight requests may take after the stage's time is over, on top of their own deadline."""


@dataclass
class Walk:
    """Walks the stages of a plan and keeps what each of them concluded.

    `check` raises what ends the run. `alarm`: when something was recorded that cannot wait for the next look.
    `stop_on_loss`: a stage in which a load worker is lost issues nothing more. `score`: the answers of stages that
    came to their end, before they are judged. `recovery` asks after a stage whether its arms still serve; one that is
    cut short for a rollback is not kept for the answer: whoever acts on it waits.
    """

    folder: RunFolder
    plan: Plan
    generator: Generator
    watch: Watch
    t0_ns: int
    observe: Observe
    timeout_s: float
    check: Callable[[], None]
    alarm: Callable[[], int | None] = lambda: None
    stop_on_loss: bool = False
    score: Callable[[Iterable[int]], None] = lambda _: None
    recovery: Recovery | None = None
    stages: list[StageRecord] = field(default_factory=list)
    verdicts: list[StageVerdict] = field(default_factory=list)

    def now_ns(self) -> int:
        return time.monotonic_ns() - self.t0_ns

    def stage(self, plan: StagePlan, over: Callable[[], bool] = lambda: False) -> StageVerdict:
        """Carry out one stage; `over` ends it before its time. Raises WorldError when the generator dies or hangs."""
        self._record(StageRecord(plan, begin_ns=self.now_ns()))
        self.generator.stage(plan)
        verdict = self._until_decided(plan, over)
        self.verdicts.append(verdict)
        self.show("judged", None, verdict)
        return verdict

    def _until_decided(self, plan: StagePlan, over: Callable[[], bool]) -> StageVerdict:
        asked_ns = self.stages[-1].begin_ns
        overdue_ns = asked_ns + int((plan.duration_s + self.timeout_s + OVERDUE_S) * 1e9)
        next_look_ns, looked_ns, took_ns = asked_ns + int(LOOK_S * 1e9), asked_ns, 0
        leaning: StageVerdict | None = None
        ending = False
        failed = 0
        while not self._stage_done(plan.index):
            self.check()
            alarm_ns = self.alarm()
            self.watch.poll()
            now_ns = self.now_ns()
            if now_ns > overdue_ns:
                raise WorldError(f"stage {plan.index + 1} did not end: requests are stuck beyond their deadline")
            decided = self.stages[-1].decided_ns is not None
            failing = self.watch.failed("candidate", plan.index)
            if plan.routed:
                # A candidate that hangs says nothing, not even who it is.
                failing += self.watch.failed("unknown", plan.index)
            if failing > failed:
                failed = failing
                next_look_ns = min(next_look_ns, looked_ns + max(int(HURRY_S * 1e9), int(took_ns / LOOK_SHARE)))
            due = now_ns >= next_look_ns and self.watch.seen_ns > self.stages[-1].begin_ns
            if alarm_ns is not None or (due and not decided):
                # The look is dated by the last thing on disk, so that it can be repeated from the disk.
                look_ns = max(self.watch.seen_ns, alarm_ns or 0)
                leaning = judge_stage(self.watch.evidence(), plan.index, now_ns=look_ns)
                looked_ns = self.now_ns()
                took_ns = looked_ns - now_ns
                next_look_ns = self.now_ns() + max(int(LOOK_S * 1e9), int(took_ns / LOOK_SHARE))
                if leaning.verdict == "rollback" or _nobodys(leaning):
                    self._record(replace(self.stages[-1], end_ns=look_ns, decided_ns=look_ns), over=True)
                    if self.recovery is not None:
                        self.recovery.begin(plan, self.watch.samples)
                    return judge_stage(self.watch.evidence(), plan.index)
                if leaning.verdict == "promote" and not ending:
                    # What is still under way is awaited, because a next stage may follow, and has no say any more.
                    self._record(replace(self.stages[-1], decided_ns=look_ns), over=True)
                    ending = True
                    self.generator.end_stage()
            if not ending and (over() or (self.stop_on_loss and self.generator.roster.lost)):
                ending = True
                self.generator.end_stage()
            self.show("load", plan, leaning)
        self._record(replace(self.stages[-1], end_ns=self.now_ns()), over=True)
        self.score([plan.index])
        self.watch.poll()
        if self.recovery is not None:
            self.recovery.begin(plan, self.watch.samples)
            self.recovery.wait(self.check)
            self.watch.poll()
        return judge_stage(self.watch.evidence(), plan.index)

    def _stage_done(self, index: int) -> bool:
        """Wait a moment for the generator's word that the stage is over and nothing of it is in flight."""
        done = False
        events = self.generator.events(POLL_S)
        if any(event["event"].startswith("worker_") for event in events):
            self.folder.meta["workers"] = self.generator.roster.records
            self.folder.save()
        for event in events:
            if event.get("index") != index:
                continue
            if event["event"] == "stage_begun":
                # Its time counts from when the load began: prompts may have been warmed up before.
                self._record(replace(self.stages[-1], begin_ns=event["t_ns"]), over=True)
            done = done or event["event"] == "stage_done"
        return done

    def _record(self, stage: StageRecord, *, over: bool = False) -> None:
        if over:
            self.stages[-1] = stage
        else:
            self.stages.append(stage)
        self.folder.set_stages(self.stages)

    def show(self, step: str, plan: StagePlan | None, leaning: StageVerdict | None) -> None:
        """Tell the observer where the run is."""
        now_ns = self.now_ns()
        elapsed = (now_ns - self.stages[-1].begin_ns) / 1e9 if plan else 0.0
        reached = plan.index if plan else len(self.stages)
        # A deploy takes as long as it takes.
        left = sum(stage.duration_s for stage in self.plan.stages[reached:] if stage.purpose != "deploy")
        left -= 0.0 if plan and plan.purpose == "deploy" else elapsed
        index = self.stages[-1].plan.index if self.stages else 0
        self.observe(
            RunStatus(
                scenario=self.folder.meta["scenario"]["name"], step=step, stage=plan, stages=self.plan.stages,
                elapsed_s=now_ns / 1e9, stage_elapsed_s=elapsed, left_s=max(left, 0.0),
                candidate_share=plan.candidate_share if plan else 0.0,
                arms={
                    "baseline": self.watch.arm_status("baseline", index, now_ns),
                    "candidate": self.watch.arm_status("candidate", index, now_ns),
                },
                leaning=leaning, done=tuple(self.verdicts),
            )
        )  # fmt: skip


def _nobodys(verdict: StageVerdict) -> bool:
    """Requests fail, and nobody says whose: they are not sent on until the stage is over."""
    return any(
        finding.metric == "validity.attribution" and finding.outcome != "pass" and "failed" in finding.reason
        for finding in verdict.findings
    )
