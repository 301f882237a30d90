"""The users' traffic, at one router or at several that share it: moved, drained, counted."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from harness.errors import CanaryError, WorldError
from harness.ingress import Drained, Ingress
from harness.run.journal import Journal
from harness.run.moving import route
from harness.types import ArmName

Say = Callable[[str], None]
NEAR = 0.002
"""Shares that differ by less are the same: a router's weights are whole numbers."""
BLIND = 1 << 60


class Traffic:
    """`routers` in the order in which they are changed. One that fails does not keep the others from their turn."""

    def __init__(self, journal: Journal, routers: Sequence[Ingress], say: Say) -> None:
        self._journal, self._say = journal, say
        self.routers = tuple(routers)

    def to(self, candidate_share: float) -> None:
        """Give the candidate that share everywhere. Raises WorldError, naming each router that does not have it."""
        self._each(lambda router: route(self._journal, router, candidate_share))

    @property
    def way_back(self) -> str:
        """The command that gives all traffic to the baseline."""
        return f"triton-canary route rollback {' '.join(shlex.quote(router.target) for router in self.routers)}"

    def at(self, candidate_share: float) -> bool:
        """Whether every router gives it that share already."""
        return all(abs(router.read().candidate_share - candidate_share) < NEAR for router in self.routers)

    @property
    def share(self) -> float:
        """The candidate's, where it has most."""
        return max(router.read().candidate_share for router in self.routers)

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

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> list[Drained]:
        """Wait at each router until `arm` has answered what it has; what could not be waited for is said."""
        found: list[Drained] = []

        def one(router: Ingress) -> None:
            with self._journal.action("route.drain", router.target, wanted={"arm": arm, "cut": cut}):
                found.append(router.drain(arm, deadline_s, cut=cut))

        try:
            self._each(one)
        except CanaryError as error:
            # Nothing that follows is safer for waiting longer.
            self._say(f"not drained: {error}")
        for drained in found:
            self._tell(arm, drained)
        return found

    def counted(self, arm: ArmName) -> Callable[[], int] | None:
        """How many requests the routers have given to `arm` from now on, of whomever; None where one does not tell."""
        if any((requests := router.read().requests) is None or arm not in requests for router in self.routers):
            return None
        counts = [_Counted(router, arm, self._say) for router in self.routers]
        return lambda: sum(count() for count in counts)

    def _each(self, act: Callable[[Ingress], None]) -> None:
        errors: list[CanaryError] = []
        for router in self.routers:
            try:
                act(router)
            except CanaryError as error:
                errors.append(error)
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

    def __init__(self, router: Ingress, arm: ArmName, say: Say) -> None:
        self._router, self._arm, self._say = router, arm, say
        self._before = self._last = self._read()
        self._blind = False

    def __call__(self) -> int:
        now = self._read()
        if not self._blind and (now is None or self._last is None or now < self._last):
            self._blind = True
            self._say(f"{self._router.target}: its counters began again: strays cannot be seen any more")
        if self._blind or now is None or self._before is None:
            return BLIND
        self._last = now
        return now - self._before

    def _read(self) -> int | None:
        requests = self._router.read().requests
        return None if requests is None else requests.get(self._arm)
