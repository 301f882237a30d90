"""An operation under way: its folder, its servers, and the facts that it has seen so far."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.embedded import EmbeddedServer
from harness.recording import write_observations
from harness.run.embedded_store import start_store
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.run.models import Site, open_site
from harness.run.operations.demonstration import start_triton
from harness.scenario import Operation, PlaceConfig, StoreConfig
from harness.store import Store, open_store
from harness.triton import Control, access

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """A Triton with its repository. `server` is None where it is not ours; its models are changed through `site`."""

    name: str
    repository: Path
    site: Site
    server: EmbeddedServer | None
    known: int
    """Actions that its journal had before this run."""

    @property
    def changed(self) -> bool:
        """Whether this run has begun to change it."""
        return len(self.site.journal.entries()) > self.known

    @property
    def control(self) -> Control:
        """The first server behind the address; all of them read the same repository."""
        return self.site.servers[0]

    def ready(self, model: str) -> list[int]:
        """The versions that are READY on every server behind the address, each by its own word."""
        found = [
            {version for version in control.loaded(model) if control.ready(model, version)}
            for control in self.site.servers
        ]
        return sorted(set.intersection(*found))

    def somewhere(self, model: str) -> list[int]:
        """The versions that are READY on any of them."""
        return sorted({version for served in self.site.loaded(model).values() for version in served})

    def counts(self, model: str, version: int) -> dict[str, int]:
        """Requests by Triton's own counters, over all of them; nothing where the version is not READY."""
        found = [counts[version] for control in self.site.servers if version in (counts := control.counts(model))]
        return {"success": sum(one.success for one in found), "failure": sum(one.failure for one in found)}

    def again(self) -> Control:
        """A connection of its own, for another thread. Close it."""
        return Control(self.control.url, _access())

    def check(self) -> None:
        """Raises ServerDied where our own server has ended by itself."""
        if self.server is not None:
            self.server.check()


@dataclass
class Course:
    """`facts` is what observations.json holds: write to it through `note`, or change it and call `save`."""

    scenario: Operation
    folder: RunFolder
    say: Say
    stack: ExitStack
    facts: dict[str, Any]
    places: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.folder.path)
        self.save()

    def note(self, **facts: Any) -> None:
        self.facts.update(facts)
        self.save()

    def save(self) -> None:
        write_observations(self.folder.path, self.facts)

    def open_place(self, config: PlaceConfig, models: Mapping[str, Mapping[int, Any]], name: str = "") -> Place:
        """A running Triton, or an embedded one that serves `models` (versions to builds), which may be none.

        `name`: of a place among several; its files and its journal lie in a folder of that name.
        """
        folder = self.folder.path / name
        server = None
        if config.server is not None:
            self.say(f"starting Triton{f' for {name}' if name else ''}")
            with self.journal.action("server.start", name or "embedded"):
                server = start_triton(folder, models, self.stack)
            url, repository = server.grpc_url, server.repository
        else:
            assert config.url is not None
            assert config.repository is not None
            url, repository = config.url, Path(config.repository).resolve()
        # What was done to somebody's server is remembered where `models` looks too, and the next run.
        own = Journal(folder) if name else self.journal
        state = own if server is not None else None
        site = self.stack.enter_context(open_site([url], _access(), repository, say=self.say, state=state))
        place = Place(name, repository, site, server, len(site.journal.entries()))
        self.places.append(place)
        return place

    def open_store(self, config: StoreConfig) -> Store:
        """The user's store, or the bucket of an S3 server that is started for the run."""
        if config.server is not None:
            self.say("starting an S3 server")
            with self.journal.action("store.start", "embedded"):
                store = start_store(self.folder.path, self.stack)
        else:
            assert config.url is not None
            store = open_store(config.url, endpoint=config.endpoint)
        self.stack.callback(store.close)
        return store


def _access() -> Any:
    """Headers and tokens come from the environment only: a scenario file is no place for them."""
    return access(environment=os.environ)
