"""The dynamic batcher's setting, changed on every server of a site: journaled, verified, all of it or nothing.

It lives in the servers' memory only. config.pbtxt keeps its own, which is what a server comes back with after a
restart: by night, too, that is the day's setting, and the safe one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import CanaryError, UsageError
from harness.run.models.history import CHANGE, TUNE
from harness.run.models.loading import check_dependents
from harness.run.models.rules import Rules
from harness.run.models.site import Site
from harness.run.signals import interruptible
from harness.triton import Batching, Control

Settings = Mapping[str, Batching]
"""By server URL."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The setting of `model` by server URL, before and after. `called`: servers that were sent anything."""

    model: str
    before: Settings
    after: Settings
    called: tuple[str, ...]
    took_s: float


def tune(
    site: Site, model: str, delay_us: int, preferred: Sequence[int] | None = None, *, rules: Rules | None = None
) -> Tuned:
    """Make requests of `model` wait `delay_us` at most for others; `preferred` batch sizes as they are unless given.

    Each server loads the versions that it serves with their whole configuration and the new setting. Raises, and has
    changed nothing: UsageError (no version serves, or it cannot be batched), UnsafeChange (an ensemble depends on it).
    Raises, and has put everything back: LoadFailed, LoadMismatch, ChangedMeanwhile, Unreachable.
    """
    with site.changing():
        before = settings(site, model)
        wanted = {url: setting.changed(delay_us, preferred) for url, setting in before.items()}
        return apply_settings(site, model, wanted, rules or Rules())


def settings(site: Site, model: str) -> dict[str, Batching]:
    """What serves now, by server. Raises UsageError where nothing does, or the versions of a server differ."""
    found = {}
    for control in site.servers:
        versions = control.batching(model)
        if not versions:
            raise UsageError(f"{model}: serves no version on {control.url}, so there is no setting to change")
        first, *others = versions.values()
        if any(other != first for other in others):
            each = "; ".join(f"version {version}: {setting}" for version, setting in versions.items())
            raise UsageError(
                f"{model}: its versions on {control.url} differ ({each}): load them with one configuration"
            )
        found[control.url] = first
    return found


def apply_settings(site: Site, model: str, wanted: Settings, rules: Rules) -> Tuned:
    """See `tune`; `wanted` by server. Nothing is written or sent where all of it is so already."""
    began = time.monotonic()
    with site.changing():
        before = settings(site, model)
        served = {url: list(versions) for url, versions in site.loaded(model).items()}
        moving = [control for control in site.servers if before[control.url] != wanted[control.url]]
        if not moving:
            return Tuned(model, before, dict(wanted), (), time.monotonic() - began)
        check_dependents(moving, model, rules)
        with (
            interruptible() as signals,
            site.journal.action(
                CHANGE,
                model,
                before={"served": served, TUNE: plain(before)},
                wanted={"served": served, TUNE: plain(wanted)},
            ),
        ):
            steps: list[tuple[Control, int]] = []
            try:
                for control in moving:
                    _one(site, model, control, before, wanted, rules, steps)
            except BaseException as error:
                signals.ignore()
                left = _put_back(site, model, before, steps)
                if isinstance(error, CanaryError):
                    error.args = ("; ".join([str(error), *left]),)
                raise
    return Tuned(model, before, dict(wanted), tuple(control.url for control in moving), time.monotonic() - began)


def plain(found: Settings) -> dict[str, Any]:
    """For the journal."""
    return {url: setting.section for url, setting in found.items()}


def of_plain(found: Mapping[str, Any]) -> dict[str, Batching]:
    """From the journal."""
    return {url: Batching(section) for url, section in found.items()}


def _one(
    site: Site, model: str, control: Control, before: Settings, wanted: Settings, rules: Rules,
    steps: list[tuple[Control, int]],
) -> None:  # fmt: skip
    url = control.url
    versions = control.loaded(model)
    site.say(f"{url}: {model}: {before[url]} -> {wanted[url]}")
    with site.journal.action(TUNE, f"{url}/{model}", before=before[url].section, wanted=wanted[url].section) as seq:
        steps.append((control, seq))
        control.set_batching(model, wanted[url], expected=versions)
    if rules.probe:
        for version in versions:
            control.probe(model, version)


def _put_back(site: Site, model: str, before: Settings, steps: list[tuple[Control, int]]) -> list[str]:
    left = []
    for control, seq in reversed(steps):
        url = control.url
        error = attempt(
            lambda control=control, seq=seq: set_back(site, model, control, before[control.url], [seq])  # type: ignore[misc]
        )
        if error:
            left.append(f"NOT PUT BACK: {url}: {error}; to finish: triton-canary models restore {model}")
    return left


def set_back(site: Site, model: str, control: Control, wanted: Batching, undoes: list[int]) -> None:
    """As it was, whatever versions serve by now; the journal says what it undoes."""
    with site.journal.action(TUNE, f"{control.url}/{model}", wanted=wanted.section, undoes=undoes):
        control.set_batching(model, wanted)


def attempt(action: Callable[[], None]) -> str:
    """What went wrong, in words; "" if nothing: the next server must get its turn."""
    try:
        action()
    except CanaryError as error:
        return str(error)
    return ""
