"""After failures that may have taken a version with them, the run asks whether it still serves, and records that.

A request that ran out of memory, a stub that died, a connection that broke: none of them says what is left. So once
the stage is over the server is asked three things: whether it is up, whether the version is READY, and a probe. The
probe is what counts: Triton 2.51 calls a version READY all of whose stubs are dead.

Guarantee: nothing waits for the answer that must not. A thread of its own asks; where a stage decided on a rollback,
the traffic is moved first. No probe is sent while a stage is measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import RecordingError, WorldError
from harness.failures import SUSPECT
from harness.judge.errors.recovery import RECOVERED, RECOVERED_AFTER, RECOVERED_LIVE, RECOVERED_READY, UNASKED
from harness.run.act import named
from harness.run.target import Target, access_of
from harness.telemetry import Sampler, Value
from harness.triton import Control
from harness.types import Arm, ArmName, StagePlan

PATIENCE_S = 10.0
"""For so long a version that does not answer is asked again."""
PROBE_S = 10.0
ROW_S = 60.0
"""For so long one that does answer is asked for a row; then it is not known whether all of it serves."""
PAUSE_S = 0.2
LEAST_IN_A_ROW, MOST_IN_A_ROW = 3, 16
"""A stub that died is one of several, and the others answer: so many probes in a row must be answered, twice as many
as there are instances. A lack of memory ends no instance that answers, and there one is enough.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """`said`: what was wrong at last, "" where it served again. `after_s`: see RECOVERED_AFTER."""

    live: bool = False
    ready: bool = False
    answered: bool = False
    after_s: float = 0.0
    said: str = ""

    def values(self, arm: ArmName) -> tuple[Value, ...]:
        return (
            Value("server", arm, RECOVERED_LIVE, float(self.live), "1"),
            Value("server", arm, RECOVERED_READY, float(self.ready), "1"),
            Value("server", arm, RECOVERED_AFTER, self.after_s, "s"),
            Value("server", arm, RECOVERED, float(self.answered), "1"),
        )


class Recovery:
    """`begin` after a stage, then `wait` where there is time for it, or else `stop`; `close` before the sampler.

    `probed` counts the probes of an arm, each before it is sent: a guard must not take them for somebody else's.
    """

    def __init__(self, target: Target, sampler: Sampler, say: Callable[[str], None]) -> None:
        self._target, self._sampler, self._say = target, sampler, say
        self._stopping = threading.Event()
        self._asking: dict[ArmName, threading.Thread] = {}
        self._found: dict[ArmName, Found] = {}
        self._failure: RecordingError | None = None
        self._probes: dict[ArmName, int] = dict.fromkeys(target.arms, 0)

    @property
    def arms(self) -> tuple[ArmName, ...]:
        """Those that can be asked."""
        return tuple(name for name in self._target.arms if name in self._target.controls)

    def probed(self, arm: ArmName) -> int:
        return self._probes.get(arm, 0)

    def begin(self, plan: StagePlan, samples: pa.Table) -> None:
        """Ask the arms whose requests failed so that they may be gone. Returns at once."""
        if plan.purpose in UNASKED:
            return
        failed = suspects(samples, plan.index)
        # Nobody says whose a request was that an ingress lost: then either may be gone.
        nobodys = failed.get("unknown", frozenset())
        for name in self.arms:
            errors = failed.get(name, frozenset()) | nobodys
            if errors and name not in self._asking:
                thread = threading.Thread(target=self._ask, args=(name, errors), name=f"recovery-{name}", daemon=True)
                self._asking[name] = thread
                thread.start()

    def wait(self, check: Callable[[], None] = lambda: None) -> None:
        """Until it is known, at most about ROW_S and a probe. Raises what `check` raises, and RecordingError."""
        for name, thread in list(self._asking.items()):
            while thread.is_alive():
                check()
                thread.join(PAUSE_S)
            del self._asking[name]
            if self._failure is not None:
                raise self._failure
            if (found := self._found.pop(name, None)) is not None:
                self._say(_sentence(self._target.arms[name], found))

    def stop(self) -> None:
        """Whoever is still being asked is asked no more: what is not known by now stays unknown. Returns at once."""
        self._stopping.set()

    def close(self) -> None:
        """The same, and nothing is under way any more."""
        self.stop()
        for thread in self._asking.values():
            thread.join()
        self._asking.clear()

    def _ask(self, name: ArmName, errors: frozenset[str]) -> None:
        arm = self._target.arms[name]
        url = self._target.controls[name].url
        try:
            with Control(url, access_of(arm), PROBE_S) as control:
                found = self._until_it_answers(control, name, arm, once=errors <= _MEMORY)
            if found is not None:
                for value in found.values(name):
                    self._sampler.record(value)
                self._found[name] = found
        except RecordingError as error:
            self._failure = error

    def _until_it_answers(self, control: Control, name: ArmName, arm: Arm, *, once: bool) -> Found | None:
        """None where it is not known, or nobody wants to know any more."""
        began_s = time.monotonic()
        wanted, row = (1 if once else _in_a_row(control, arm)), 0
        while not self._stopping.is_set():
            found = self._look(control, name, arm)
            if self._stopping.is_set():
                break
            after_s = time.monotonic() - began_s
            row = row + 1 if found.answered else 0
            if row >= wanted or (not found.answered and after_s > PATIENCE_S):
                return Found(found.live, found.ready, found.answered, after_s, found.said)
            if after_s > ROW_S:
                break
            if not found.answered:
                self._stopping.wait(PAUSE_S)
        return None

    def _look(self, control: Control, name: ArmName, arm: Arm) -> Found:
        live = ready = False
        try:
            live = control.live()
            if not live:
                return Found(said=f"{control.url} says that it is not live")
            served = control.loaded(arm.model)
            ready = arm.version in served if arm.version is not None else bool(served)
            if not ready:
                return Found(live, said=f"{named(arm)} is not READY; READY are {list(served)}")
            self._probes[name] += 1
            control.probe(arm.model, arm.version, timeout_s=PROBE_S)
        except WorldError as error:
            return Found(live, ready, said=str(error))
        return Found(live, ready, answered=True)


_MEMORY = frozenset(("out of memory", "oom"))


def suspects(samples: pa.Table, stage: int) -> Mapping[str, frozenset[str]]:
    """Of each arm with such failures in that stage, the classes of them after which it is asked."""
    failed = pc.and_(pc.equal(samples["stage"], stage), pc.is_in(samples["error"], pa.array(SUSPECT)))
    rows: Iterable[dict[str, Any]] = samples.filter(failed).group_by(["arm", "error"]).aggregate([]).to_pylist()
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["arm"], set()).add(row["error"])
    return {arm: frozenset(errors) for arm, errors in found.items()}


def _in_a_row(control: Control, arm: Arm) -> int:
    try:
        groups = control.config(arm.model, arm.version).get("instance_group", [])
    except WorldError:
        groups = []
    instances = sum(int(group.get("count", 1)) * max(len(group.get("gpus", [])), 1) for group in groups)
    return min(max(2 * instances, LEAST_IN_A_ROW), MOST_IN_A_ROW)


def _sentence(arm: Arm, found: Found) -> str:
    if found.answered:
        return f"{named(arm)} serves: it answered {found.after_s:.1f} s after it was first asked"
    return f"{named(arm)} does not serve any more, asked for {found.after_s:.0f} s: {found.said}"
