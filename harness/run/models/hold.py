"""What is only lent: the journal holds what to give back, whoever dies in between. From dusk to dawn a setting of the
dynamic batcher; while versions are measured alone, the versions that served before, and their config.pbtxt.

`models.hold` is begun before the first change and done after the last. While it is begun and not done, `restore` and
`recover` give back what was there before it, also where every change within it came to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.errors import ChangedMeanwhile, UsageError, WorldError
from harness.run.journal import Entry
from harness.run.models.change import ModelChange
from harness.run.models.history import CHANGE, HOLD, TUNE, Served
from harness.run.models.rules import Rules
from harness.run.models.site import Site
from harness.run.models.tune import Settings, Tuned, apply_settings, attempt, of_plain, plain, set_back, settings
from harness.triton import Control
from harness.triton.max_batch import only_resized

CONFIG = "config"


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


class Lent:
    """`served`: what served before, by server. `keep_config`: config.pbtxt is to stay as it is at the end."""

    def __init__(self, served: Served, config: str | None) -> None:
        self.served, self.config = served, config

    def keep_config(self) -> None:
        self.config = None


@contextmanager
def lent_versions(site: Site, model: str, *, rules: Rules | None = None) -> Iterator[Lent]:
    """Within it other versions may serve, with another max_batch_size; at its end, however it comes, those of the
    beginning do again, with the config.pbtxt of the beginning unless another is to be kept.

    Raises WorldError where they could not be given back: the hold then stays in the journal, for `restore`.
    """
    with site.changing():
        lent = Lent(site.loaded(model), _config(site, model))
    again = partial(_serve_again, site, model, lent, rules or Rules())
    with site.journal.action(HOLD, model, before={"served": _lists(lent.served), CONFIG: lent.config}) as seq:
        try:
            yield lent
            again()
        except BaseException:
            if left := attempt(again):
                raise WorldError(f"NOT PUT BACK: {left}; to finish: triton-canary models restore {model}") from None
            with site.journal.action(HOLD, model, undoes=[seq]):
                pass
            raise


def _serve_again(site: Site, model: str, lent: Lent, rules: Rules) -> None:
    """A load of our own that was cut off may go on in the server, and show only now: then it is looked again."""
    with site.changing():
        for last in (False, False, True):
            now = site.loaded(model)
            try:
                _back(site, model, now, lent, rules)
                return
            except ChangedMeanwhile:
                if last:
                    raise


def _back(site: Site, model: str, now: Served, lent: Lent, rules: Rules) -> None:
    """What somebody else wrote into config.pbtxt stays."""
    text, before = _config(site, model), lent.config
    if before is not None and text is not None and text != before:
        if only_resized(text, before):
            ModelChange(
                site, model, now, lent.served, rules, refresh=True, config_before=text, config_after=before
            ).run()
            return
        site.say(f"{_path(site, model)}: somebody else changed it meanwhile: it was left as it is")
    if now != lent.served:
        ModelChange(site, model, now, lent.served, rules).run()


def _path(site: Site, model: str) -> Path | None:
    return site.repository / model / "config.pbtxt" if site.repository else None


def _config(site: Site, model: str) -> str | None:
    """None where there is none, or it is not seen."""
    path = _path(site, model)
    try:
        return path.read_bytes().decode() if path else None
    except (OSError, UnicodeDecodeError):
        return None


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
    model, held = entry.target, entry.before or {}
    before = {url: tuple(versions) for url, versions in held["served"].items()}
    with site.changing():
        now = site.loaded(model)
        # A server that joined since has nothing to be given back.
        lent = Lent({url: before.get(url, versions) for url, versions in now.items()}, held.get(CONFIG))
        text = _config(site, model)
        _serve_again(site, model, lent, Rules())
        if lent.config is not None and site.repository is None:
            raise UsageError(f"{model}: its config.pbtxt may have to be put back: say where it is (--repository DIR)")
        with site.journal.action(HOLD, model, undoes=[entry.seq]):
            pass
    said = [
        f"{url}: {', '.join(map(str, versions)) or 'no version'} again, as before the hold"
        for url, versions in lent.served.items()
        if now[url] != versions
    ]
    return said if _config(site, model) == text else [*said, f"{_path(site, model)}: as before the hold"]


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
