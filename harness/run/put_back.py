"""Putting traffic and models back to what they were: after a failed step, a signal, or a crash.

The journal alone says what to do. Of each target only the oldest state matters: the states between are not walked
through again, because some of them are what went wrong. The order keeps requests answered: servers that were stopped,
and versions that have to serve; then the traffic; then, once the candidate has answered what it has, versions that have
to go, and servers that were started. Each step is journaled too: running it twice does nothing twice.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import CanaryError, WorldError
from harness.ingress import Ingress, OwnSplit, open_ingress
from harness.recording import read_meta
from harness.run.hooks import HOOK, call
from harness.run.journal import Entry, Journal, not_put_back
from harness.run.owed import MODELS, ROUTES, SWAP, SYNC, pending, server, started, thing
from harness.run.placed import PLACE, remove
from harness.run.world import apply_versions
from harness.triton import Control, access, write_config
from harness.types import ArmName

Say = Callable[[str], None]
DRAIN_S = 10.0
"""How long an arm that lost its traffic may take to answer what it has, before its versions go."""
SERVE_S = 300.0
"""How long a server that a command has started again may take to serve."""


@dataclass(frozen=True)
class Live:
    """What a run that is still alive holds: routers by target, connections by URL. `fences` raise what forbids it to
    touch anything any more: somebody else has its lease.
    """

    ingresses: dict[str, Ingress] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)
    fences: list[Callable[[], None]] = field(default_factory=list)


def put_back(journal: Journal, say: Say, live: Live | None = None) -> list[str]:
    """Bring every target to the state that it had before the run's first action on it.

    Returns one line for each thing that could not be put back, with the command that finishes it. It does not stop at
    the first: a dead Triton is no reason to leave the traffic where it is. But what serves traffic that could not be
    moved stays.
    """
    with ExitStack() as stack:
        return _PutBack(journal, say, live or Live(), stack).all()


class _PutBack:
    def __init__(self, journal: Journal, say: Say, live: Live, stack: ExitStack) -> None:
        self._journal, self._say, self._live, self._stack = journal, say, live, stack
        self._failures: dict[str, str] = {}
        self._ingresses, self._controls = dict(live.ingresses), dict(live.controls)
        entries = journal.entries()
        self._pending = pending(entries, frozenset(live.ingresses))
        self._ending = {entry.target for entry in self._pending} - {entry.target for entry in pending(entries)}
        self._started = started(not_put_back(entries))
        self._drained: set[str] = set()
        self._no_server = ""
        """The command that failed to start a server again, which the traffic would need."""
        self._stuck = ""
        """A router that still gives traffic to what should go."""

    def all(self) -> list[str]:
        changed = [entry.seq for entry in self._pending if entry.action != HOOK]
        hooks = self._oldest(HOOK)
        # What was started before anything was moved there stops once nothing is there any more.
        last = [hook for hook in hooks if changed and hook.seq < min(changed)]
        for entry in hooks:
            if entry not in last:
                self._hook(entry)
        for entry in self._oldest(SWAP):
            self._step(entry, self._undone(entry), self._swap)
        for entry in self._oldest("models.set"):
            self._step(entry, [], self._serve_again)
        for entry in self._oldest("route.set"):
            self._step(entry, self._undone(entry), self._route)
        for entry in self._oldest("route.header"):
            self._step(entry, self._undone(entry), self._header)
        for entry in self._oldest("models.set"):
            self._step(entry, self._undone(entry), self._models)
        for entry in self._oldest("config.write"):
            self._step(entry, self._undone(entry), self._config)
        for entry in self._oldest(PLACE):
            self._step(entry, self._undone(entry), self._placed)
        for entry in last:
            self._hook(entry)
        for entry in self._oldest(SYNC):
            self._say(f"{entry.target}: what was synced stays: a version never changes, and only loaded ones serve")
        return list(self._failures.values())

    def _oldest(self, action: str) -> list[Entry]:
        """The first pending action on each thing; `pending` lists the newest first."""
        return list({thing(entry): entry for entry in self._pending if entry.action == action}.values())

    def _undone(self, oldest: Entry) -> list[int]:
        same = (oldest.action, thing(oldest))
        with_it = self._started.get(thing(oldest), []) if oldest.action == HOOK else []
        return [entry.seq for entry in self._pending if (entry.action, thing(entry)) == same] + with_it

    def _step(self, entry: Entry, undoes: list[int], undo: Callable[[Entry], str]) -> bool:
        key = f"{entry.action} {entry.target}"
        if key in self._failures:
            return False
        try:
            for fence in self._live.fences:
                fence()
            with self._journal.action(entry.action, entry.target, wanted=entry.before, undoes=undoes):
                done = undo(entry)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next target must get its turn
            self._failures[key] = f"{key}: {error}; to finish: {_recover(self._journal.folder)}{_by_hand(entry)}"
            return False
        if done:
            self._say(done)
        return True

    def _hook(self, entry: Entry) -> None:
        if entry.before:
            baseline = self._baseline().get("url")
            if not self._step(entry, self._undone(entry), self._run_undo) and thing(entry) == baseline:
                self._no_server = entry.target
            return
        words = entry.wanted if isinstance(entry.wanted, list) else [entry.wanted]
        key, command = f"{HOOK} {entry.target}", shlex.join(map(str, words))
        if thing(entry) == self._baseline().get("url") and not self._baseline_serves():
            self._no_server = entry.target
            self._failures[key] = (
                f"{key}: {command} was run, and no command is known that undoes it: start that server; "
                f"then, to finish: {_recover(self._journal.folder)}"
            )
            return
        # Told of once: nobody knows when it is as before.
        with self._journal.action(HOOK, entry.target, undoes=self._undone(entry)):
            self._failures[key] = f"{key}: {command} was run, and cannot be undone: no command is known that does it"

    def _run_undo(self, entry: Entry) -> str:
        if not isinstance(entry.before, list) or not all(isinstance(word, str) for word in entry.before):
            raise WorldError(f"the journal has no command that undoes it: {entry.before!r}")
        if self._stuck:
            raise WorldError(f"left as it is while {self._stuck} is not back: traffic may go there")
        if thing(entry) in self._started:
            self._drain()
        call(f"undo {entry.target}", entry.before, self._journal.folder)
        self._await_serving(thing(entry))
        return f"{entry.target}: undone by {shlex.join(entry.before)}"

    def _await_serving(self, url: str) -> None:
        """Where that was the baseline's server: until it serves the version that traffic needs."""
        arm = self._baseline()
        if arm.get("url") != url:
            return
        deadline = time.monotonic() + SERVE_S
        while True:
            try:
                served = self._control(url).loaded(arm["model"])
                if served and arm["version"] in (None, *served):
                    return
                problem = f"{arm['model']} version {arm['version']} does not serve there"
            except CanaryError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise WorldError(f"started again, but after {SERVE_S:g} s {problem}")
            time.sleep(0.2)

    def _baseline_serves(self) -> bool:
        arm = self._baseline()
        try:
            served = self._control(arm["url"]).loaded(arm["model"])
        except CanaryError:
            return False
        return bool(served) and arm["version"] in (None, *served)

    def _baseline(self) -> dict[str, Any]:
        """What run.json says of that arm."""
        with suppress(CanaryError):
            arm = read_meta(self._journal.folder).get("arms", {}).get("baseline")
            if isinstance(arm, dict):
                return {"model": "", "version": None, **arm}
        return {}

    def _serve_again(self, entry: Entry) -> str:
        """Versions that the traffic will need, beside those that have it now."""
        url, model = _model(entry)
        control = self._control(url)
        served = control.loaded(model)
        if set(entry.before) <= set(served):
            return ""
        apply_versions(control, model, sorted({*entry.before, *served}))
        return f"{model}: versions {entry.before} serve again"

    def _swap(self, entry: Entry) -> str:
        """What does not fit beside the others leaves before they come."""
        url, model = _model(entry)
        control = self._control(url)
        served = set(control.loaded(model))
        if served - set(entry.before):
            apply_versions(control, model, sorted(served & set(entry.before)))
        apply_versions(control, model, entry.before)
        return f"{model}: exactly versions {entry.before} serve, as before"

    def _route(self, entry: Entry) -> str:
        def move(router: Ingress) -> str:
            share, now = float(entry.before), None
            with suppress(CanaryError):
                now = router.read().candidate_share
            router.set(share)
            where = "" if _own(entry) else f"{entry.target}: "
            # A router that was restarted begins with its configuration.
            already = " already" if now == share else ""
            return f"{where}{100 * (1 - share):.3g} % to the baseline{already}, as before"

        return self._moved(entry, move)

    def _header(self, entry: Entry) -> str:
        def move(router: Ingress) -> str:
            values = dict(entry.before)
            router.header(values)
            led = ", ".join(f"{value} to the {arm}" for value, arm in values.items()) or "nobody"
            return f"{entry.target}: the header leads {led}, as before"

        return self._moved(entry, move)

    def _moved(self, entry: Entry, move: Callable[[Ingress], str]) -> str:
        try:
            if self._no_server:
                raise WorldError(f"left as it is while {self._no_server!r} is not undone: nobody might answer there")
            return move(self._ingress(entry.target))
        except Exception:
            if entry.target in self._ending:
                return ""  # a router of the run's own, which ends with it
            if not _own(entry):  # the harness's own generator is told before the file is written
                self._stuck = entry.target
            raise

    def _ingress(self, target: str) -> Ingress:
        if target not in self._ingresses:
            self._ingresses[target] = ingress = open_ingress(target)
            self._stack.callback(ingress.close)
        return self._ingresses[target]

    def _models(self, entry: Entry) -> str:
        url, model = _model(entry)
        control = self._control(url)
        goes = sorted(set(control.loaded(model)) - set(entry.before))
        if goes and self._stuck:
            raise WorldError(f"versions {goes} stay while {self._stuck} is not back: traffic may go to them")
        if goes:
            self._drain()
        apply_versions(control, model, entry.before)
        return f"{model}: exactly versions {entry.before} serve, as before" if entry.before else f"{model}: unloaded"

    def _drain(self) -> None:
        """Once at each router: the arm that gets nothing any more. Nothing is safer for waiting any longer."""
        for entry in self._oldest("route.set"):
            if entry.before not in (0, 1) or entry.target in self._drained:
                continue
            self._drained.add(entry.target)
            arm: ArmName = "baseline" if entry.before else "candidate"
            try:
                left = self._ingress(entry.target).drain(arm, DRAIN_S).left
            except Exception as error:  # noqa: BLE001 - it was only to be kind
                self._say(f"{entry.target}: not drained: {error}")
                continue
            if left:
                self._say(f"{entry.target}: the {arm} still had {left} requests after {DRAIN_S:g} s")

    @staticmethod
    def _config(entry: Entry) -> str:
        write_config(Path(entry.target), entry.before)
        return f"{entry.target}: as before"

    def _placed(self, entry: Entry) -> str:
        target = Path(entry.target)
        still = [key for key in self._failures if key.startswith("models.set ") and key.endswith(f"/{target.name}")]
        if still:
            raise WorldError("stays while its versions are not unloaded")
        return remove(target, self._journal.folder)

    def _control(self, url: str) -> Control:
        if url not in self._controls:
            # After a crash nobody holds the run's headers any more.
            self._controls[url] = self._stack.enter_context(Control(url, access(environment=os.environ)))
        return self._controls[url]


def _model(entry: Entry) -> tuple[str, str]:
    return server(entry), entry.target.rpartition("/")[2]


def _own(entry: Entry) -> bool:
    return entry.target.startswith(OwnSplit.SCHEME)


def _recover(folder: Path) -> str:
    return f"triton-canary recover {shlex.quote(str(folder))}"


def _by_hand(entry: Entry) -> str:
    """What does the same where the run's folder is not to be had."""
    if entry.action in ROUTES and not _own(entry):
        return f"; by hand: triton-canary route rollback {shlex.quote(entry.target)}"
    if entry.action in MODELS:
        url, model = _model(entry)
        return f"; by hand: triton-canary models restore {shlex.quote(model)} --url {shlex.quote(url)}"
    return ""
