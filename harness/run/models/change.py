"""A change of one model on every server of a site: in waves, verified, journaled, all of it or nothing.

Each server is verified (index, readiness of each version, an answer) before the next wave. At the first failure
nothing further is begun, and every server that was touched is put back to what it had.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import CanaryError, ChangedMeanwhile, LoadFailed
from harness.run.costs import measured
from harness.run.journal import Journal
from harness.run.models.history import CHANGE, Served
from harness.run.models.rules import Changed, Rules
from harness.run.models.site import Site
from harness.run.signals import interruptible
from harness.triton import Change, Control, config_diff, persist_versions, write_config

Versions = tuple[int, ...]


@dataclass
class ModelChange:
    """From `before` (what each server was seen to have) to `wanted`; () means that the model is unloaded.

    `refresh`: config.pbtxt of the repository was replaced and is to be applied; `config_before` is its text until then,
    and `config_after`, where given, the text that the change itself writes first.
    `mark` goes to the journal with `wanted`. `check` is asked of each server before its probes, and raises where it is
    not as it should be. `then` is done after the last server, inside the change.
    """

    site: Site
    model: str
    before: Served
    wanted: Served
    rules: Rules = field(default_factory=Rules)
    refresh: bool = False
    config_before: str | None = None
    config_after: str | None = None
    mark: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Control], None] | None = None
    then: Callable[[Journal], None] | None = None

    def __post_init__(self) -> None:
        self._steps: dict[str, list[int]] = {}
        self._changes: dict[str, Change] = {}
        self._failed: dict[str, CanaryError] = {}
        self._unpersisted: str | None = None
        self._diff, self._notes = "", list[str]()

    def run(self) -> Changed:
        """Raises what failed, with what was put back and what could not be."""
        began = time.monotonic()
        journal, served = self.site.journal, {"served": _plain(self.wanted), **self.mark}
        with (
            interruptible() as signals,
            journal.action(CHANGE, self.model, before={"served": _plain(self.before)}, wanted=served),
        ):
            try:
                if self.config_before is not None and self._config is not None:
                    # What it is to be put back to, also where it was replaced already.
                    with journal.action("config.write", str(self._config), before=self.config_before) as seq:
                        self._steps["config"] = [seq]
                        if self.config_after is not None:
                            write_config(self._config, self.config_after)
                for number, wave in enumerate(self.site.waves, 1):
                    if len(self.site.waves) > 1:
                        self.site.say(f"wave {number} of {len(self.site.waves)}: {', '.join(c.url for c in wave)}")
                    self._wave(wave)
                self._persist()
            except BaseException as error:
                signals.ignore()
                put_back, left = self._put_back()
                if isinstance(error, CanaryError):
                    error.args = ("; ".join([str(error), *put_back, *left]),)
                raise
            if self.then is not None:
                self.then(journal)
        return Changed(
            model=self.model, before=dict(self.before), after=dict(self.wanted), took_s=time.monotonic() - began,
            called=tuple(url for url, change in self._changes.items() if change.called),
            draining={url: change.draining for url, change in self._changes.items() if change.draining},
            notes=tuple(self._notes), diff=self._diff,
        )  # fmt: skip

    @property
    def _config(self) -> Path | None:
        return self.site.repository / self.model / "config.pbtxt" if self.site.repository else None

    def _wave(self, wave: tuple[Control, ...]) -> None:
        if len(wave) == 1:
            self._server(wave[0])
            return
        pool = ThreadPoolExecutor(len(wave))
        running = [pool.submit(self._server, control) for control in wave]
        try:
            wait(running)
        finally:
            # Also after a signal: a load cannot be called back, and is undone once it has ended.
            pool.shutdown()
        for future in running:
            future.result()

    def _server(self, control: Control) -> None:
        url, model = control.url, self.model
        before, wanted = self.before[url], self.wanted[url]
        joining = [version for version in wanted if version not in before]
        try:
            with measured(self.site.journal, control, model, joining, self.site.repository, self.site.look):
                if before != wanted or (self.refresh and wanted):
                    with self.site.journal.action(
                        "models.set", f"{url}/{model}", before=list(before), wanted=list(wanted)
                    ) as seq:
                        self._steps[url] = [seq]
                        self._changes[url] = self._set(control, before, wanted)
                else:
                    self._as_it_is(control, wanted)
                if self.check is not None:
                    self.check(control)
                if self.rules.probe:
                    for version in wanted:
                        control.probe(model, version)
        except CanaryError as error:
            self._failed[url] = error
            if len(self.site.servers) > 1 and url not in str(error):
                error.args = (f"{url}: {error}",)
            raise

    def _set(self, control: Control, before: Versions, wanted: Versions) -> Change:
        if not wanted:
            _still(control, self.model, before)
            return control.unload(self.model)
        return control.set_versions(
            self.model, wanted, repository=self.site.repository, expected=before, refresh=self.refresh
        )

    def _as_it_is(self, control: Control, wanted: Versions) -> None:
        _still(control, self.model, wanted)
        for version in wanted:
            if not control.ready(self.model, version):
                raise LoadFailed(f"{self.model}: version {version} is READY in the index, but not when asked")

    def _persist(self) -> None:
        config = self._config
        if self.rules.persist == "no" or config is None:
            return
        sets = set(self.wanted.values())
        if len(sets) > 1:
            self._notes.append(f"{config} was left as it is: the servers serve different versions")
            return
        (versions,) = sets
        if not versions:
            self._notes.append(f"{config} was left as it is: no policy means no version; Triton loads on request only")
            return
        diff = config_diff(config, versions)
        if not diff:
            return
        # It is replaced atomically, so it is its folder that has to be writable.
        writable = os.access(config.parent, os.W_OK)
        if self.rules.persist == "show" or not writable:
            self._diff = diff
            self._notes.append(f"{config} {'was not written' if writable else 'is read-only'}: this is the edit")
            return
        before = config.read_bytes().decode()
        with self.site.journal.action("config.write", str(config), before=before, wanted=list(versions)) as seq:
            self._steps.setdefault("config", []).append(seq)
            self._unpersisted = before
            persist_versions(config, versions)

    def _put_back(self) -> tuple[list[str], list[str]]:
        """What was put back, and what could not be, as words for the error."""
        done: list[str] = []
        left: list[str] = []
        if "config" in self._steps and self._config is not None:
            self._undo("config", str(self._config), left, self._config_back)
        several = len(self.site.servers) > 1
        for control in reversed(self.site.servers):
            url = control.url
            if url not in self._steps:
                continue
            if self._undo(url, f"{url}/{self.model}", left, partial(self._server_back, control)) and several:
                done.append(f"{url} has {_listed(self.before[url])} as before")
        return done, [f"NOT PUT BACK: {words}; to finish: triton-canary models restore {self.model}" for words in left]

    def _config_back(self) -> None:
        assert self._config is not None
        before = self._unpersisted if self.config_before is None else self.config_before
        assert before is not None
        write_config(self._config, before)

    def _undo(self, key: str, target: str, left: list[str], undo: Callable[[], None]) -> bool:
        action = "config.write" if key == "config" else "models.set"
        wanted = None if key == "config" else list(self.before[key])
        try:
            with self.site.journal.action(action, target, wanted=wanted, undoes=self._steps[key]):
                undo()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next server must get its turn
            left.append(str(error) if target.removesuffix(f"/{self.model}") in str(error) else f"{target}: {error}")
            return False
        return True

    def _server_back(self, control: Control) -> None:
        url, before = control.url, self.before[control.url]
        error = self._failed.get(url)
        if isinstance(error, ChangedMeanwhile):
            return  # what serves there now is somebody else's wish
        index = control.index()
        now = index.ready(self.model)
        if isinstance(error, LoadFailed) and (loading := index.in_state(self.model, "LOADING")):
            raise LoadFailed(f"{self.model}: version {_listed(loading)} is still LOADING; READY now: {_listed(now)}")
        if before:
            # Also where the index says so already: what is loading must have ended.
            again = self.refresh and self.config_before is not None
            control.set_versions(
                self.model, before, expected=self.wanted[url] if url in self._changes else None,
                repository=self.site.repository if again else None, refresh=again,
            )  # fmt: skip
        elif now:
            control.unload(self.model)


def _still(control: Control, model: str, expected: Versions) -> None:
    now = control.loaded(model)
    if now != expected:
        raise ChangedMeanwhile(
            f"{model}: somebody else changed it on {control.url}: READY were {_listed(expected)}, now {_listed(now)}"
        )


def _listed(versions: Versions) -> str:
    return ", ".join(map(str, versions)) or "none"


def _plain(served: Served) -> dict[str, list[int]]:
    return {url: list(versions) for url, versions in served.items()}
