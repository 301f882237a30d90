"""The directory of a version that is retired: out of the repository by one rename, then archived or removed.

Each step is journaled before it is done, so a step that was cut off is found and finished, or gone back from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError, WorldError
from harness.run.journal import Journal
from harness.run.models.history import Past
from harness.store import Manifest
from harness.store.durable import fsync_folder, fsync_tree, make_folder, rename_new
from harness.store.retired import mark_retired, unmark_retired
from harness.store.staging import Staging

RETIRED = "retired"


@dataclass(frozen=True)
class Remains:
    """`home`: its place in the repository; `staged`: on the same filesystem, outside; `archived`: or None.

    `leaving`: its files in `staged` were begun to be removed, so they are not whole any more.
    """

    model: str
    version: int
    home: Path
    staged: Path
    staging: Staging
    archived: Path | None = None
    leaving: bool = False

    @classmethod
    def plan(
        cls, repository: Path, model: str, version: int, staging: Path | None, archive: Path | None,
        unfinished: Sequence[Past],
    ) -> Remains:  # fmt: skip
        """Raises UsageError where the directory cannot be renamed out of the repository."""
        place = Staging(repository, staging)
        return cls(
            model, version, place.repository / model / str(version), place.root / RETIRED / model / str(version),
            place, archive.resolve() / model / str(version) if archive else None, _leaving(unfinished),
        )  # fmt: skip

    @classmethod
    def of(cls, changes: Sequence[Past]) -> Remains | None:
        """What changes did to a directory, by the journal; None where they touched none."""
        steps = [step for past in changes for step in past.steps]
        moves = [step for step in steps if step.action == "version.move"]
        if not moves:
            return None
        archives = [step for step in steps if step.action == "version.archive" and step.state == "done"]
        home, staged = Path(moves[-1].before), Path(moves[-1].wanted)
        return cls(
            home.parent.name, int(home.name), home, staged, Staging(home.parent.parent, staged.parent.parent.parent),
            Path(archives[-1].wanted) if archives else None, _leaving(changes),
        )  # fmt: skip

    def check(self) -> None:
        """Raises UsageError where one place holds what another one should."""
        if self.home.is_dir() and self.staged.is_dir() and not self.leaving:
            raise UsageError(f"{self.staged}: is there from before, and {self.home} as well: move one of them away")
        if self.archived is not None and self.leaving and not self.home.is_dir() and not self.archived.is_dir():
            raise UsageError(
                f"{self.home}: its files were begun to be removed: nothing whole is left to archive (--remove finishes)"
            )
        if self.archived is not None and self.archived.exists() and self._source is not None and not self.leaving:
            self._same(self._source, self.archived)

    @property
    def there(self) -> bool:
        """Whether there is still anything to move or to remove."""
        return self._source is not None

    @property
    def _source(self) -> Path | None:
        return next((place for place in (self.home, self.staged) if place.is_dir()), None)

    def move(self, journal: Journal) -> None:
        """Out of the repository."""
        if self.leaving and self.staged.is_dir():
            shutil.rmtree(self.staged)
        if not self.home.is_dir():
            return
        with journal.action("version.move", self._name, before=str(self.home), wanted=str(self.staged)):
            mark_retired(self.home)
            self._rename(self.home, self.staged)

    def archive(self, journal: Journal) -> None:
        """Copied whole, compared, renamed; a copy that was cut off is made anew."""
        assert self.archived is not None
        if not self.staged.is_dir() or self.archived.is_dir():
            return
        partial = self.archived.with_name(f".{self.archived.name}.partial")
        with journal.action("version.archive", self._name, before=str(self.staged), wanted=str(self.archived)):
            try:
                make_folder(self.archived.parent)
                self._copy(self.staged, partial)
                rename_new(partial, self.archived)
            except OSError as error:
                raise WorldError(f"{self.archived}: cannot be written: {error.strerror or error}") from error

    def remove(self, journal: Journal) -> None:
        if not self.staged.is_dir():
            return
        with journal.action("version.remove", self._name, before=str(self.staged)):
            try:
                shutil.rmtree(self.staged)
            except OSError as error:
                raise WorldError(f"{error.filename}: cannot be removed: {error.strerror}") from error

    def bring_back(self, journal: Journal) -> str:
        """Into the repository again, from where it is now; what was done in a line, "" if it is there already.

        Raises WorldError where its files were removed.
        """
        if self.home.is_dir():
            unmark_retired(self.home)
            return ""
        with journal.action("version.return", self._name, wanted=str(self.home)):
            if self.staged.is_dir() and not self.leaving:
                self._return(self.staged)
                return f"{self.home}: back in the repository"
            if self.archived is None or not self.archived.is_dir():
                raise WorldError(f"{self.home}: was removed and cannot be brought back: sync or publish it again")
            copy = self.staged.with_name(f".{self.staged.name}.returning")
            try:
                make_folder(copy.parent)
                self._copy(self.archived, copy)
            except OSError as error:
                raise WorldError(f"{copy}: cannot be written: {error.strerror or error}") from error
            self._return(copy)
            return f"{self.home}: back in the repository, from {self.archived}"

    @property
    def _name(self) -> str:
        return f"{self.model}/{self.version}"

    def _return(self, source: Path) -> None:
        self._rename(source, self.home)
        unmark_retired(self.home)

    def _rename(self, source: Path, target: Path) -> None:
        try:
            self.staging.make()
            make_folder(target.parent)
            with self.staging.held():
                rename_new(source, target)
                fsync_folder(source.parent)
        except OSError as error:
            raise WorldError(f"{source}: cannot be renamed to {target}: {error.strerror}") from error

    def _copy(self, source: Path, target: Path) -> None:
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(source, target)
        for base, _, files in os.walk(target):
            for name in files:
                descriptor = os.open(Path(base) / name, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        fsync_tree(target)
        self._same(source, target)

    def _same(self, one: Path, other: Path) -> None:
        manifest = Manifest.of_folder(one, self.model, self.version)
        if found := manifest.differences(other):
            raise UsageError(f"{other}: is there already and is not the same version: {found[0]}")


def _leaving(changes: Sequence[Past]) -> bool:
    return any(step.action == "version.remove" for past in changes for step in past.steps)
