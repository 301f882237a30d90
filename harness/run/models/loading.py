"""Versions join and leave what a model serves. Triton has no such calls: the desired set is the unit of control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.errors import UnsafeChange, UsageError
from harness.run.models.change import ModelChange
from harness.run.models.fit import fits, refuse
from harness.run.models.history import Served, history
from harness.run.models.rules import Changed, Persist, Rules
from harness.run.models.site import Site
from harness.run.models.traffic import strays
from harness.triton import Control, check_on_disk

NOT_SEEN = (
    "the version directories were not looked at: where one is missing, Triton reports success and may drop others; "
    "that is noticed afterwards, and put back"
)


def load(
    site: Site, model: str, versions: Sequence[int], *, exactly: bool = False, rules: Rules | None = None
) -> Changed:
    """Make `versions` READY beside what each server serves already, or (`exactly`) instead of it.

    Raises, and has changed nothing: VersionMissing; UnsafeChange where an ensemble depends on the model, a version does
    not fit into memory (also `exactly`: it comes before the others leave), or requests arrive that the new version
    would take over; UsageError. Raises, and has put everything back: LoadFailed,
    LoadMismatch (also where a probe is not answered properly), ChangedMeanwhile, Unreachable.
    """
    rules = rules or Rules()
    if not versions:
        raise UsageError(f"{model}: which version? Name it")
    with site.changing():
        before = site.loaded(model)
        wanted = {url: _sorted(versions if exactly else (*ready, *versions)) for url, ready in before.items()}
        return checked(site, model, before, wanted, rules).run()


def unload(
    site: Site, model: str, versions: Sequence[int] = (), *, everything: bool = False, rules: Rules | None = None
) -> Changed:
    """Take `versions` out and leave the others as they are, or (`everything`) the whole model. Raises as `load`.

    UsageError where nothing, or nothing but a part, would be left and `everything` was not said.
    """
    rules = rules or Rules()
    if everything == bool(versions):
        raise UsageError(
            f"{model}: which version? Triton's own unload would take out every one; that has to be asked for as such"
        )
    with site.changing():
        before = site.loaded(model)
        wanted = {url: _sorted(set(ready) - set(versions)) for url, ready in before.items()}
        if everything:
            wanted = dict.fromkeys(before, ())
        elif emptied := [url for url in before if before[url] and not wanted[url]]:
            raise UsageError(
                f"{model}: no version would be left on {', '.join(emptied)}: "
                "to take the whole model out, that has to be asked for as such"
            )
        return checked(site, model, before, wanted, rules).run()


def checked(site: Site, model: str, before: Served, wanted: Served, rules: Rules) -> ModelChange:
    """The change, after everything that can be known before it was looked at; nothing is touched yet."""
    site.say(f"{model}: {_words(before)} -> {_words(wanted)}")
    if history(site.journal.entries(), model).unfinished:
        site.say(f"{model}: an earlier change was cut off; this one goes on from what serves now")
    _on_disk(site, model, wanted)
    check_persist(site, model, rules.persist)
    moving = [control for control in site.servers if before[control.url] != wanted[control.url]]
    check_dependents(moving, model, rules)
    check_fit(site, model, before, wanted, rules)
    if not rules.versioned_clients:
        for stray in strays(moving, model, wanted, rules.window_s):
            raise UnsafeChange(f"{model}: {stray}: if every client names its version, say so (--versioned-clients)")
    return ModelChange(site, model, before, wanted, rules)


def _on_disk(site: Site, model: str, wanted: Served) -> None:
    needed = _sorted(version for versions in wanted.values() for version in versions)
    if site.repository is None:
        if needed:
            site.say(NOT_SEEN)
    elif needed:
        check_on_disk(site.repository, model, needed)


def check_dependents(moving: Iterable[Control], model: str, rules: Rules) -> None:
    """Raises UnsafeChange where an ensemble would change with the model."""
    for control in () if rules.dependents else moving:
        if found := control.dependents(model):
            raise UnsafeChange(
                f"{model}: {', '.join(found)} on {control.url} depend{'s' if len(found) == 1 else ''} on it and would "
                "change with it: to go on, allow it (--dependents)"
            )


def check_fit(site: Site, model: str, before: Served, wanted: Served, rules: Rules) -> None:
    """Raises UnsafeChange where what joins does not fit beside what serves; says so where that is not known."""
    joining = {url: versions for url, versions in wanted.items() if set(versions) - set(before[url])}
    for found in fits(site, model, joining, stated=rules.needs_bytes):
        refuse(found, allow="--even-if-it-does-not-fit", allowed=rules.unfit)
        site.say(found.sentence)


def check_persist(site: Site, model: str, persist: Persist) -> None:
    """Raises UsageError where there is no config.pbtxt to edit."""
    if persist == "no":
        return
    if site.repository is None:
        raise UsageError(f"{model}: config.pbtxt can only be edited where its repository is seen: --repository DIR")
    if not (site.repository / model / "config.pbtxt").is_file():
        raise UsageError(f"{site.repository / model}/config.pbtxt: does not exist, so it cannot keep what is served")


def _sorted(versions: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(versions)))


def _words(served: Served) -> str:
    """ "1, 2", or by server where they differ."""
    sets = {url: ", ".join(map(str, versions)) or "none" for url, versions in served.items()}
    if len(set(sets.values())) == 1:
        return next(iter(sets.values()))
    return " | ".join(f"{url}: {versions}" for url, versions in sets.items())
