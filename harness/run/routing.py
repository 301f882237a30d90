"""Routers changed by hand: what they say, the split everywhere, and back to the baseline.

A rollback needs no journal: it goes by what the routers say. It leaves one, of each router a journal of its own, and
goes on where that cannot be written. Guarantee: every router that can be reached gets its turn, at the same time as the
others; each one that still gives the candidate anything is named, with the command that finishes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from harness.errors import CanaryError, RecordingError, UsageError
from harness.ingress import Ingress, Pattern, Split, open_ingress
from harness.run.journal import Journal, not_put_back
from harness.run.lease import held_by_another
from harness.run.moving import route
from harness.run.owed import ROUTES
from harness.run.state import state_folder

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one router says; `error`: why it does not."""

    address: str
    split: Split | None = None
    pattern: Pattern | None = None
    error: str = ""


@dataclass
class Moved:
    """What came of it at one router: a line for each thing that is so now, and why it is not as it should be."""

    address: str
    done: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def show(addresses: Sequence[str]) -> list[Shown]:
    """All are asked, at the same time. Raises UsageError for what is no address."""

    def one(router: Ingress) -> Shown:
        try:
            return Shown(router.target, router.read(), router.pattern)
        except CanaryError as error:
            return Shown(router.target, error=str(error))

    with ExitStack() as stack:
        return _each(_opened(addresses, stack), one)


def set_share(addresses: Sequence[str], share: float) -> list[Moved]:
    """Give the candidate `share` at every router, one after the other.

    Raises CanaryError, and nothing was changed, where one of them cannot be read, or a run has it.
    """
    with ExitStack() as stack:
        routers = _opened(addresses, stack)
        before = {}
        for router in routers:
            if run := held_by_another(router.target):
                back = f"triton-canary route rollback {shlex.quote(router.target)}"
                raise UsageError(f"{run}: wait for its end, or stop it; in an emergency: {back}")
            before[router.target] = router.read().candidate_share
        return [_set(router, share, before[router.target]) for router in routers]


def rollback(addresses: Sequence[str], say: Say, *, drain_s: float | None = None, cut: bool = False) -> list[Moved]:
    """All to the baseline, header's values that led to the candidate included: first everywhere, then the candidate
    may answer what it has, for `drain_s`; then what is left is ended, if `cut`.
    """
    with ExitStack() as stack:
        routers = _opened(addresses, stack)
        backs = [_Back(router, say) for router in routers]
        moved = _each(backs, _Back.move)
        if drain_s is not None:
            _each([back for back in backs if not back.moved.failures], lambda back: back.drain(drain_s, cut))
        return moved


class _Back:
    """One router's way back."""

    def __init__(self, router: Ingress, say: Say) -> None:
        self._router, self._say = router, say
        self.moved = Moved(router.target)
        self._journal: Journal | None = None
        try:
            self._journal = _journal(router)
        except CanaryError as error:
            say(f"{router.target}: goes on without a journal: {error}")
        with suppress(CanaryError):
            if run := held_by_another(router.target):
                say(f"WARNING: {run}: it may move the traffic again: end it")

    def move(self) -> Moved:
        before, unknown = None, ""
        try:
            before = self._router.read()
        except CanaryError as error:
            # It may well do what it cannot tell; and where it is dead, that is one reason and not three.
            unknown = str(error)
        self._attempt(self._split, before)
        if before is None and self.moved.failures:
            return self.moved
        if before is None:
            self._say(f"{self._router.target}: what was before is not known: {unknown}")
        elif "baseline" in before.down:
            self._say(f"WARNING: {self._router.target}: holds the baseline for unable to serve")
        self._attempt(self._headers, before)
        return self.moved

    def drain(self, deadline_s: float, cut: bool) -> None:
        self._attempt(self._drain, deadline_s, cut)

    def _attempt(self, step: Callable[..., None], *given: Any) -> None:
        try:
            step(*given)
        except CanaryError as error:
            self.moved.failures.append(str(error))

    def _split(self, before: Split | None) -> None:
        if before is not None and before.candidate_share == 0.0:
            self._router.set(0.0)  # it says, if it can, that the baseline does not serve
            self.moved.done.append("100 % to the baseline already")
            return
        share = None if before is None else before.candidate_share
        with self._action("route.set", before=share, wanted=0.0):
            self._router.set(0.0)
        had = "" if share is None else f", the candidate had {percent(share)}"
        self.moved.done.append(f"100 % to the baseline{had}")

    def _headers(self, before: Split | None) -> None:
        if before is None:
            with suppress(CanaryError):
                before = self._router.read()
        if before is None:
            with self._action("route.header", wanted={}):
                self._router.header({})
            self.moved.done.append("no value of the header leads anywhere")
            return
        rest = {value: arm for value, arm in before.headers.items() if arm != "candidate"}
        if gone := [value for value in before.headers if value not in rest]:
            with self._action("route.header", before=dict(before.headers), wanted=rest):
                self._router.header(rest)
            self.moved.done.append(f"the header's value {', '.join(gone)} leads to the candidate no more")

    def _drain(self, deadline_s: float, cut: bool) -> None:
        with self._action("route.drain", wanted={"arm": "candidate", "cut": cut}):
            drained = self._router.drain("candidate", deadline_s, cut=cut)
        if drained.left is None:
            said = f"waited {drained.took_s:.1f} s; what the candidate still has cannot be seen"
        elif not drained.left:
            said = f"the candidate has answered everything, after {drained.took_s:.1f} s"
        else:
            rest = drained.left - drained.cut
            ended = f"{drained.cut} were ended" if drained.cut else "none was ended"
            said = f"the candidate still had {drained.left} requests after {deadline_s:g} s: {ended}, {rest} go on"
        self.moved.done.append(said)

    def _action(self, action: str, *, before: Any = None, wanted: Any) -> AbstractContextManager[Any]:
        """It lists what it puts back, also where that is nothing: then a full disk does not hold it up."""
        if self._journal is None:
            return nullcontext()
        pending = not_put_back(self._journal.entries()) if action in ROUTES else []
        undoes = [entry.seq for entry in pending if entry.action == action]
        return self._journal.action(action, self._router.target, before=before, wanted=wanted, undoes=undoes)


def percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def _set(router: Ingress, share: float, before: float) -> Moved:
    moved = Moved(router.target)
    try:
        if share != before:
            route(_journal(router), router, share)
        now = router.read().candidate_share
        was = "as before" if now == before else f"was {percent(before)}"
        moved.done.append(f"{percent(now)} to the candidate ({was})")
    except UsageError:
        raise  # what it cannot do at all, the same again would not do either
    except CanaryError as error:
        moved.failures.append(str(error))
    return moved


def _opened(addresses: Sequence[str], stack: ExitStack) -> list[Ingress]:
    """Each once. Raises UsageError before anything is sent."""
    routers = [open_ingress(address) for address in dict.fromkeys(addresses)]
    for router in routers:
        stack.callback(router.close)
    return routers


def _journal(router: Ingress) -> Journal:
    """Raises WorldError where it cannot be written or read."""
    folder = state_folder([router.target])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be written: {error.strerror}") from error
    return Journal(folder)


def _each(things: Sequence[Any], call: Callable[[Any], Any]) -> list[Any]:
    """At the same time: one that does not answer does not keep the others waiting."""
    with ThreadPoolExecutor(max(len(things), 1)) as pool:
        return list(pool.map(call, things))
