"""What a built-in operation shows itself on, beside a store (`run.embedded_store`): a Triton, and what may go wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.embedded import (
    EmbeddedServer,
    available,
    build_repository,
    envoy,
    haproxy,
    model_available,
    s3_available,
)
from harness.scenario import (
    AbTest,
    FindMaxLoad,
    LongContext,
    MultiModelServer,
    MultiRegion,
    NightBatch,
    Operation,
    RepoSync,
    RetireModel,
)
from harness.store import MANIFEST, Store

Build = Any


def missing(scenario: Operation) -> str:
    """What this machine lacks to show it, in one line; "" if nothing."""
    problem = available()
    if isinstance(scenario, RepoSync | MultiRegion):
        problem = problem or s3_available()
    if isinstance(scenario, AbTest) and scenario.ingress is not None:
        router = haproxy if scenario.ingress.server == "haproxy" else envoy
        problem = problem or router.available()
    for model in models_of(scenario):
        problem = problem or model_available(model)
    return problem or ""


def models_of(scenario: Operation) -> tuple[str, ...]:
    """The demonstration models that it names; none for those that make up their own."""
    if isinstance(scenario, MultiModelServer):
        return tuple(model.model for model in scenario.models.values())
    if isinstance(scenario, LongContext):
        return tuple(arm.model for arm in scenario.arms.values())
    if isinstance(scenario, AbTest):
        return (scenario.a.model, scenario.b.model)
    if isinstance(scenario, NightBatch):
        return (scenario.model, *([scenario.separate.model] if scenario.separate else []))
    return (scenario.model,) if isinstance(scenario, MultiRegion | RetireModel | FindMaxLoad) else ()


def start_triton(folder: Path, models: Mapping[str, Mapping[int, Build]], stack: ExitStack) -> EmbeddedServer:
    """A Triton on `folder`/models that serves every version of `models`; it ends with `stack`."""
    repository = folder / "models"
    repository.mkdir(parents=True)
    build_repository(repository, models)
    server = EmbeddedServer(repository, folder / "server.log")
    stack.callback(server.stop)
    return server.start({model: sorted(versions) for model, versions in models.items()})


def break_version(store: Store, model: str, version: int) -> str:
    """Replace one published file by as many other bytes, as a store does that has lost some; returns its key."""
    prefix = f"{model}/{version}/"
    key = next(key for key in sorted(store.list(prefix).files) if not key.endswith(MANIFEST))
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"?" * store.list(prefix).files[key].size)
        file.flush()
        store.write(key, Path(file.name))
    return key
