"""A verdict becomes action: all traffic to one arm, and the other one leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Thread

from harness.errors import WorldError
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


class Beside:
    """A thread for what is not waited for at once; nobody waits for it at all where something else goes wrong."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="scale", daemon=True)
        self._thread.start()

    def result(self) -> None:
        """Returns once it is done; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - whoever asks for the result raises it
            self._error = error


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
    _growing: Beside | None = field(default=None, init=False)

    def promote(self) -> None:
        """The baseline was kept through the soak; now it goes, and the configuration says what serves.

        Raises WorldError, and the baseline stays, where it still has users, or the candidate cannot serve them.
        """
        wanted = self.scenario.on_promote
        if wanted is None:
            if self.target.front is not None:
                self.say(f"the ingress keeps its split: {self.traffic.share:.4g} of 1 to the candidate")
            return
        if wanted.then is not None:
            self._serves_all()
            self.traffic.drain("baseline", max(LEAVE_S, self.scenario.load.timeout_s))
        if wanted.then == "unload":
            self.unload("baseline")
        for name, arm in self.target.arms.items():
            if name == "candidate" or arm.model != self.target.arms["candidate"].model:
                self._persist(name, arm.model, list(self.target.controls[name].loaded(arm.model)))
        if wanted.then == "stop":
            self._stop("baseline")

    def back(self) -> None:
        """Not promoted: all traffic to the baseline. What scales it up is begun first, and awaited in `leave`."""
        scale = self.scenario.on_fail.scale if self.scenario.on_fail else None
        if scale is not None and scale.up is not None:
            # Traffic does not wait for it: fewer good replicas are better than bad ones.
            self._growing = Beside(lambda: self._hook("scale the baseline up", scale.up or ()))
        self.traffic.back()
        self.settled_ns = self.now_ns()
        self.say("100 % to the baseline")

    def leave(self, *, alarm: bool) -> None:
        """Then what `on_fail` says. `alarm`: strays reach the candidate, so that it has to go in any case.

        Raises WorldError, and the candidate stays, where it still has users, or the baseline cannot serve them.
        """
        wanted = self.scenario.on_fail
        assert wanted is not None
        if self._growing is not None:
            self._growing.result()
        down = wanted.scale.down if wanted.scale else None
        if wanted.unload or wanted.stop or down or alarm:
            self.traffic.refuse_to_lose("candidate")
        if wanted.drain_s is not None or wanted.stop or down:
            self.traffic.drain("candidate", wanted.drain_s or LEAVE_S, cut=wanted.cut)
        if down is not None:
            self._hook("scale the candidate down", down)
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

    def _serves_all(self) -> None:
        arm, control = self.target.arms["candidate"], self.target.controls.get("candidate")
        if control is not None and arm.version not in (None, *control.loaded(arm.model)):
            raise WorldError(f"the baseline stays: {named(arm)} is not served on {arm.url}")
        self.traffic.refuse_to_lose("baseline")

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
