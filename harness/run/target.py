"""Where a run takes place: an embedded Triton of its own, or servers that are there already."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.embedded import (
    EmbeddedServer,
    add_version,
    available,
    build_repository,
    model_available,
    reference_build,
    s3_available,
)
from harness.errors import Unreachable, UsageError, WorldError
from harness.ingress import Ingress
from harness.run.embedded_store import build_and_publish, start_store
from harness.run.folder import RunFolder
from harness.run.hooks import run_hook
from harness.run.journal import Journal
from harness.run.routers import Front, missing_ingress, start_ingress, user_ingress
from harness.scenario import ArmConfig, Scenario
from harness.store import Store, open_store
from harness.triton import Access, Control
from harness.types import Arm, ArmName, Tls

START_S = 300.0
"""How long a server that a command has started may take to answer."""
GREEN = "green"
"""The folder of the candidate's own Triton."""


@dataclass(frozen=True)
class Target:
    """The two arms with their addresses, and what else is known of the place.

    `pages`: where metrics are read. `repositories`: None where this machine does not see the model repository of the
    arm's server; `server_pid` where the server is not ours. `ours_to_change`: versions may be loaded and unloaded on
    the candidate's server. `apart`: it has one of its own. `controls`: none for an arm behind a front end that speaks
    no KServe, where `target.url` does not say who does. `store`: where a deploy finds the candidate. `front`: the
    ingress, where there is one. `stop` ends an arm's own server. `check` raises ServerDied when a server of our own has
    ended by itself.
    """

    arms: dict[ArmName, Arm]
    pages: tuple[str, ...]
    repositories: dict[ArmName, Path | None]
    server_pid: int | None
    ours_to_change: bool
    check: Callable[[], None]
    store: Store | None = None
    controls: dict[ArmName, Control] = field(default_factory=dict)
    front: Front | None = None
    stop: dict[ArmName, Callable[[], None]] = field(default_factory=dict)
    apart: bool = False

    @property
    def routers(self) -> tuple[Ingress, ...]:
        return self.front.routers if self.front is not None else ()


def open_target(scenario: Scenario, folder: RunFolder, journal: Journal, stack: ExitStack) -> Target:
    """Start or find the server. On return the baseline serves; the candidate is in the store, if there is one, else in
    the repository; it is not loaded by us.

    Raises UsageError where the embedded server cannot run here, or the baseline is not served.
    """
    embedded = scenario.target.server == "embedded"
    target = (_embedded if embedded else _running)(scenario, folder, journal, stack)
    if target.store is not None:
        stack.callback(target.store.close)
    for name, arm in target.arms.items():
        url = arm.url if arm.api != "openai" else scenario.target.url
        if url is not None:
            target.controls[name] = stack.enter_context(Control(url, access_of(arm)))
    _baseline_serves(target)
    _config_is_there(scenario, target)
    return target


def _running(scenario: Scenario, _: RunFolder, journal: Journal, stack: ExitStack) -> Target:
    """Servers that are somebody else's, or that the user's commands start."""
    candidate = scenario.candidate
    arms = {name: _arm(config, scenario.target.url) for name, config in scenario.arms.items()}
    front = user_ingress(scenario, arms, stack)
    if candidate.start is not None and not _lives(arms["candidate"]):
        # One that lives has perhaps users, and is not ours to stop.
        run_hook(journal, f"start {candidate.url}", candidate.start, undo=candidate.stop)
        _await_live(arms["candidate"])
    common = scenario.target.repository
    repositories = {
        name: config.repository or (None if config.url else common) for name, config in scenario.arms.items()
    }

    def stopper(name: ArmName) -> Callable[[], None]:
        config = scenario.arms[name]
        assert config.stop is not None
        command = config.stop
        return lambda: run_hook(journal, f"stop {config.url}", command, undo=config.start)

    return Target(
        arms=arms,
        pages=scenario.target.metrics_url,
        repositories={name: Path(path).resolve() if path else None for name, path in repositories.items()},
        server_pid=None,
        # An arm that brings its own address alone is compared, not operated.
        ours_to_change=candidate.operated and (candidate.url or scenario.target.url) is not None,
        check=lambda: None,
        store=_opened(scenario),
        front=front,
        stop={name: stopper(name) for name, config in scenario.arms.items() if config.stop is not None},
        apart=candidate.url is not None,
    )


def _lives(arm: Arm) -> bool:
    with Control(arm.url, access_of(arm)) as control:
        try:
            control.live()
        except WorldError:
            return False
    return True


def _await_live(arm: Arm) -> None:
    """A server that was just started needs its time. Raises Unreachable once that is over."""
    deadline = time.monotonic() + START_S
    with Control(arm.url, access_of(arm)) as control:
        while True:
            try:
                control.live()
            except WorldError as error:
                if time.monotonic() > deadline:
                    raise Unreachable(f"{arm.url} does not answer {START_S:g} s after its start: {error}") from error
                time.sleep(0.2)
            else:
                return


