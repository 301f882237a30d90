"""Tritons and a real ingress in front of them, all somebody else's: they outlive the harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from harness.embedded import EmbeddedServer, build_repository, envoy, haproxy
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.ingress import Split, open_ingress

Kind = Literal["haproxy", "envoy"]
ROUTERS: Mapping[str, Any] = {"haproxy": EmbeddedHaproxy, "envoy": EmbeddedEnvoy}


def needs(kind: str) -> None:
    """Skips the test where that router cannot run; `make test` installs both where it may."""
    if missing := {"haproxy": haproxy, "envoy": envoy}[kind].available():
        pytest.skip(missing)


@dataclass(frozen=True)
class Place:
    """`green` is `blue` where both versions are on one Triton."""

    blue: EmbeddedServer
    green: EmbeddedServer
    router: Any

    def ready(self, server: EmbeddedServer | None = None) -> list[int]:
        url = (server or self.blue).http_url
        index = httpx.post(f"{url}/v2/repository/index", timeout=30).json()
        return sorted(int(row["version"]) for row in index if row.get("state") == "READY")

    def split(self) -> Split:
        """As the router itself says."""
        router = open_ingress(self.router.control)
        try:
            return router.read()
        finally:
            router.close()


@contextmanager
def one_triton(folder: Path, kind: Kind, build: Any = "same", serve: tuple[int, ...] = (1,)) -> Iterator[Place]:
    """Versions 1 and 2 of `tiny` in one repository, of which `serve` serve; the ingress rewrites paths."""
    needs(kind)
    with ExitStack() as stack:
        blue = _triton(stack, folder / "blue", {1: "fp16", 2: build}, serve)
        hosts = {"baseline": _host(blue.http_url), "candidate": _host(blue.http_url)}
        router = stack.enter_context(ROUTERS[kind](folder / "ingress", hosts, versions={"baseline": 1, "candidate": 2}))
        yield Place(blue, blue, router)


@contextmanager
def two_tritons(folder: Path, kind: Kind, build: Any = "same", green: tuple[int, ...] = (2,)) -> Iterator[Place]:
    """Version 1 on one, version 2 on another, where `green` serve; HTTP and gRPC."""
    needs(kind)
    with ExitStack() as stack:
        first = _triton(stack, folder / "blue", {1: "fp16"}, (1,))
        second = _triton(stack, folder / "green", {2: build}, green)
        router = stack.enter_context(
            ROUTERS[kind](
                folder / "ingress",
                {"baseline": _host(first.http_url), "candidate": _host(second.http_url)},
                grpc={"baseline": _host(first.grpc_url), "candidate": _host(second.grpc_url)},
            )
        )
        yield Place(first, second, router)


def _triton(stack: ExitStack, folder: Path, versions: dict[int, Any], serve: tuple[int, ...]) -> EmbeddedServer:
    build_repository(folder / "models", {"tiny": versions})
    server = stack.enter_context(EmbeddedServer(folder / "models", folder / "triton.log"))
    server.start({"tiny": list(serve)} if serve else None)
    return server


def _host(url: str) -> str:
    return url.partition("://")[2]
