"""What serves where, and what would not survive a restart. Looks only; changes nothing and takes no lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CanaryError
from harness.run.models.history import for_server, history
from harness.run.models.history import models as known_models
from harness.run.models.site import Site
from harness.triton import Control, read_config, versions_on_disk


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """`requests` since this version was loaded, failed ones included; None where it is not READY."""

    version: int
    state: str
    reason: str
    requests: int | None


@dataclass(frozen=True, slots=True)
class ModelStatus:
    model: str
    versions: tuple[VersionStatus, ...]

    @property
    def ready(self) -> tuple[int, ...]:
        return tuple(version.version for version in self.versions if version.state == "READY")


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """`ready`: what the server as a whole says; it is no word on its models. `error`: why there is nothing else."""

    url: str
    ready: bool
    models: tuple[ModelStatus, ...]
    error: str = ""

    def of(self, model: str) -> ModelStatus:
        return next((found for found in self.models if found.model == model), ModelStatus(model, ()))


@dataclass(frozen=True, slots=True)
class Status:
    servers: tuple[ServerStatus, ...]
    warnings: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "servers": [
                {
                    "url": server.url, "ready": server.ready, "error": server.error,
                    "models": [
                        {
                            "model": model.model,
                            "versions": [
                                {
                                    "version": version.version, "state": version.state, "reason": version.reason,
                                    "requests": version.requests,
                                }
                                for version in model.versions
                            ],
                        }
                        for model in server.models
                    ],
                }
                for server in self.servers
            ],
            "warnings": list(self.warnings),
        }  # fmt: skip


def status(site: Site, model: str | None = None) -> Status:
    """Of `model`, or of every model. A server that does not answer is in the result with its error."""
    servers = tuple(_server(control, model) for control in site.servers)
    answering = [server for server in servers if not server.error]
    names = sorted({found.model for server in answering for found in server.models} | ({model} if model else set()))
    warnings = [f"{server.url}: {server.error}" for server in servers if server.error]
    warnings += [
        f"{server.url} as a whole says not ready though versions are READY: a probe on /v2/health/ready takes it out "
        "of service; a load is under way, or one failed: load that version successfully, or restart the server"
        for server in answering
        if not server.ready and any(found.ready for found in server.models)
    ]
    for name in names:
        warnings += _differ(answering, name)
        warnings += _drift(answering, name, site.repository)
    warnings += _journal(site, answering, model)
    return Status(servers, tuple(warnings))


def _server(control: Control, model: str | None) -> ServerStatus:
    try:
        index = control.index()
        names = [model] if model else sorted(index.models)
        return ServerStatus(
            control.url, control.server_ready(), tuple(_model(control, name, index.states(name)) for name in names)
        )
    except CanaryError as error:
        return ServerStatus(control.url, False, (), str(error))


def _model(control: Control, name: str, states: Sequence[Any]) -> ModelStatus:
    counts = control.counts(name) if any(state.state == "READY" for state in states) else {}
    return ModelStatus(
        name,
        tuple(
            VersionStatus(
                state.version, state.state, state.reason,
                counts[state.version].total if state.version in counts else None,
            )
            for state in states
        ),
    )  # fmt: skip


def _differ(servers: Sequence[ServerStatus], model: str) -> list[str]:
    sets = {server.url: server.of(model).ready for server in servers}
    if len(set(sets.values())) < 2:
        return []
    return [f"{model}: the servers differ: {'; '.join(f'{url} has {_listed(ready)}' for url, ready in sets.items())}"]


def _drift(servers: Sequence[ServerStatus], model: str, repository: Path | None) -> list[str]:
    """config.pbtxt against what serves: an override of the versions lives in the server's memory only."""
    if repository is None:
        return []
    try:
        policy = read_config(repository / model / "config.pbtxt").get("version_policy", {})
        again = after_restart(policy, versions_on_disk(repository, model))
    except CanaryError as error:
        return [str(error)] if any(server.of(model).ready for server in servers) else []
    return [
        f"{model}: READY on {server.url} are {_listed(ready)}, but by its config.pbtxt a restart would serve "
        f"{_listed(again)}: load with --persist"
        for server in servers
        if (ready := server.of(model).ready) and ready != again
    ]


def after_restart(policy: Mapping[str, Any], on_disk: Sequence[int]) -> tuple[int, ...]:
    """The versions that a plain load takes: Triton's version policy (its default: the highest) on what is there."""
    if "all" in policy:
        return tuple(sorted(on_disk))
    if "specific" in policy:
        named = {int(version) for version in policy["specific"].get("versions", ())}
        return tuple(sorted(named & set(on_disk)))
    count = int(policy.get("latest", {}).get("num_versions", 1))
    return tuple(sorted(on_disk)[-count:])


def _journal(site: Site, servers: Sequence[ServerStatus], only: str | None) -> list[str]:
    entries = site.journal.entries()
    lines = []
    for model in known_models(entries):
        if only not in (None, model):
            continue
        known = history(entries, model)
        if known.unfinished:
            lines.append(f"{model}: a change was begun and cut off: triton-canary models restore {model}")
            continue
        for server in servers:
            wanted, ready = for_server(known.wanted or {}, server.url), server.of(model).ready
            if wanted is not None and wanted != ready:
                lines.append(
                    f"{model}: {_listed(wanted)} was the last set loaded from here, but READY on {server.url} are "
                    f"{_listed(ready)} (a restart, or somebody else): triton-canary models restore {model}"
                )
    loaded = sorted({found.model for server in servers for found in server.models if found.ready})
    if loaded and (only is None or only in loaded):
        lines.append(
            "Triton does not tell its model control mode: in explicit mode a restart loads nothing but what "
            f"--load-model names ({', '.join(loaded)}); models restore brings back what was loaded from here"
        )
    return lines


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions)) or "none"
