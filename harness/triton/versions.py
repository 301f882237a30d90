"""The desired set of versions: the one safe unit of control that Triton offers.

Triton has no load or unload of one version. A load call with a `config` override whose version policy is
`specific {versions: [...]}` makes exactly those versions the served ones; those that stay keep serving
meanwhile. The override replaces the *whole* configuration (an override of the policy alone was measured to
leave a model without inputs), so it is built from the configuration that serves now. A success answer
proves nothing: a version without a directory is skipped in silence and its neighbours leave. So the
directory is looked at before, and the index after.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ChangedMeanwhile, LoadFailed, LoadMismatch, Unreachable, UsageError, VersionMissing
from harness.triton.config_text import read_config
from harness.triton.index import LOADING, UNLOADING, Index
from harness.triton.transport import Refused, Transport
from harness.triton.verify import listed, named, numbers, serving, verify


@dataclass(frozen=True, slots=True)
class Change:
    """What a call did to a model: the sets of READY versions before and after, and what was wanted.

    `called`: False where the index already said what was wanted, so nothing was sent (sending the same set
    again makes Triton initialise some of its versions anew). `draining`: versions that left the set and had
    not finished their last requests when patience ended: they take no new ones, but still hold memory.
    """

    model: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    wanted: tuple[int, ...]
    called: bool
    draining: tuple[int, ...]
    took_s: float


@dataclass(frozen=True, slots=True)
class Patience:
    """`load_s`: from a load call until its versions are READY; `drain_s`: for versions that leave."""

    load_s: float
    drain_s: float


def versions_on_disk(repository: Path, model: str) -> tuple[int, ...]:
    """The version directories of `model`. Raises VersionMissing if the repository has no such model."""
    folder = repository / model
    if not folder.is_dir():
        raise VersionMissing(f"{model}: is not in the repository {repository}")
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    # Triton skips names with a leading zero too.
    return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0"))


def check_on_disk(repository: Path, model: str, wanted: Sequence[int]) -> None:
    """Raises VersionMissing if a wanted version has no directory in the repository."""
    present = versions_on_disk(repository, model)
    missing = [version for version in wanted if version not in present]
    if missing:
        there = f"present: {numbers(present) or 'none'}"
        raise VersionMissing(f"{model}: {listed(missing)} not in the repository {repository} ({there})")


class ModelVersions:
    """The versions of one model on one server. `repository`: where this machine sees its models, or None."""

    def __init__(self, server: Transport, model: str, patience: Patience, repository: Path | None = None) -> None:
        self._server, self._model = server, model
        self._patience, self._repository = patience, repository
        self._replaced: Mapping[str, Any] = {}
        self._began = time.monotonic()

    def set(self, desired: Sequence[int], expected: Sequence[int] | None = None, refresh: bool = False) -> Change:
        """See `Control.set_versions`."""
        wanted = self._checked(desired, refresh)
        before = self._before(expected)
        called = refresh or before != wanted
        index = self._called(wanted, before, refresh) if called else self._settled()
        if not called:
            self._verify(wanted, before, index, None)
        return self._change(before, wanted, called, index)

    def configure(self, replaced: Mapping[str, Any], expected: Sequence[int] | None = None) -> Change:
        """See `Control.configure`."""
        before = self._before(expected)
        if not before:
            raise UsageError(f"{self._model}: serves no version, so there is no configuration to change")
        self._replaced = replaced
        return self._change(before, before, True, self._called(before, before, False))

    def settled(self) -> Index:
        """The index once no version of the model is loading, or when patience ends."""
        self._began = time.monotonic()
        return self._settled(drained=False)

    def unload(self) -> Change:
        """See `Control.unload`."""
        before = self._before(None)
        self._began = time.monotonic()
        try:
            self._server.unload(self._model, self._patience.drain_s)
        except Refused as refusal:
            raise LoadFailed(f"{self._model}: Triton does not unload it: {refusal}") from refusal
        index = self._settled()
        if left := index.ready(self._model):
            raise LoadMismatch(f"{self._model}: Triton reported it unloaded, but {serving(left)}")
        return self._change(before, (), True, index)

    def _checked(self, desired: Sequence[int], refresh: bool) -> tuple[int, ...]:
        model, wanted = self._model, tuple(sorted(set(desired)))
        if not wanted:
            raise UsageError(f"{model}: no version is wanted: to take the whole model out, unload it explicitly")
        if wanted[0] < 1:
            raise UsageError(f"{model}: {wanted[0]} is not a model version: they count from 1")
        if self._repository is not None:
            check_on_disk(self._repository, model, wanted)
        elif refresh:
            raise UsageError(f"{model}: a changed config.pbtxt is read from the repository: say where it is")
        return wanted

    def _before(self, expected: Sequence[int] | None) -> tuple[int, ...]:
        """The READY set once nobody's load is in progress. Raises ChangedMeanwhile, and nothing was sent."""
        self._began = time.monotonic()
        # What leaves already is no reason to wait; what is loading is somebody else's call in progress.
        index = self._settled(drained=False)
        ready = index.ready(self._model)
        if loading := index.in_state(self._model, LOADING):
            raise ChangedMeanwhile(
                f"{self._model}: {listed(loading)} LOADING by somebody else's call, and still after "
                f"{self._patience.load_s:g} s; {serving(ready)}; nothing was sent"
            )
        if expected is not None and ready != (seen := tuple(sorted(set(expected)))):
            raise ChangedMeanwhile(
                f"{self._model}: somebody else changed what serves: READY before: {numbers(seen) or 'none'}, "
                f"now: {numbers(ready) or 'none'}; nothing was sent"
            )
        return ready

    def _called(self, wanted: tuple[int, ...], before: tuple[int, ...], refresh: bool) -> Index:
        """Send the override, and hold what became of it against what was wanted."""
        self._began = time.monotonic()
        try:
            refusal = self._load(wanted, before, refresh)
            index = self._settled()
            self._verify(wanted, before, index, refusal)
        except Unreachable as error:
            raise Unreachable(
                f"{error}: it died, hangs or was cut off in the middle of loading {named(wanted)} of {self._model} "
                f"(READY before: {numbers(before) or 'none'}); a server restarted in explicit mode loads nothing by "
                "itself: once it is back, see what serves, and load or restore the versions"
            ) from error
        return index

    def _verify(self, wanted: tuple[int, ...], before: tuple[int, ...], index: Index, refusal: Refused | None) -> None:
        verify(self._server, self._model, wanted, before, index, refusal, on_disk=self._repository is not None)

    def _load(self, wanted: tuple[int, ...], before: tuple[int, ...], refresh: bool) -> Refused | None:
        """What Triton says against it is returned: the index is looked at either way."""
        try:
            override = {
                **self._base_config(wanted, before, refresh),
                **self._replaced,
                "version_policy": {"specific": {"versions": list(wanted)}},
            }
            kept = {key: value for key, value in override.items() if value is not None}
            self._server.load(self._model, json.dumps(kept), self._patience.load_s)
        except Refused as refusal:
            return refusal
        except Unreachable as error:
            # A proxy in between may have given up on a server that is alive and at work.
            self._server.live()
            return Refused(str(error), unfinished=True)
        return None

    def _base_config(self, wanted: tuple[int, ...], before: tuple[int, ...], refresh: bool) -> dict[str, Any]:
        """The configuration to keep: that of a version that serves and stays, else what a load would take.

        Each version keeps the configuration it was loaded with; another one would initialise it anew.
        """
        if before and not refresh:
            staying = [version for version in before if version in wanted]
            return self._server.config(self._model, (staying or before)[0])
        if self._repository is not None:
            return read_config(self._repository / self._model / "config.pbtxt")
        # Nothing serves, so nothing is harmed by Triton loading what its own disk says.
        self._server.load(self._model, None, self._patience.load_s)
        loaded = self._settled(drained=False).ready(self._model)
        return self._server.config(self._model, loaded[0] if loaded else None)

    def _settled(self, drained: bool = True) -> Index:
        """The index once no version is loading (nor, if `drained`, leaving) any more, or when patience ends."""
        while True:
            index = Index.of(self._server.index())
            loading, leaving = (index.in_state(self._model, state) for state in (LOADING, UNLOADING))
            waited_s = time.monotonic() - self._began
            if not (loading and waited_s < self._patience.load_s) and not (
                drained and leaving and waited_s < self._patience.drain_s
            ):
                return index
            time.sleep(min(0.5, 0.02 + waited_s / 20))

    def _change(self, before: tuple[int, ...], wanted: tuple[int, ...], called: bool, index: Index) -> Change:
        return Change(
            model=self._model,
            before=before,
            after=index.ready(self._model),
            wanted=wanted,
            called=called,
            draining=index.in_state(self._model, UNLOADING),
            took_s=time.monotonic() - self._began,
        )