def _embedded(scenario: Scenario, folder: RunFolder, journal: Journal, stack: ExitStack) -> Target:
    baseline, candidate = scenario.baseline, scenario.candidate
    missing = available() or model_available(baseline.model) or model_available(candidate.model)
    if scenario.store is not None:
        missing = missing or s3_available()
    missing = missing or missing_ingress(scenario)
    if missing:
        raise UsageError(missing)
    repository = folder.path / "models"
    first, second = baseline.version or 1, candidate.version or 1
    build_repository(repository, {baseline.model: {first: baseline.build or reference_build(baseline.model)}})
    store = None
    if scenario.store is not None:
        with journal.action("store.start", "embedded", wanted={"model": candidate.model, "version": second}):
            store = start_store(folder.path, stack)
            build_and_publish(store, candidate.model, second, candidate.build or "same")
    elif candidate.server is not None:
        build_repository(folder.path / GREEN / "models", {candidate.model: {second: candidate.build or "same"}})
    elif candidate.model == baseline.model:
        add_version(repository, candidate.model, second, candidate.build or "same")
    else:
        build_repository(repository, {candidate.model: {second: candidate.build or "same"}})
    load = {baseline.model: [first]}
    server = EmbeddedServer(repository, folder.path / "server.log")
    with journal.action("server.start", "embedded", wanted={"repository": str(repository), "load": load}):
        stack.callback(server.stop)
        server.start(load=load)
    servers = dict.fromkeys(scenario.arms, server)
    if candidate.server is not None:
        servers["candidate"] = _green(folder, journal, stack)
    stopped: set[EmbeddedServer] = set()

    def check() -> None:
        for each in servers.values():
            if each not in stopped:
                each.check()
        if front is not None:
            front.check()

    def stop(name: ArmName) -> None:
        stopped.add(servers[name])
        with journal.action("server.stop", name):
            servers[name].stop()

    front = start_ingress(scenario, folder, journal, servers, stack)
    own: tuple[ArmName, ...] = ("baseline", "candidate") if candidate.server is not None else ()
    return Target(
        arms={name: _arm(config, _embedded_url(servers[name], config)) for name, config in scenario.arms.items()},
        pages=(server.metrics_url,),
        repositories={name: each.repository for name, each in servers.items()},
        server_pid=server.pid,
        ours_to_change=True,
        check=check,
        store=store,
        front=front,
        stop={name: partial(stop, name) for name in own},
        apart=candidate.server is not None,
    )


def _green(folder: RunFolder, journal: Journal, stack: ExitStack) -> EmbeddedServer:
    """The candidate's own Triton, which serves nothing yet."""
    repository = folder.path / GREEN / "models"
    repository.mkdir(parents=True, exist_ok=True)
    server = EmbeddedServer(repository, folder.path / GREEN / "server.log")
    with journal.action("server.start", GREEN, wanted={"repository": str(repository)}):
        stack.callback(server.stop)
        server.start()
    return server


def _opened(scenario: Scenario) -> Store | None:
    if scenario.store is None or scenario.store.url is None:
        return None
    return open_store(scenario.store.url, endpoint=scenario.store.endpoint)


def _arm(config: ArmConfig, url: str | None) -> Arm:
    address = config.url or url
    if not address:
        raise UsageError(f"{config.model}: no server address: give target.url, or url beside the arm's model")
    return config.arm(address)


def _embedded_url(server: EmbeddedServer, config: ArmConfig) -> str:
    return server.grpc_url if config.api == "kserve" else server.http_url


def access_of(arm: Arm) -> Access:
    """How its server lets us in: as it does the arm's requests."""
    tls = arm.tls or Tls()
    ca, cert, key = (Path(name) if name else None for name in (tls.ca, tls.cert, tls.key))
    return Access(headers=arm.headers, ca=ca, cert=cert, key=key, server_name=tls.server_name)


def _baseline_serves(target: Target) -> None:
    arm = target.arms["baseline"]
    control = target.controls.get("baseline")
    if control is None:
        return
    control.live()
    served = control.loaded(arm.model)
    if not served:
        raise UsageError(f"{arm.model} serves no version on {arm.url}: the baseline must serve before a canary starts")
    if arm.version is not None and arm.version not in served:
        raise UsageError(f"{arm.model} version {arm.version} is not served on {arm.url}: ready are {list(served)}")


def _config_is_there(scenario: Scenario, target: Target) -> None:
    """Found out now, and not after the baseline was unloaded."""
    if scenario.on_promote is None:
        return
    for name, arm in target.arms.items():
        repository = target.repositories[name]
        if repository is None or (target.apart and name == "candidate"):
            continue  # a repository of its own gets it with the version
        config = repository / arm.model / "config.pbtxt"
        if not os.access(config, os.R_OK | os.W_OK):
            raise UsageError(f"{config}: cannot be written, and a promotion has to write its version_policy")
