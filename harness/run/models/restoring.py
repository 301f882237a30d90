"""Back to what the journal knows: after a restart of the server, or a change that was cut off or wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import CanaryError, UsageError, WorldError
from harness.run.journal import Entry
from harness.run.models.history import CHANGE, TUNE, Past, Served, for_server, history, models, setting_of
from harness.run.models.hold import give_back, holds
from harness.run.models.remains import Remains
from harness.run.models.rules import Rules
from harness.run.models.site import Site
from harness.run.signals import interruptible
from harness.run.world import apply_versions
from harness.triton import Batching, Control, write_config


@dataclass(frozen=True, slots=True)
class Restored:
    """`why`: which state of the journal it is. `after`: READY versions by server. `done`: one line for each step taken;

    none where everything was so already.
    """

    model: str
    why: str
    after: Served
    done: tuple[str, ...]


def restore(
    site: Site, model: str | None = None, *, undo: bool = False, rules: Rules | None = None
) -> tuple[Restored, ...]:
    """Bring `model`, or every model that the journal knows, to the last state that was reached.

    A change that was cut off goes back to what was before it: directories, versions, config.pbtxt. `undo`: to what was
    before the last change, config.pbtxt included. A setting that was only lent (`hold`) is given back, and a change of
    the dynamic batcher's setting is a change like any other. Every server gets its turn whatever happens to the others.
    Raises UsageError where the journal knows nothing of it, WorldError naming what could not be restored.
    """
    rules = rules or Rules()
    with site.changing():
        entries = site.journal.entries()
        wanted = [model] if model else list(models(entries))
        if not wanted:
            raise UsageError(f"{site.journal.folder}: the journal knows no model: nothing was changed from here")
        plans = {name: _plan(site, entries, name, undo) for name in wanted}
        restored, failures = [], list[str]()
        for name, plan in plans.items():
            try:
                found = _Restore(site, plan, rules).run() if plan else _untouched(site, name)
                given = [line for hold in holds(entries, name) for line in give_back(site, hold)]
                restored.append(replace(found, done=(*found.done, *given)))
            except CanaryError as error:
                failures.append(str(error))
        if failures:
            raise WorldError("; ".join(failures))
        return tuple(restored)


@dataclass(frozen=True)
class _Plan:
    model: str
    why: str
    served: Served
    undone: Sequence[Past] = ()
    config: Entry | None = None
    tuned: Mapping[str, Any] = field(default_factory=dict)
    mark: dict[str, Any] = field(default_factory=dict)


def _plan(site: Site, entries: Sequence[Entry], model: str, undo: bool) -> _Plan | None:
    """None where a change was announced and cut off before its first step."""
    known = history(entries, model)
    open_holds = holds(entries, model)
    lent = dict((open_holds[0].before or {}).get(TUNE, {})) if open_holds else {}
    if known.unfinished:
        first = known.unfinished[0]
        return _Plan(
            model, "before a change that was cut off", first.before, known.unfinished, _config(known.unfinished),
            lent or next((tuned for past in known.unfinished if (tuned := past.tuned("before"))), {}),
        )  # fmt: skip
    if known.last is None and model in models(entries):
        return None
    if known.last is None:
        raise UsageError(f"{model}: the journal in {site.journal.folder} knows nothing of it")
    if not undo:
        return _Plan(model, "after the last change", known.last.wanted, tuned=lent or known.last.tuned("wanted"))
    if (known.last.entry.wanted or {}).get("undid"):
        raise UsageError(f"{model}: the last change was undone already")
    return _Plan(
        model, "before the last change", known.last.before, (known.last,), _config((known.last,)),
        lent or known.last.tuned("before"), {"undid": known.last.entry.seq},
    )  # fmt: skip


def _untouched(site: Site, model: str) -> Restored:
    return Restored(model, "before: no change of it ever began", site.loaded(model), ())


def _config(changes: Sequence[Past]) -> Entry | None:
    """The oldest write of config.pbtxt: what was before it is what to go back to."""
    return next((past.config for past in changes if past.config is not None), None)


class _Restore:
    def __init__(self, site: Site, plan: _Plan, rules: Rules) -> None:
        self._site, self._plan, self._rules = site, plan, rules
        self._done: list[str] = []
        self._failures: list[str] = []
        self._after: dict[str, tuple[int, ...]] = {}
        self._cut_off = any(step.action == TUNE for past in plan.undone for step in past.steps)
        """A switch was cut off, and may go on in the server: what it says it serves now need not stay so."""

    def run(self) -> Restored:
        plan, remains = self._plan, Remains.of(self._plan.undone)
        targets = {control: self._target(control) for control in self._site.servers}
        as_wanted = [self._is_so(control, versions) for control, versions in targets.items()]
        if not plan.undone and all(as_wanted):
            return Restored(plan.model, plan.why, self._after, ())
        mark = plan.mark or {"restores": True}
        served = {control.url: list(versions) for control, versions in targets.items() if versions is not None}
        with (
            interruptible() as signals,
            self._site.journal.action(CHANGE, plan.model, before=self._before(), wanted={"served": served, **mark}),
        ):
            signals.ignore()  # this is what a signal would ask for
            if remains is not None:
                self._step(partial(self._directory, remains))
            for control, versions in targets.items():
                self._step(partial(self._server, control, versions))
            if plan.config is not None:
                self._step(partial(self._config, plan.config))
            if self._failures:
                raise WorldError(f"{plan.model}: NOT RESTORED: {'; '.join(self._failures)}")
        return Restored(plan.model, plan.why, self._after, tuple(self._done))

    def _before(self) -> dict[str, Any]:
        """What an undo of this would go back to; a server that does not answer has nothing to say."""
        return {"served": {url: list(versions) for url, versions in self._after.items()}}

    def _target(self, control: Control) -> tuple[int, ...] | None:
        versions = for_server(self._plan.served, control.url)
        if versions is None:
            self._failures.append(f"{control.url}: the journal does not know it, and the other servers differ")
        return versions

    def _is_so(self, control: Control, versions: tuple[int, ...] | None) -> bool:
        try:
            now = control.loaded(self._plan.model)
        except CanaryError:
            return False
        self._after[control.url] = now
        return now == versions and self._setting_is_so(control)

    def _setting_is_so(self, control: Control) -> bool:
        known, wanted = setting_of(self._plan.tuned, control.url)
        return not known or all(now == Batching(wanted) for now in control.batching(self._plan.model).values())

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except CanaryError as error:
            self._failures.append(str(error))

    def _directory(self, remains: Remains) -> None:
        if line := remains.bring_back(self._site.journal):
            self._done.append(line)

    def _server(self, control: Control, versions: tuple[int, ...] | None) -> None:
        if versions is None:
            return
        model, url = self._plan.model, control.url
        now = control.loaded(model)
        if now != versions:
            with self._site.journal.action("models.set", f"{url}/{model}", before=list(now), wanted=list(versions)):
                apply_versions(control, model, versions, self._site.repository)
            self._done.append(f"{url}: {_listed(now)} -> {_listed(versions)}")
        self._after[url] = versions
        known, section = setting_of(self._plan.tuned, url)
        if versions and known and (self._cut_off or not self._setting_is_so(control)):
            wanted = Batching(section)
            with self._site.journal.action(TUNE, f"{url}/{model}", wanted=wanted.section):
                control.set_batching(model, wanted, always=self._cut_off)
            self._done.append(f"{url}: {wanted}")
        for version in versions if self._rules.probe else ():
            control.probe(model, version)

    def _config(self, entry: Entry) -> None:
        path = Path(entry.target)
        if path.read_bytes().decode() == entry.before:
            return
        with self._site.journal.action("config.write", entry.target, before=path.read_bytes().decode()):
            write_config(path, entry.before)
        self._done.append(f"{path}: as before")


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions)) or "none"
