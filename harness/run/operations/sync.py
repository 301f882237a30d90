"""repo-sync: a store into a repository, only what changed is loaded; noted before and after, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.errors import CanaryError, StoreError
from harness.run.embedded_store import build_and_publish
from harness.run.models import Deployed, Rules, sync_and_load
from harness.run.operations.course import Course, Place
from harness.run.operations.demonstration import break_version
from harness.run.operations.snapshot import snapshot
from harness.scenario import RepoSync
from harness.store import MANIFEST, Manifest, Store

LEFT, RIGHT = "tiny-a", "tiny-b"


def observe(course: Course) -> None:
    """One round on the user's store; on the embedded one a first state, a change, and a broken version."""
    scenario = course.scenario
    assert isinstance(scenario, RepoSync)
    course.note(rounds=[], demonstration=scenario.embedded)
    store = course.open_store(scenario.store)
    place = course.open_place(scenario.target, {})
    rounds = _Rounds(course, scenario, store, place)
    if not scenario.embedded:
        rounds.one("sync")
        return
    rounds.publish(LEFT, 1)
    rounds.publish(RIGHT, 1)
    rounds.one("first state", expected=[f"{LEFT}/1", f"{RIGHT}/1"])
    rounds.publish(RIGHT, 2)
    rounds.one("change", expected=[f"{RIGHT}/2"])
    rounds.publish(RIGHT, 3)
    broken = break_version(store, RIGHT, 3)
    course.say(f"broke {broken} in the store")
    rounds.one("broken download", broken=True)


class _Rounds:
    def __init__(self, course: Course, scenario: RepoSync, store: Store, place: Place) -> None:
        self._course, self._scenario, self._store, self._place = course, scenario, store, place

    def publish(self, model: str, version: int) -> None:
        self._course.say(f"publishing {model} version {version}")
        build_and_publish(self._store, model, version, "fp16", like="tiny")

    def one(self, name: str, *, expected: Sequence[str] = (), broken: bool = False) -> None:
        """Raises what failed, after its facts were noted; a download that is refused as expected is no failure."""
        course, place = self._course, self._place
        place.check()
        facts: dict[str, Any] = {
            "name": name, "expected": list(expected), "broken": broken, "refused": "", "sync": None,
            "before": self._snapshot(), "after": None, "wanted": [], "differences": {}, "probes": {},
        }  # fmt: skip
        course.facts["rounds"].append(facts)
        course.save()
        course.say(f"sync: {name}")
        failure: CanaryError | None = None
        try:
            with course.journal.action("sync", str(place.repository), wanted={"round": name, "store": self._store.url}):
                deployed = self._sync()
        except CanaryError as error:
            failure = error
            facts["refused"] = str(error) if isinstance(error, StoreError) else ""
        else:
            facts["sync"] = asdict(deployed.result)
            facts["wanted"] = _wanted(deployed)
        facts["after"] = self._snapshot()
        added = sorted(facts["after"]["versions"].keys() - facts["before"]["versions"].keys())
        facts["differences"] = {version: self._differences(version) for version in added}
        facts["probes"] = {version: self._probe(version) for version in added if version in facts["wanted"]}
        course.save()
        if failure is not None and not (broken and isinstance(failure, StoreError)):
            raise failure

    def _sync(self) -> Deployed:
        scenario = self._scenario
        return sync_and_load(
            self._place.site, self._store, models=scenario.models or None, load=scenario.load,
            rules=Rules(versioned_clients=scenario.versioned_clients or scenario.embedded),
        )  # fmt: skip

    def _snapshot(self) -> dict[str, Any]:
        return snapshot(self._place, self._scenario.models)

    def _differences(self, version: str) -> list[str]:
        """Of a version's files from the manifest that the store has of it; without one, from that which came along."""
        folder = self._place.repository / version
        key = f"{version}/{MANIFEST}"
        stored = self._store.list(f"{version}/").files.get(key)
        if stored is not None:
            data, where = b"".join(self._store.read(stored)), f"{self._store.url}/{key}"
        else:
            data, where = (folder / MANIFEST).read_bytes(), str(folder / MANIFEST)
        return Manifest.from_bytes(data, where).differences(folder)

    def _probe(self, name: str) -> str:
        model, _, version = name.rpartition("/")
        try:
            self._place.control.probe(model, int(version))
        except CanaryError as error:
            return str(error)
        return ""


def _wanted(deployed: Deployed) -> list[str]:
    """What should serve now of the models that were loaded: the last change of each."""
    last = {changed.model: changed for changed in deployed.changed}
    versions = {f"{model}/{v}" for model, changed in last.items() for vs in changed.after.values() for v in vs}
    return sorted(versions)
