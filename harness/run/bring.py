"""The candidate joins while the baseline serves, and who asks it besides us is noticed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from harness.errors import UnsafeChange, UsageError, WorldError
from harness.run.act import named
from harness.run.deploy import SETTLE_S, Deploy
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.run.machine import look
from harness.run.models.fit import fit, refuse, remember
from harness.run.strays import Guard, counted, refuse_to_take_over
from harness.run.target import Target, access_of
from harness.run.traffic import Traffic
from harness.run.world import set_versions
from harness.scenario import Scenario
from harness.telemetry import Sampler
from harness.triton import Control
from harness.types import ArmName, ModelInfo, StagePlan, StageVerdict

Say = Callable[[str], None]


@dataclass
class Bring:
    """`begun`: how many requests of ours have left for an arm; None where load workers on other hosts send them."""

    scenario: Scenario
    target: Target
    journal: Journal
    folder: RunFolder
    sampler: Sampler
    say: Say
    begun: Callable[[ArmName], int] | None
    guard: Guard | None = field(default=None, init=False)

    def refuse_traffic(self, traffic: Traffic) -> None:
        """Raises UsageError where the ingress gives the candidate traffic that it does not serve yet."""
        control, arm = self.target.controls.get("candidate"), self.target.arms["candidate"]
        if self.target.front is None or control is None:
            return
        served = control.loaded(arm.model)
        if arm.version in served or (arm.version is None and served):
            return
        if share := traffic.share:
            raise UsageError(
                f"the ingress gives the candidate {share:.1%} of the traffic, and it does not serve: {traffic.way_back}"
            )

    def load(self, stack: ExitStack) -> None:
        """Beside what serves. A server that is only gated is left as it is."""
        arm, control = self.target.arms["candidate"], self.target.controls.get("candidate")
        if control is None:
            return
        served = control.loaded(arm.model)
        if arm.version in served or (arm.version is None and served):
            return
        if arm.version is None or not self.target.ours_to_change:
            raise UsageError(f"{named(arm)} is not served on {arm.url}: ready are {list(served)}")
        self._fits(control, self.say)
        wanted = self.scenario.target
        if wanted.server is None and not wanted.versioned_clients:  # nobody knows the address of our own
            routed = self._routed("baseline") if self.target.front and not self.target.apart else None
            refuse_to_take_over(control, arm, served, self.say, routed)
        self._watch_strays(stack)
        self.say(f"loading {named(arm)} beside {list(served)}")
        set_versions(self.journal, control, arm.model, [*served, arm.version], self.target.repositories["candidate"])
        self._remember(control)
        self._settle()

    def _fits(self, control: Control, say: Say) -> None:
        """Raises UnsafeChange where it does not fit beside what serves; says so where that is not known."""
        arm, wanted = self.target.arms["candidate"], self.scenario.target
        assert arm.version is not None
        found = fit(
            control, arm.model, [arm.version], journal=self.journal, look=look, stated=wanted.needs_memory,
            repository=self.target.repositories["candidate"],
        )  # fmt: skip
        refuse(found, allow="target.even_if_it_does_not_fit: true", allowed=wanted.even_if_it_does_not_fit)
        say(found.sentence)

    def _remember(self, control: Control) -> None:
        """What the load has cost, for the next run. Nobody meets a server of our own again."""
        if self.scenario.target.server is None and self.scenario.candidate.server is None:
            remember(self.journal, control.url, self.target.arms["candidate"].model)

    def _settle(self) -> None:
        """Clients that are taken over show at once: those of an ingress that makes them name no version, too."""
        if self.guard is None or self.target.front is None:
            return
        time.sleep(SETTLE_S)
        if self.guard.alarm_ns is not None:
            raise UnsafeChange(
                f"requests reach {named(self.target.arms['candidate'])} that this run did not send: the ingress has to "
                "make each request name the version of its arm"
            )

    def deploy(
        self, stage: StagePlan, expects: ModelInfo, stack: ExitStack,
        walk: Callable[[StagePlan, Callable[[], bool]], StageVerdict],
    ) -> StageVerdict:  # fmt: skip
        """It is brought and loaded while the baseline gets all traffic; `walk` carries out the stage meanwhile."""
        target, arm = self.target, self.target.arms["candidate"]
        assert arm.version is not None
        served = target.controls["candidate"].loaded(arm.model)
        if arm.version in served:
            raise UsageError(f"{named(arm)} is served on {arm.url} already: there is nothing to deploy")
        control = stack.enter_context(Control(arm.url, access_of(arm), load_timeout_s=max(stage.duration_s, 1.0)))
        asked = None
        if served and arm.version > max(served) and not self.scenario.target.versioned_clients:
            same = not target.apart and target.arms["baseline"].version == max(served)
            own: ArmName | None = "baseline" if same else None
            asked = counted(control, arm.model, max(served), self._ours(own), self.say)
        self._watch_strays(stack)
        with Deploy(
            self.journal, control, arm, expects, target.repositories["candidate"], target.store, asked, self._fits,
            self.say,
        ) as deploy:  # fmt: skip
            verdict = walk(stage, deploy.over)
            if verdict.verdict == "promote" and not deploy.over():
                raise WorldError(f"{named(arm)} was not synced and loaded within {stage.duration_s:g} s")
        self._remember(control)
        return verdict

    def _watch_strays(self, stack: ExitStack) -> None:
        """From now on requests at the candidate that are not ours are noticed. Only for one that this run loads."""
        arm = self.target.arms["candidate"]
        assert arm.version is not None
        control = stack.enter_context(Control(arm.url, access_of(arm)))
        count = counted(control, arm.model, arm.version, self._ours("candidate"), self.say)
        if count is None:
            return
        device = f"{arm.model}/{arm.version}"
        self.folder.meta["guarded"] = device
        self.folder.save()
        self.guard = Guard(count, device, self.sampler)
        stack.callback(self.guard.stop)
        self.guard.start()

    def _ours(self, arm: ArmName | None) -> Callable[[], int] | None:
        """How many requests an arm's server can have counted that are no strays: ours, and whatever came through the
        ingress. None where nobody here knows; no arm: none of ours are sent there.
        """
        if self.begun is None:
            return None
        if arm is None:
            return lambda: 0
        begun, name = self.begun, arm
        if self.target.front is None:
            return lambda: begun(name)
        routed = self._routed(name)
        return None if routed is None else lambda: begun(name) + routed()

    def _routed(self, arm: ArmName) -> Callable[[], int] | None:
        """How many requests the ingress has given to an arm from now on: they name the version that it rewrites to."""
        return Traffic(self.journal, self.target.routers, self.say).counted(arm)
