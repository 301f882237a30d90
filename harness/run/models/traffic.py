"""Who still asks a version, from Triton's own counters: they count every request, whoever sends it.

A request is counted when it ends. Triton does not count whether a request named its version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.triton import Control, Counts

POLL_S = 0.25
LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`requests` that ended at `version` of the server `url` within `window_s` (shorter where the first was enough).

    `note` is not empty where the count says too little: the version left, or was loaded anew, meanwhile.
    """

    url: str
    version: int
    requests: int
    window_s: float
    note: str = ""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.window_s if self.window_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Strays:
    """Requests that reach the highest READY version, where every request that names no version goes.

    A higher one that becomes READY takes those of them that name none. How many do cannot be told from the counters.
    """

    arrivals: Arrivals
    wanted: int

    def __str__(self) -> str:
        seen = self.arrivals
        if seen.note:
            return seen.note
        return (
            f"{seen.rate:.3g} requests/s reach version {seen.version} on {seen.url}, the highest READY one; those that "
            f"name no version (Triton does not count which) would all go to version {self.wanted} once it is READY"
        )


def unversioned(control: Control, model: str, desired: Sequence[int], window_s: float) -> Strays | None:
    """Requests that could be taken over if exactly `desired` became READY on this server; None where none arrive.

    Watches the counters for `window_s`; returns at once where `desired` holds no version above those that serve.
    """
    found = strays([control], model, {control.url: tuple(desired)}, window_s)
    return found[0] if found else None


def strays(
    controls: Sequence[Control], model: str, desired: Mapping[str, Sequence[int]], window_s: float
) -> list[Strays]:
    """The same of several servers at once; `desired` by URL."""
    highest: dict[str, int] = {}
    for control in controls:
        ready, wanted = control.loaded(model), desired[control.url]
        if ready and wanted and max(wanted) > max(ready):
            highest[control.url] = max(ready)
    watched = [control for control in controls if control.url in highest]
    return [
        Strays(seen, max(desired[seen.url]))
        for seen in arrivals(watched, model, highest, window_s)
        if seen.requests or seen.note
    ]


def arrivals(
    controls: Sequence[Control], model: str, versions: Mapping[str, int], window_s: float, *,
    until_first: bool = False, say: Callable[[str], None] = lambda _: None,
) -> list[Arrivals]:  # fmt: skip
    """Watch one version of each server (`versions`, by URL) for `window_s`, or until the first request is seen."""
    if not controls:
        return []
    # Triton counts a request just after it has answered it: what was answered before the watch is not part of it.
    time.sleep(POLL_S)
    before = {control.url: control.counts(model) for control in controls}
    began = time.monotonic()
    lines = 1
    while True:
        passed_s = time.monotonic() - began
        found = [
            _arrivals(control.url, versions[control.url], before[control.url], control.counts(model), passed_s)
            for control in controls
        ]
        if passed_s >= window_s or (until_first and any(seen.requests or seen.note for seen in found)):
            return found
        if passed_s >= lines * LINE_EVERY_S:
            lines += 1
            say(f"no request for {passed_s:.0f} s of {window_s:.0f} s")
        # Where only the sum matters, the counters are asked at both ends and no more.
        time.sleep(min(POLL_S, window_s - passed_s) if until_first else window_s - passed_s)


def _arrivals(
    url: str, version: int, before: Mapping[int, Counts], after: Mapping[int, Counts], window_s: float
) -> Arrivals:
    old, new = before.get(version), after.get(version)
    if old is None or new is None:
        return Arrivals(url, version, 0, window_s, f"version {version} of {url} was not READY all the time")
    if new.success < old.success or new.failure < old.failure:
        return Arrivals(url, version, new.total, window_s, f"version {version} of {url} was loaded anew meanwhile")
    return Arrivals(url, version, new.total - old.total, window_s)
