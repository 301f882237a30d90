"""Requests at a version that this run did not send: clients that name no version, or the wrong one.

Guarantee: a request of our own never counts, however slow the machine is. The server's counter is read first and the
number of requests that we have begun afterwards, so the difference is a lower bound: it is too small by at most what
we have in flight at that version (and by what of ours never reached the server), and never too large.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property

from harness.errors import Unreachable, UnsafeChange
from harness.judge import STRAYS
from harness.run.models.traffic import Arrivals, Strays, unversioned
from harness.run.traffic import BLIND
from harness.telemetry import Sampler, Value
from harness.triton import Control, Refused
from harness.types import Arm

WINDOW_S = 2.0
"""How long it is watched who asks the version that serves, before a higher one is loaded."""
POLL_S = 0.2
RECORD_S = 1.0
BLIND_S = 10.0
"""A guard that has seen nothing for this long is none."""


class Blind(Refused):
    """What is ours cannot be told from what is not."""


class StrayCount:
    """Of one version on one server. To be made while none of our own requests is in flight there.

    `own`: requests that we have begun at that version. Raises what Control raises where there are no statistics.
    """

    def __init__(self, control: Control, model: str, version: int, own: Callable[[], int]) -> None:
        self._control, self._model, self.version, self._own = control, model, version, own
        self._own_before = own()
        self._before = self._settled()
        self.seen = 0

    def look(self) -> int:
        """Strays so far, at least; it never falls. Raises Blind once nobody knows any more how many are no strays."""
        return self._strays(self._total())

    def last(self) -> int:
        """The same once none of our own requests is in flight any more: what was answered just now is counted, too."""
        return self._strays(self._settled())

    def _strays(self, counted: int) -> int:
        total = counted - self._before
        own = self._own()
        if own >= BLIND:
            raise Blind("an ingress began to count anew")
        self.seen = max(self.seen, total - (own - self._own_before))
        return self.seen

    def _settled(self) -> int:
        # Triton counts a request just after it has answered it.
        time.sleep(POLL_S)
        return self._total()

    def _total(self) -> int:
        counts = self._control.counts(self._model).get(self.version)
        if counts is None:
            return 0
        return counts.success + (counts.failure // self._counted_as if counts.failure else 0)

    @cached_property
    def _counted_as(self) -> int:
        """How often one failed request is counted: twice where the model is an ensemble (seen in Triton 2.51)."""
        return 2 if self._control.steps(self._model) else 1


class Guard:
    """A thread that looks for strays at the candidate, from before its load until `stop`, and records what it sees.

    `alarm_ns`: when the first ones were recorded (from the run's start), None while there are none.
    """

    def __init__(self, count: StrayCount, device: str, sampler: Sampler) -> None:
        self._count, self._device, self._sampler = count, device, sampler
        self.alarm_ns: int | None = None
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="strays", daemon=True)

    def start(self) -> None:
        self._record(0)
        self._thread.start()

    def stop(self) -> None:
        """A second call does nothing."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raises what ended the watch: a full disk, or a server that has not told its counters for BLIND_S."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._failure = error

    def _watch(self) -> None:
        recorded, recorded_s = 0, time.monotonic()
        seen_s = recorded_s
        while not self._stopping.wait(POLL_S):
            try:
                count = self._count.look()
            except Blind:
                return  # no further reading, so the judge sees that nobody looked
            except (Unreachable, Refused):
                if time.monotonic() - seen_s > BLIND_S:
                    raise
                continue
            seen_s = time.monotonic()
            if count > recorded or seen_s - recorded_s >= RECORD_S:
                t_ns = self._record(count)
                recorded, recorded_s = count, seen_s
                if count and self.alarm_ns is None:
                    self.alarm_ns = t_ns

    def _record(self, count: int) -> int:
        return self._sampler.record(Value("triton", self._device, STRAYS, float(count), "1"))


def counted(
    control: Control, model: str, version: int, own: Callable[[], int] | None, say: Callable[[str], None]
) -> StrayCount | None:
    """A StrayCount; None, and it is said, where the server does not tell its counters, or (`own` None) nobody here
    knows how many requests of ours it counts.
    """
    if own is None:
        say(
            f"requests at {model} version {version} that are not ours cannot be told from ours: load workers on other "
            "hosts send them, or an ingress that does not say how many it gave"
        )
        return None
    try:
        return StrayCount(control, model, version, own)
    except Refused as error:
        say(f"requests at {model} version {version} that are not ours cannot be seen: {error}")
        return None


def refuse_to_take_over(
    control: Control, arm: Arm, served: Sequence[int], say: Callable[[str], None],
    routed: Callable[[], int] | None = None,
) -> None:  # fmt: skip
    """Raises UnsafeChange if clients ask the version that `arm` would take over from. No request of ours is under way.

    Watches for WINDOW_S; at once where no served version is lower. Says so where the server does not tell. `routed`:
    requests that an ingress gave to that version, and that it makes name it: they stay.
    """
    if arm.version is None or not served or arm.version < max(served):
        return
    say(f"watching for {WINDOW_S:g} s whether clients ask {arm.model}")
    try:
        if routed is not None:
            _refuse_beside(StrayCount(control, arm.model, max(served), routed), control, arm)
            return
        found = unversioned(control, arm.model, [*served, arm.version], WINDOW_S)
    except Refused as error:
        say(f"whether clients ask {arm.model} cannot be seen: {error}")
        return
    if found:
        raise unsafe(arm, found)


def _refuse_beside(count: StrayCount, control: Control, arm: Arm) -> None:
    """The same where an ingress says how many of the requests are its own."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < WINDOW_S:
        time.sleep(POLL_S)
        count.look()
    if count.seen:
        arrivals = Arrivals(control.url, count.version, count.seen, time.monotonic() - began_s)
        raise unsafe(arm, Strays(arrivals, arm.version or 0))


def unsafe(arm: Arm, found: Strays) -> UnsafeChange:
    """Why the load of `arm` is refused, and what allows it."""
    return UnsafeChange(
        f"{arm.model} version {arm.version} is not loaded: {found}; if every client names its version, say so "
        "(target.versioned_clients: true)"
    )
