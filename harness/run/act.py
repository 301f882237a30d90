"""A verdict becomes action: all traffic to one arm, and the other one leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.run.hooks import run_hook
from harness.run.journal import Journal
from harness.run.target import Target
from harness.run.traffic import Traffic
from harness.run.world import persist, set_versions
from harness.scenario import Scenario
from harness.types import Arm, ArmName

Say = Callable[[str], None]
LEAVE_S = 30.0
"""How long an arm that leaves may take to answer what it has, where the scenario does not say."""


@dataclass
class Act:
    """`settled_ns`: when the traffic was where the verdict wants it, from the run's start; `now_ns` tells the time."""

    scenario: Scenario
    target: Target
    journal: Journal
    traffic: Traffic
    say: Say
    now_ns: Callable[[], int]
    settled_ns: int | None = None

    def promote(self) -> None:
        """The baseline was kept through the soak; now it goes, and the configuration says what serves."""
        wanted = self.scenario.on_promote
        if wanted is None:
            return
        if wanted.then is not None:
            self._left("baseline", LEAVE_S)
        if wanted.then == "unload":
            self.unload("baseline")
        for name, arm in self.target.arms.items():
            if name == "candidate" or arm.model != self.target.arms["candidate"].model:
                self._persist(name, arm.model, list(self.target.controls[name].loaded(arm.model)))
        if wanted.then == "stop":
            self._stop("baseline")

    def back(self, *, alarm: bool) -> None:
        """Not promoted: all traffic to the baseline, then what `on_fail` says. `alarm`: strays reach the candidate, so
        that it has to go in any case.
        """
        wanted = self.scenario.on_fail
        assert wanted is not None
        scale = wanted.scale
        with ThreadPoolExecutor(1) as pool:
            # Traffic does not wait for it: fewer good replicas are better than bad ones.
            growing = pool.submit(self._hook, "scale the baseline up", scale.up) if scale and scale.up else None
            self.traffic.to(0.0)
            self.settled_ns = self.now_ns()
            self.say("100 % to the baseline")
            if growing is not None:
                growing.result()
        if wanted.drain_s is not None:
            self._left("candidate", wanted.drain_s, cut=wanted.cut)
        if scale is not None and scale.down is not None:
            self._hook("scale the candidate down", scale.down)
        if wanted.stop:
            self._stop("candidate")
        elif wanted.unload or alarm:
            self.unload("candidate")
        if self.scenario.store is not None:
            self.say("its files stay in the repository: a version never changes, and only what is loaded serves")

    def unload(self, name: ArmName) -> None:
        """Take one version out; the others of its model keep serving."""
        arm, control = self.target.arms[name], self.target.controls[name]
        keep = [version for version in control.loaded(arm.model) if version != arm.version]
        set_versions(self.journal, control, arm.model, keep, self.target.repositories[name])
        self.say(f"{named(arm)} unloaded")

    def _stop(self, name: ArmName) -> None:
        self.target.stop[name]()
        self.say(f"the server of {named(self.target.arms[name])} is stopped")

    def _left(self, name: ArmName, deadline_s: float, *, cut: bool = False) -> None:
        self.traffic.drain(name, deadline_s, cut=cut)

    def _hook(self, what: str, command: Sequence[str]) -> None:
        self.say(what)
        run_hook(self.journal, what, command)

    def _persist(self, name: ArmName, model: str, versions: list[int]) -> None:
        """A restart must serve what was decided."""
        if not versions:
            return
        repository = self.target.repositories[name]
        if repository is None:
            self.say(f"set version_policy of {model} to {versions} in its config.pbtxt: a restart undoes the change")
            return
        persist(self.journal, repository / model / "config.pbtxt", versions)


def named(arm: Arm) -> str:
    return arm.model if arm.version is None else f"{arm.model} version {arm.version}"
