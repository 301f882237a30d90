"""From a store to what serves: a sync, and then only the models that it changed are loaded.

What to load is told by the repository before and after. The "before" is kept beside the journal until everything is
loaded, so a sync that was cut off between its files and its loads is finished by the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import CanaryError, UsageError, WorldError
from harness.files import atomic_write
from harness.run.models.change import ModelChange
from harness.run.models.history import Served
from harness.run.models.loading import checked
from harness.run.models.overview import after_restart
from harness.run.models.rules import Changed, Rules
from harness.run.models.site import Site
from harness.run.signals import Interrupted
from harness.store import Progress, Store, SyncResult, publish, sync
from harness.triton import read_config, versions_on_disk
from harness.triton.config_merge import keep_version_policy

__all__ = ["Deployed", "Load", "publish", "sync_and_load"]

Load = Literal["add", "latest", "no"]


@dataclass(frozen=True, slots=True)
class Deployed:
    """`changed`: one for each change of what serves."""

    result: SyncResult
    changed: tuple[Changed, ...]


def sync_and_load(
    site: Site | None, store: Store, repository: Path | None = None, *, models: Sequence[str] | None = None,
    versions: Sequence[int] | None = None, load: Load = "add", rules: Rules | None = None,
    staging: Path | None = None, workers: int = 4, without_manifest: bool = False, dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Deployed:  # fmt: skip
    """Sync `store` into `repository` (the site's); then, on its servers if any, only what changed is loaded.

    `add`: new versions join those that serve. `latest`: the highest one joins, and once it is verified the others
    leave. A changed config.pbtxt, which keeps its local version_policy, is applied to what serves. Of a model that does
    not serve yet, its policy's versions are loaded. Every model gets its turn; WorldError (or UsageError) names those
    that failed, and the next sync tries them again.
    """
    rules = rules or Rules()
    repository = repository or (site.repository if site else None)
    if repository is None:
        raise UsageError("a sync needs a model repository: --repository DIR")
    repository = repository.resolve()

    def fetch() -> SyncResult:
        return sync(
            store, repository, models=models, versions=versions, staging=staging, workers=workers,
            without_manifest=without_manifest, dry_run=dry_run, merge_config=keep_version_policy, progress=progress,
        )  # fmt: skip

    if dry_run or load == "no" or site is None:
        return Deployed(fetch(), ())
    with site.changing(), _kept(site.journal.folder, repository) as kept:
        result = fetch()
        return _Loads(site, repository, kept, load, rules).run(result)


@dataclass(frozen=True)
class _Kept:
    """The repository as it was before the first sync whose loads are not all done, in `path` until they are."""

    path: Path
    before: dict[str, Mapping[str, Any]]

    def loaded(self, model: str, now: Mapping[str, Any]) -> None:
        """Another model's failure is no reason to load this one again: an operator may take it out meanwhile."""
        self.before[model] = now
        self.save()

    def save(self) -> None:
        atomic_write(self.path, json.dumps(self.before).encode())


class _Loads:
    def __init__(self, site: Site, repository: Path, kept: _Kept, load: Load, rules: Rules) -> None:
        self._site, self._repository, self._kept = site, repository, kept
        self._load, self._rules = load, rules
        self._changed: list[Changed] = []

    def run(self, result: SyncResult) -> Deployed:
        failures: list[CanaryError] = []
        for model, now in _seen(self._repository).items():
            old = self._kept.before.get(model, {"versions": [], "config": "", "text": ""})
            added = [version for version in now["versions"] if version not in old["versions"]]
            refresh = bool(old["versions"]) and now["config"] != old["config"]
            if not added and not refresh:
                continue
            try:
                self._model(model, added, refresh, old["text"])
                self._kept.loaded(model, _seen(self._repository)[model])
            except Interrupted:
                raise
            except CanaryError as error:
                failures.append(error)
        if failures:
            words = "; ".join(map(str, failures))
            raise failures[0] if len(failures) == 1 else WorldError(words)
        return Deployed(result, tuple(self._changed))

    def _model(self, model: str, added: Sequence[int], refresh: bool, old_text: str) -> None:
        site, rules = self._site, self._rules
        before = site.loaded(model)
        wanted = {url: self._joined(model, ready, added) for url, ready in before.items()}
        if not any(wanted.values()):
            return
        if wanted != before or refresh:
            change = checked(site, model, before, wanted, rules)
            change.refresh, change.config_before = refresh, old_text if refresh else None
            self._changed.append(change.run())
        if self._load == "latest":
            self._leave(model, wanted, added)

    def _joined(self, model: str, ready: tuple[int, ...], added: Sequence[int]) -> tuple[int, ...]:
        if not ready:
            policy = read_config(self._repository / model / "config.pbtxt").get("version_policy", {})
            return after_restart(policy, versions_on_disk(self._repository, model)) if added else ()
        if self._load == "latest":
            return tuple(sorted({*ready, max([*ready, *added])}))
        return tuple(sorted({*ready, *added}))

    def _leave(self, model: str, served: Served, added: Sequence[int]) -> None:
        """The new version serves, also where an earlier sync was cut off after its load: the older ones go."""
        wanted = {url: versions[-1:] if {*versions[-1:]} & {*added} else versions for url, versions in served.items()}
        if wanted != dict(served):
            self._changed.append(ModelChange(self._site, model, served, wanted, self._rules).run())


def _seen(repository: Path) -> dict[str, dict[str, Any]]:
    """Versions and configuration of each model that lies in the repository."""
    found = {}
    for folder in sorted(repository.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            config = folder / "config.pbtxt"
            data = config.read_bytes() if config.is_file() else b""
            found[folder.name] = {
                "versions": list(versions_on_disk(repository, folder.name)),
                "config": hashlib.sha256(data).hexdigest() if data else "",
                "text": data.decode(errors="replace"),
            }
    return found


@contextmanager
def _kept(folder: Path, repository: Path) -> Iterator[_Kept]:
    """What an earlier sync has left, or the repository as it is now. Gone once everything is loaded."""
    path = folder / f"sync-{hashlib.sha256(bytes(repository)).hexdigest()[:12]}.json"
    now = _seen(repository)
    before = now
    if path.exists():
        with suppress(ValueError):
            before = json.loads(path.read_text())
    kept = _Kept(path, dict(before))
    kept.save()
    try:
        yield kept
    except BaseException:
        if before is now and _seen(repository) == now:
            path.unlink()  # nothing came
        raise
    path.unlink()
