"""The users' traffic, at one router or at several that share it: moved, drained, counted."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from harness.errors import CanaryError, Unreachable, UsageError, WorldError
from harness.ingress import Drained, Ingress
from harness.run.journal import Journal
from harness.run.moving import route, route_headers
from harness.types import ArmName

Say = Callable[[str], None]
NEAR = 0.02
"""A share that a router's whole weights can only come near to is off by at most this part of the smaller one."""
BLIND = 1 << 60
ASK_S = 2.0
"""How often an ingress is asked whether somebody else has moved the traffic."""


class Traffic:
    """`routers` are changed at the same time: one that hangs or fails does not keep the others from their turn."""

    def __init__(self, journal: Journal, routers: Sequence[Ingress], say: Say) -> None:
        self._journal, self._say = journal, say
        self.routers = tuple(routers)
        self._wanted: float | None = None
        """The share that `stage` gave last."""
        self._asked_s = 0.0

    def stage(self, candidate_share: float) -> bool:
        """As a stage wants it; whether that differs from the stage before. Raises as `refuse_overruling`."""
        self.refuse_overruling()
        new = self._wanted != candidate_share
        if new and (candidate_share or not self.at(0.0)):
            self.to(candidate_share)
        self._wanted = candidate_share
        return new

    def refuse_overruling(self) -> None:
        """Raises WorldError where somebody has moved the traffic by hand since a stage gave it its share."""
        self._asked_s = time.monotonic()
        if self._wanted is not None and not self.at(self._wanted):
            raise WorldError(
                f"somebody changed the split since the run had set it to {self._wanted:.3g}: it goes no further"
            )

    def ask(self) -> None:
        """The same, now and then, to be called often. A router that does not answer now still routes, and its requests
        tell what becomes of them.
        """
        if time.monotonic() - self._asked_s > ASK_S:
            with suppress(Unreachable):
                self.refuse_overruling()

    def to(self, candidate_share: float) -> None:
        """Give the candidate that share everywhere. Raises WorldError, naming each router that does not have it."""
        self._each(lambda router: route(self._journal, router, candidate_share))

    def back(self) -> None:
        """Everything to the baseline, also what a header led to the candidate. Raises as `to`."""

        def one(router: Ingress) -> None:
            route(self._journal, router, 0.0)
            headers = router.read().headers
            route_headers(self._journal, router, {v: arm for v, arm in headers.items() if arm != "candidate"})

        self._each(one)

    @property
    def way_back(self) -> str:
        """The command that gives all traffic to the baseline."""
        return f"triton-canary route rollback {' '.join(shlex.quote(router.target) for router in self.routers)}"

    def at(self, candidate_share: float) -> bool:
        """Whether every router gives it that share, as near as it can. Nothing and everything are exact."""
        off = NEAR * min(candidate_share, 1 - candidate_share)
        return all(abs(router.read().candidate_share - candidate_share) <= off for router in self.routers)

    @property
    def share(self) -> float:
        """The candidate's, where it has most; a header that leads to it counts as everything."""
        splits = [router.read() for router in self.routers]
        led = any("candidate" in split.headers.values() for split in splits)
        return 1.0 if led else max((split.candidate_share for split in splits), default=0.0)

    def requests(self) -> dict[ArmName, int]:
        """Given to each arm so far by the split, of whomever, over all routers; {} where one does not tell, or routes
        by a header as well: those take no part in the split.
        """
        found: dict[ArmName, int] = {}
        for router in self.routers:
            split = router.read()
            requests = split.requests
            if requests is None or split.headers:
                return {}
            for arm, count in requests.items():
                found[arm] = found.get(arm, 0) + count
        return found

    def refuse_to_lose(self, arm: ArmName) -> None:
        """Raises WorldError where users would be without an answer if `arm` went."""
        other: ArmName = "baseline" if arm == "candidate" else "candidate"

        def one(router: Ingress) -> None:
            split = router.read()
            share = split.candidate_share if arm == "candidate" else 1 - split.candidate_share
            led = [value for value, to in split.headers.items() if to == arm]
            if share:
                why = f"gives it {share:.4%} of the traffic"
            elif led:
                why = f"leads the header's value {led[0]} to it"
            elif other in split.down:
                why = f"holds the {other} for unable to serve"
            else:
                return
            raise WorldError(f"the {arm} stays: {router.target} {why}")

        self._each(one)

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> list[Drained]:
        """Wait at each router until `arm` has answered what it has; what could not be waited for is said. Raises
        UsageError where it still gets traffic.
        """
        found: list[Drained] = []

        def one(router: Ingress) -> None:
            with self._journal.action("route.drain", router.target, wanted={"arm": arm, "cut": cut}):
                found.append(router.drain(arm, deadline_s, cut=cut))

        try:
            self._each(one)
        except WorldError as error:
            # Nothing that follows is safer for waiting longer.
            self._say(f"not drained: {error}")
        for drained in found:
            self._tell(arm, drained)
        return found

    def counted(self, arm: ArmName) -> Callable[[], int] | None:
        """How many requests the routers have given to `arm` from now on, of whomever, those in flight now among them;
        None where one does not tell.
        """
        counts: list[_Counted] = []
        for router in self.routers:
            split = router.read()
            given, flying = (split.requests or {}).get(arm), (split.in_flight or {}).get(arm)
            if given is None or flying is None:
                return None
            counts.append(_Counted(router, arm, given, flying, self._say))
        return lambda: sum(count() for count in counts)

    def _each(self, act: Callable[[Ingress], None]) -> None:
        with ThreadPoolExecutor(max(len(self.routers), 1)) as pool:
            futures = [pool.submit(act, router) for router in self.routers]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, CanaryError) or isinstance(error, UsageError):
                raise error
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise WorldError("; ".join(map(str, errors)))

    def _tell(self, arm: ArmName, drained: Drained) -> None:
        if drained.left is None:
            self._say(f"how many requests the {arm} still has cannot be seen")
        elif drained.left:
            rest = f", {drained.cut} of them were cut" if drained.cut else ""
            self._say(f"the {arm} still had {drained.left} requests after {drained.took_s:.1f} s{rest}")
        else:
            self._say(f"the {arm} has answered everything, after {drained.took_s:.1f} s")


class _Counted:
    """One router's count, from the moment this is made. A router that was restarted counts from 0 again: from then on
    nobody knows, and BLIND is what it says, so that no request of ours is ever taken for somebody else's.
    """

    def __init__(self, router: Ingress, arm: ArmName, given: int, flying: int, say: Say) -> None:
        self._router, self._arm, self._say = router, arm, say
        # What is in flight now will end, and be counted by the server, after this moment.
        self._before, self._last = given - flying, given
        self._blind = False

    def __call__(self) -> int:
        now = (self._router.read().requests or {}).get(self._arm)
        if not self._blind and (now is None or now < self._last):
            self._blind = True
            self._say(f"{self._router.target}: its counters began again: strays cannot be seen any more")
        if self._blind or now is None:
            return BLIND
        self._last = now
        return now - self._before
