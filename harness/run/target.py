"""Where a run takes place: an embedded Triton of its own, or servers that are there already."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
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
from harness.errors import UsageError
from harness.run.embedded_store import build_and_publish, start_store
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.scenario import ArmConfig, Scenario
from harness.store import Store, open_store
from harness.triton import Access, Control
from harness.types import Arm, ArmName, Tls


@dataclass(frozen=True)
class Target:
    """The two arms with their addresses, and what else is known of the place.

    `repository` is None where this machine does not see the server's model repository; `server_pid` where the
    server is not ours. `ours_to_change`: versions may be loaded and unloaded there. `controls`: none for an arm
    behind a front end that speaks no KServe, where `target.url` does not say who does. `store`: where a deploy finds
    the candidate. `check` raises ServerDied when our own server has ended by itself.
    """

    arms: dict[ArmName, Arm]
    metrics_url: str | None
    repository: Path | None
    server_pid: int | None
    ours_to_change: bool
    check: Callable[[], None]
    store: Store | None = None
    controls: dict[ArmName, Control] = field(default_factory=dict)


def open_target(scenario: Scenario, folder: RunFolder, journal: Journal, stack: ExitStack) -> Target:
    """Start or find the server. On return the baseline serves; the candidate is in the store, if there is one, else in
    the repository; it is not loaded by us.

    Raises UsageError where the embedded server cannot run here, or the baseline is not served.
    """
    target = (
        _embedded(scenario, folder, journal, stack)
        if scenario.target.server == "embedded"
        else Target(
            arms={name: _arm(config, scenario.target.url) for name, config in scenario.arms.items()},
            metrics_url=scenario.target.metrics_url,
            repository=Path(scenario.target.repository).resolve() if scenario.target.repository else None,
            server_pid=None,
            # An arm that brings its own address is compared, not operated.
            ours_to_change=scenario.target.url is not None and scenario.candidate.url is None,
            check=lambda: None,
            store=_opened(scenario),
        )
    )
    if target.store is not None:
        stack.callback(target.store.close)
    for name, arm in target.arms.items():
        url = arm.url if arm.api != "openai" else scenario.target.url
        if url is not None:
            target.controls[name] = stack.enter_context(Control(url, access_of(arm)))
    _baseline_serves(target)
    _config_is_there(scenario, target)
    return target


def _embedded(scenario: Scenario, folder: RunFolder, journal: Journal, stack: ExitStack) -> Target:
    baseline, candidate = scenario.baseline, scenario.candidate
    missing = available() or model_available(baseline.model) or model_available(candidate.model)
    if scenario.store is not None:
        missing = missing or s3_available()
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
    elif candidate.model == baseline.model:
        add_version(repository, candidate.model, second, candidate.build or "same")
    else:
        build_repository(repository, {candidate.model: {second: candidate.build or "same"}})
    load = {baseline.model: [first]}
    server = EmbeddedServer(repository, folder.path / "server.log")
    with journal.action("server.start", "embedded", wanted={"repository": str(repository), "load": load}):
        stack.callback(server.stop)
        server.start(load=load)
    return Target(
        arms={name: _arm(config, _embedded_url(server, config)) for name, config in scenario.arms.items()},
        metrics_url=server.metrics_url,
        repository=repository,
        server_pid=server.pid,
        ours_to_change=True,
        check=server.check,
        store=store,
    )


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
    if scenario.on_promote is None or target.repository is None:
        return
    for arm in target.arms.values():
        config = target.repository / arm.model / "config.pbtxt"
        if not os.access(config, os.R_OK | os.W_OK):
            raise UsageError(f"{config}: cannot be written, and a promotion has to write its version_policy")
