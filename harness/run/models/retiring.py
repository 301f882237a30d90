"""A version goes for good: nobody asks it any more, it leaves every server, its directory leaves the repository.

Every step is journaled and can be found half done: `retire` again finishes, `restore` goes back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import CanaryError, UnsafeChange, UsageError, WorldError
from harness.run.journal import Journal
from harness.run.models.change import ModelChange
from harness.run.models.history import History, Past, Served, history
from harness.run.models.loading import check_dependents, check_persist
from harness.run.models.remains import Remains
from harness.run.models.rules import Changed, Persist, Rules
from harness.run.models.site import Site
from harness.run.models.traffic import Arrivals, arrivals
from harness.triton import Control, read_config

Then = Literal["keep", "archive", "remove"]
GONE = ("UNAVAILABLE",)
DRAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Retired:
    """`watched`: what was seen at the version before, one for each server that served it.

    `done`: one line for each step that was taken, none where all had been taken before. `place`: where the directory
    is now; None where it was removed, or was never seen.
    """

    model: str
    version: int
    watched: tuple[Arrivals, ...]
    changed: Changed | None
    done: tuple[str, ...]
    place: Path | None


def retire(
    site: Site, model: str, version: int, *, window_s: float = 60.0, then: Then = "keep", archive: Path | None = None,
    staging: Path | None = None, rules: Rules | None = None,
) -> Retired:  # fmt: skip
    """Unload `version` everywhere and then keep, archive or remove its directory.

    Raises UnsafeChange, and has changed nothing, where a request arrives within `window_s`, or it is the last READY
    version somewhere. Where it is cut off after that, calling it again finishes what is left.
    """
    if (then == "archive") != (archive is not None):
        raise UsageError("an archive needs a folder, and a folder is for an archive")
    if then != "keep" and site.repository is None:
        raise UsageError(f"{model}: its directories are only in reach with --repository DIR")
    with site.changing():
        return _Retire(site, model, version, window_s, then, archive, staging, rules or Rules()).run()


class _Retire:
    def __init__(
        self, site: Site, model: str, version: int, window_s: float, then: Then, archive: Path | None,
        staging: Path | None, rules: Rules,
    ) -> None:  # fmt: skip
        self._site, self._model, self._version = site, model, version
        self._window_s, self._then, self._rules = window_s, then, rules
        self._history = history(site.journal.entries(), model)
        self._begun = begun(self._history, version)
        self._remains = None
        if then != "keep" and site.repository is not None:
            self._remains = Remains.plan(site.repository, model, version, staging, archive, self._begun)
            self._remains.check()
        self._done: list[str] = []

    def run(self) -> Retired:
        site, model = self._site, self._model
        before = site.loaded(model)
        wanted = {url: tuple(v for v in ready if v != self._version) for url, ready in before.items()}
        served = [control for control in site.servers if before[control.url] != wanted[control.url]]
        in_reach = self._remains is not None and self._remains.there
        if not served and not in_reach and not self._begun:
            return self._nothing_left()
        for url, versions in wanted.items():
            if not versions:
                serves = "is the only READY one" if before[url] else "would be retired where none is READY"
                raise UnsafeChange(f"{model}: version {self._version} {serves} on {url}: load another one first")
        check_dependents(served, model, self._rules)
        persist = self._persist()
        check_persist(site, model, persist)
        watched = self._watch(served)
        changed = ModelChange(
            site, model, before, wanted, Rules(persist=persist, probe=self._rules.probe),
            mark={"retires": self._version}, then=lambda journal: self._after(journal, wanted),
        ).run()  # fmt: skip
        self._done[:0] = [f"{url}: version {self._version} is unloaded" for url in changed.called]
        return Retired(model, self._version, watched, changed, tuple(self._done), self._place())

    def _nothing_left(self) -> Retired:
        last = self._history.last
        if last is None or (last.entry.wanted or {}).get("retires") != self._version:
            raise UsageError(f"{self._model}: version {self._version} serves on no server, and there is nothing to do")
        return Retired(self._model, self._version, (), None, (), self._place())

    def _watch(self, controls: Sequence[Control]) -> tuple[Arrivals, ...]:
        if not controls:
            return ()
        self._site.say(f"watching version {self._version} of {self._model} for {self._window_s:g} s")
        found = arrivals(
            controls, self._model, {control.url: self._version for control in controls}, self._window_s,
            until_first=True, say=self._site.say,
        )  # fmt: skip
        for seen in found:
            if seen.note:
                raise UnsafeChange(f"{self._model}: {seen.note}: somebody is changing it")
            if seen.requests:
                raise UnsafeChange(
                    f"{self._model}: version {self._version} is still asked on {seen.url}: {seen.requests} "
                    f"request{'s' if seen.requests > 1 else ''} within {seen.window_s:.1f} s"
                )
        return tuple(found)

    def _persist(self) -> Persist:
        """A policy that names a version without a directory must not stay behind."""
        if self._then == "keep" or self._rules.persist != "no" or self._site.repository is None:
            return self._rules.persist
        config = self._site.repository / self._model / "config.pbtxt"
        policy = read_config(config).get("version_policy", {})
        named = [int(version) for version in policy.get("specific", {}).get("versions", ())]
        return "write" if self._version in named else "no"

    def _after(self, journal: Journal, wanted: Served) -> None:
        """Nothing is put back from here on: the version is out, and what is left can be finished."""
        try:
            self._directory(journal, wanted)
        except CanaryError as error:
            ways = f"to finish: the same command again; to go back: triton-canary models restore {self._model}"
            error.args = (f"{error}; {ways}",)
            raise

    def _directory(self, journal: Journal, wanted: Served) -> None:
        self._confirm()
        remains = self._remains
        if remains is None:
            return
        if remains.home.is_dir():
            remains.move(journal)
            self._done.append(f"{remains.home} left the repository")
        if self._then == "archive":
            remains.archive(journal)
            self._done.append(f"{remains.home} is archived in {remains.archived}")
        if remains.staged.is_dir():
            remains.remove(journal)
        if self._then == "remove":
            self._done.append(f"{remains.home} is removed")
        for control in self._site.servers if self._rules.probe else ():
            for version in wanted[control.url]:
                control.probe(self._model, version)

    def _confirm(self) -> None:
        """By the index of every server: gone, and no request of it under way."""
        deadline = time.monotonic() + DRAIN_S
        for control in self._site.servers:
            while True:
                state = control.index().of_version(self._model, self._version)
                if state is None or state.state in GONE:
                    break
                if state.state != "UNLOADING" or time.monotonic() > deadline:
                    raise WorldError(
                        f"{self._model}: version {self._version} is {state.state} on {control.url}; its directory was "
                        "left where it is"
                    )
                time.sleep(0.1)

    def _place(self) -> Path | None:
        remains = self._remains
        if remains is None:
            home = self._site.repository
            return home / self._model / str(self._version) if home else None
        return remains.archived if self._then == "archive" else None


def begun(known: History, version: int) -> tuple[Past, ...]:
    """The retirements of this version that were cut off."""
    return tuple(past for past in known.unfinished if (past.entry.wanted or {}).get("retires") == version)
