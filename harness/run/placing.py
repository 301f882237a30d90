"""The two builds of a checkout, on a server under names of their own: put into its repository, and loaded.

The journal has `model.place` for each folder, from before it is made. What is put back unloads first, and then removes
the folder, if its mark says that it is this run's; nothing else in the repository is ever touched.
"""

from __future__ import annotations

import os
import py_compile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LoadFailed, LoadMismatch, StoreError, UsageError, WorldError
from harness.failures import OOM, kind_of
from harness.run.builds import CONFIG, Build
from harness.run.checkout import Checkout
from harness.run.journal import Journal
from harness.run.machine import look
from harness.run.models.fit import fit, refuse
from harness.run.placed import MARK, PLACE, mark, placed_in, remove
from harness.run.world import set_versions
from harness.triton import Control, rename_models
from harness.types import ArmName

BYTECODE = "__pycache__"


class DoesNotLoad(LoadFailed):
    """The candidate's build, where the baseline's loaded: that is a verdict, and no accident."""


@dataclass(frozen=True)
class Placing:
    """`names`: what each model of a build is called there. `repository`: the server's, as this machine sees it."""

    checkout: Checkout
    names: Mapping[ArmName, Mapping[str, str]]
    control: Control
    repository: Path
    journal: Journal
    say: Callable[[str], None]
    unfit: bool = False

    def all(self) -> None:
        """Both builds serve. Raises DoesNotLoad, UnsafeChange where one does not fit, and what the server's calls
        raise.
        """
        self._check_server()
        for folder, run in placed_in(self.repository).items():
            self.say(f"{folder}: put there by {run}: if that is over, unload {folder.name} and remove the folder")
        try:
            self._arm("baseline", self.checkout.base_words)
        except (LoadFailed, LoadMismatch) as error:
            raise LoadFailed(f"the base's build does not load, so there is nothing to compare with: {error}") from error
        try:
            self._arm("candidate", "the working tree")
        except (LoadFailed, LoadMismatch) as error:
            self._make_ready_again()
            if kind_of(str(error)) == OOM:
                raise  # beside the baseline's; alone it might
            raise DoesNotLoad(f"the checkout's build does not load, and the base's does: {error}") from error

    def _check_server(self) -> None:
        """Raises UsageError unless models are loaded there on request, from that folder. Nothing is changed."""
        if not os.access(self.repository, os.R_OK | os.W_OK | os.X_OK):
            raise UsageError(f"{self.repository}: cannot be written to: both builds are put there to be compared")
        try:
            self.control.unload(self.names["candidate"][self.checkout.head_build.model])
        except LoadFailed as error:
            raise UsageError(
                f"{self.control.url}: loads no model on request, so the builds cannot be brought there "
                f"(--model-control-mode=explicit): {error}"
            ) from error

    def _arm(self, arm: ArmName, called: str) -> None:
        build, names = self.checkout.builds[arm], self.names[arm]
        for model in build.order:
            self._place(build, model, names, self.repository / names[model])
        if names[build.model] not in self.control.index().models:
            raise UsageError(f"{self.repository}: is not the model repository of {self.control.url}")
        for model in build.order:
            versions = build.versions[model]
            self.say(f"loading {model} version {', '.join(map(str, versions))} of {called} as {names[model]}")
            # One without config.pbtxt says itself what it takes, once it is loaded.
            repository = self.repository if CONFIG in build.files[model] else None
            found = fit(
                self.control, names[model], versions, journal=self.journal, look=look, repository=self.repository
            )
            refuse(found, allow="--even-if-it-does-not-fit", allowed=self.unfit)
            set_versions(self.journal, self.control, names[model], versions, repository)

    def _place(self, build: Build, model: str, names: Mapping[str, str], target: Path) -> None:
        if target.exists():
            raise UsageError(f"{target}: is there already: another run's, or what is left of one; see its {MARK}")
        with self.journal.action(PLACE, str(target), wanted=sorted(build.placed(model))):
            self._write(build, model, names, target)

    def _write(self, build: Build, model: str, names: Mapping[str, str], target: Path) -> None:
        source = self.checkout.repository
        try:
            target.mkdir()
            _write(target / MARK, mark(self.journal.folder))
            for version in build.versions[model]:
                (target / str(version)).mkdir()
            for path, file in build.placed(model).items():
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                if path == CONFIG:
                    _write(place, rename_models(source.read(file), model, names, file.path))
                else:
                    source.copy(file, place)
                if place.suffix == ".py":
                    # Else the server writes it, takes the version for changed, and initialises it once more when the
                    # ensemble is loaded. And what it writes all the same lies in a folder of ours, and can be removed.
                    (place.parent / BYTECODE).mkdir(exist_ok=True)
                    py_compile.compile(str(place), quiet=2)
            for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
                folder.chmod(0o755)
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror}") from error

    def _make_ready_again(self) -> None:
        """After a load that failed the server as a whole says not ready, until that version has loaded: so the base's
        build is loaded once in its place. A server without others is left as it is.
        """
        build, other = self.checkout.builds["candidate"], self.checkout.builds["baseline"]
        ours = {name for names in self.names.values() for name in names.values()}
        index = self.control.index()
        if not any(index.ready(model) for model in index.models if model not in ours):
            return
        for model in build.order:
            name = self.names["candidate"][model]
            failed = [state.version for state in index.states(name) if state.state != "READY"]
            stand_in = model if model in other.files else other.model
            for version in failed:
                self._stand_in(other, stand_in, name, version)

    def _stand_in(self, other: Build, model: str, name: str, version: int) -> None:
        target = self.repository / name
        with suppress(OSError, WorldError, UsageError):
            remove(target, self.journal.folder)
            names = {**self.names["baseline"], model: name}
            self._write(other, model, names, target)
            there = target / str(max(other.versions[model]))
            if there.name != str(version):
                there.rename(target / str(version))
            self.control.set_versions(name, [version], repository=self.repository, refresh=True)


def _write(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    place.chmod(0o644)
