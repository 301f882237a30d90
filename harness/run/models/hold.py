"""What is only lent: the journal holds what to give back, whoever dies in between. From dusk to dawn a setting of the
dynamic batcher; while versions are measured alone, the versions that served before.

`models.hold` is begun before the first change and done after the last. While it is begun and not done, `restore` and
`recover` give back what was there before it, also where every change within it came to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from harness.errors import ChangedMeanwhile, WorldError
from harness.run.journal import Entry
from harness.run.models.change import ModelChange
from harness.run.models.history import CHANGE, HOLD, TUNE, Served
from harness.run.models.rules import Rules
from harness.run.models.site import Site
from harness.run.models.tune import Settings, Tuned, apply_settings, attempt, of_plain, plain, set_back, settings
from harness.triton import Control


class Hold:
    """`before`: the setting of each server at the beginning, and at the end."""

    def __init__(self, site: Site, model: str, before: Settings, rules: Rules) -> None:
        self.before = before
        self._site, self._model, self._rules = site, model, rules

    def lend(self, delay_us: int, preferred: Sequence[int] | None = None) -> Tuned:
        """The other setting, on every server. Raises as `tune`."""
        wanted = {url: setting.changed(delay_us, preferred) for url, setting in self.before.items()}
        return apply_settings(self._site, self._model, wanted, self._rules)

    def give_back(self) -> Tuned:
        """The setting of the beginning, on every server, and verified there. Raises as `tune`."""
        return apply_settings(self._site, self._model, self.before, self._rules)


@contextmanager
def held(site: Site, model: str, *, rules: Rules | None = None) -> Iterator[Hold]:
    """Within it another setting may be lent; at its end, however it comes, the one before it is in force again.

    Raises WorldError where it could not be given back: the hold then stays in the journal, for `restore`.
    """
    with site.changing():
        before, journal = settings(site, model), site.journal
    hold = Hold(site, model, before, rules or Rules())
    with journal.action(HOLD, model, before={TUNE: plain(before)}) as seq:
        try:
            yield hold
            hold.give_back()
        except BaseException:
            if left := _give_back(site, model, before, seq):
                raise WorldError("; ".join(left)) from None
            raise


@contextmanager
def lent_versions(site: Site, model: str, *, rules: Rules | None = None) -> Iterator[Served]:
    """Within it other versions may serve; at its end, however it comes, those of the beginning do again.

    Raises WorldError where they could not be given back: the hold then stays in the journal, for `restore`.
    """
    with site.changing():
        before = site.loaded(model)
    with site.journal.action(HOLD, model, before={"served": _lists(before)}) as seq:
        try:
            yield before
            _serve_again(site, model, before, rules or Rules())
        except BaseException:
            if left := attempt(partial(_serve_again, site, model, before, rules or Rules())):
                raise WorldError(f"NOT PUT BACK: {left}; to finish: triton-canary models restore {model}") from None
            with site.journal.action(HOLD, model, undoes=[seq]):
                pass
            raise


def _serve_again(site: Site, model: str, before: Served, rules: Rules) -> None:
    """A load of our own that was cut off may go on in the server, and show only now: then it is looked again."""
    with site.changing():
        for last in (False, False, True):
            now = site.loaded(model)
            try:
                if now != before:
                    ModelChange(site, model, now, before, rules).run()
                return
            except ChangedMeanwhile:
                if last:
                    raise


def _lists(served: Served) -> dict[str, list[int]]:
    return {url: list(versions) for url, versions in served.items()}


def holds(entries: Sequence[Entry], model: str) -> list[Entry]:
    """Those that were begun and never given back, oldest first."""
    undone = {seq for entry in entries if entry.undoes and entry.state == "done" for seq in entry.undoes}
    return [
        entry
        for entry in entries
        if entry.action == HOLD
        and entry.target == model
        and entry.undoes is None
        and entry.state != "done"
        and entry.seq not in undone
    ]


def give_back(site: Site, entry: Entry) -> list[str]:
    """End a hold that somebody left open; one line for each server whose setting was changed. Raises WorldError."""
    model, before = entry.target, entry.before or {}
    if "served" in before:
        return _give_versions_back(site, entry)
    wanted = of_plain(before.get(TUNE, {}))
    now = {control.url: list(control.batching(model).values()) for control in site.servers}
    if left := _give_back(site, model, wanted, entry.seq):
        raise WorldError("; ".join(left))
    return [
        f"{url}: {setting} again, as before the hold"
        for url, setting in wanted.items()
        if any(each != setting for each in now.get(url, []))
    ]


def _give_versions_back(site: Site, entry: Entry) -> list[str]:
    model = entry.target
    before = {url: tuple(versions) for url, versions in (entry.before or {})["served"].items()}
    with site.changing():
        now = site.loaded(model)
        # A server that joined since has nothing to be given back.
        wanted = {url: before.get(url, versions) for url, versions in now.items()}
        _serve_again(site, model, wanted, Rules())
        with site.journal.action(HOLD, model, undoes=[entry.seq]):
            pass
    return [
        f"{url}: {', '.join(map(str, versions)) or 'no version'} again, as before the hold"
        for url, versions in wanted.items()
        if now[url] != versions
    ]


def _give_back(site: Site, model: str, wanted: Settings, seq: int) -> list[str]:
    """What could not be. The hold counts as undone once every server has the setting."""
    with site.changing():
        left = [
            f"NOT PUT BACK: {control.url}: {error}; to finish: triton-canary models restore {model}"
            for control in site.servers
            if (error := attempt(partial(_one, site, model, control, wanted)))
        ]
        if not left:
            with site.journal.action(HOLD, model, undoes=[seq]):
                pass
    return left


def _one(site: Site, model: str, control: Control, wanted: Settings) -> None:
    """A change like any other, so that it is what a later restore goes by, but of one server: each gets its turn."""
    if control.url not in wanted:
        raise WorldError("the journal does not know its setting")
    setting, versions = wanted[control.url], control.loaded(model)
    if all(now == setting for now in control.batching(model).values()):
        return
    served = {"served": {control.url: list(versions)}}
    with site.journal.action(CHANGE, model, before=served, wanted={**served, TUNE: plain(wanted), "restores": True}):
        set_back(site, model, control, setting, [])
