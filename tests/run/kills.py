"""Tritons and routers that are somebody else's, with a scenario that changes them: what is there before, and after.

Every place is real: Triton, HAProxy, Envoy. They outlive the harness, and can be stopped and started again at the same
addresses, as after a crash of theirs.
"""

from __future__ import annotations

import http.server
import json
import random
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from harness.embedded import EmbeddedServer, build_repository, program
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.ingress import open_ingress
from harness.triton import Control
from tests.run.conftest import Done, canary

OWN = """
name: killed
target: {{url: "{url}", repository: "{repository}", versioned_clients: true}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
{ingress}
load: {{timeout: 20s}}
gates:
  - {{metric: errors, margin: 20pp}}
stages:
  - {{mode: paired, in_flight: 4, for: 2s}}
  - {{mode: split, candidate: 20%, rate: 10/s, for: 2s}}
  - {{mode: split, candidate: 100%, rate: 10/s, for: 2s}}
on_fail: {{route: baseline, unload: candidate}}
on_promote: {{keep_baseline: 1s, then: unload}}
"""
EMERGENCY = """
name: killed
target: {{url: "{url}", repository: "{repository}", versioned_clients: true}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
{ingress}
load: {{timeout: 20s}}
gates:
  - {{metric: errors.objective, max: 5%}}
stages:
  - {{mode: split, candidate: 50%, rate: 50/s, for: 30s}}
on_fail: {{route: baseline, drain: 2s, cut: true, unload: candidate}}
"""
BLUE_GREEN = """
name: killed
baseline: {{model: tiny, version: 1, url: "{url}", start: [{start}, "{manager}/start/blue"],
  stop: [{start}, "{manager}/stop/blue"]}}
candidate: {{model: tiny, version: 2, url: "{green}", repository: "{green_repository}",
  start: [{start}, "{manager}/start/green"], stop: [{start}, "{manager}/stop/green"]}}
{ingress}
load: {{timeout: 20s}}
gates:
  - {{metric: errors, margin: 20pp}}
stages:
  - {{mode: paired, in_flight: 4, for: 2s}}
  - {{mode: split, candidate: 100%, rate: 10/s, for: 2s}}
on_fail: {{route: baseline, drain: 2s, stop: candidate}}
on_promote: {{keep_baseline: 1s, then: stop}}
"""
SLOW = {"delay_ms": 200}
"""Beside which the pauses of a machine that is busy with other tests are small."""
INGRESS = 'ingress: {{control: "{control}", url: "{url}"}}'


class Triton(EmbeddedServer):
    """One that comes back at its addresses. `load`: what its operator starts it with."""

    def __init__(self, folder: Path, builds: Mapping[int, Any], load: tuple[int, ...]) -> None:
        build_repository(folder / "models", {"tiny": builds})
        super().__init__(folder / "models", folder / "server.log")
        self._load_at_start = load
        self._ports = fixed_ports(3)

    def up(self, *, bare: bool = False) -> None:
        """`bare`: with nothing loaded, as after a crash. Twice does no harm."""
        if not self.alive:
            self.stop()
            self.start(load={"tiny": self._load_at_start} if self._load_at_start and not bare else {})

    def _spawn(self, _ports: tuple[int, ...]) -> None:
        super()._spawn(self._ports)

    def state(self) -> Any:
        """What its own index and configuration say; None where nobody answers."""
        try:
            index = httpx.post(f"{self.http_url}/v2/repository/index", timeout=30).json()
        except httpx.TransportError:
            return None
        ready = sorted(int(row["version"]) for row in index if row.get("state") == "READY")
        return ready, (self.repository / "tiny" / "config.pbtxt").read_text()


Router = EmbeddedHaproxy | EmbeddedEnvoy


@dataclass
class Place:
    """`tritons` by name: blue and green, or blue alone. `router` is None where the harness's own split routes."""

    folder: Path
    tritons: dict[str, Triton]
    router: Router | None
    text: str
    manager: str = ""
    configs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.configs = {name: self._config(triton).read_text() for name, triton in self.tritons.items()}

    def scenario(self, out: Path) -> Path:
        blue = self.tritons["blue"]
        green = self.tritons.get("green", blue)
        ingress = INGRESS.format(control=self.router.control, url=self.router.http_url) if self.router else ""
        path = out.with_suffix(".yaml")
        start = json.dumps([sys.executable, "-S", "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])"])
        path.write_text(
            self.text.format(
                url=blue.grpc_url, repository=blue.repository, green=green.grpc_url, ingress=ingress,
                green_repository=green.repository, manager=self.manager, start=start[1:-1],
            )
        )  # fmt: skip
        return path

    def run(self, out: Path) -> Done:
        return canary("run", self.scenario(out), "--out", out)

    def state(self) -> dict[str, Any]:
        """As routers and Tritons themselves say."""
        found: dict[str, Any] = {name: triton.state() for name, triton in self.tritons.items()}
        if self.router is not None:
            router = open_ingress(self.router.control)
            try:
                split = router.read()
                found["router"] = split.candidate_share, dict(split.headers)
            finally:
                router.close()
        return found

    def answers(self) -> set[str]:
        """Which versions answer users, through the router."""
        assert self.router is not None
        tensor = {"name": "INPUT", "datatype": "FP32", "shape": [16], "data": [1.0] * 16}
        url = f"{self.router.http_url}/v2/models/tiny/infer"
        answers = [httpx.post(url, json={"inputs": [tensor]}, timeout=60) for _ in range(5)]
        return {answer.json()["model_version"] if answer.is_success else answer.text for answer in answers}

    def reset(self) -> None:
        """As before any run."""
        blue, green = self.tritons["blue"], self.tritons.get("green")
        blue.up()
        with Control(blue.grpc_url) as control:
            control.set_versions("tiny", [1])
        if self.router is not None:
            router = open_ingress(self.router.control)
            router.set(0.0)
            router.close()
        if green is not None:
            green.stop()
        for name, triton in self.tritons.items():
            self._config(triton).write_text(self.configs[name])

    @staticmethod
    def _config(triton: Triton) -> Path:
        return triton.repository / "tiny" / "config.pbtxt"


@contextmanager
def own(folder: Path) -> Iterator[Place]:
    """The harness's own split."""
    with _tritons(folder, {"blue": ({1: SLOW, 2: SLOW}, (1,))}) as tritons:
        yield Place(folder, tritons, None, OWN)


@contextmanager
def canary_through(
    folder: Path, kind: type[Router], text: str = OWN, build: Any = SLOW, candidate: Any = None
) -> Iterator[Place]:
    """One Triton with two versions behind a router that rewrites paths."""
    with _tritons(folder, {"blue": ({1: build, 2: candidate or build}, (1,))}) as tritons:
        place = _host(tritons["blue"].http_url)
        http = {"baseline": place, "candidate": place}
        with _router(kind(folder / "router", http, versions={"baseline": 1, "candidate": 2})) as router:
            yield Place(folder, tritons, router, text)


@contextmanager
def blue_green(folder: Path, kind: type[Router]) -> Iterator[Place]:
    """Two Tritons, of which green does not run, and commands that start and stop them."""
    builds: Mapping[str, tuple[Mapping[int, Any], tuple[int, ...]]]
    builds = {"blue": ({1: SLOW}, (1,)), "green": ({2: SLOW}, ())}
    with _tritons(folder, builds) as tritons, _manager(tritons) as manager:
        tritons["green"].stop()
        http = {"baseline": _host(tritons["blue"].http_url), "candidate": _host(tritons["green"].http_url)}
        with _router(kind(folder / "router", http)) as router:
            yield Place(folder, tritons, router, BLUE_GREEN, manager)


@contextmanager
def _tritons(
    folder: Path, builds: Mapping[str, tuple[Mapping[int, Any], tuple[int, ...]]]
) -> Iterator[dict[str, Triton]]:
    tritons = {name: Triton(folder / name, versions, load) for name, (versions, load) in builds.items()}
    try:
        for triton in tritons.values():
            triton.up()
        yield tritons
    finally:
        for triton in tritons.values():
            triton.stop()


@contextmanager
def _manager(tritons: Mapping[str, Triton]) -> Iterator[str]:
    """What systemctl is elsewhere: its URL, with /start/NAME and /stop/NAME."""

    class Manager(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, verb, name = self.path.split("/")
            if verb == "start":
                tritons[name].up()
            else:
                tritons[name].stop()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Manager) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _router(router: Router) -> Iterator[Router]:
    """One that comes back at its addresses."""
    ports = fixed_ports(2)
    with mock.patch.object(program, "free_ports", return_value=ports), router:
        yield router


def fixed_ports(count: int) -> tuple[int, ...]:
    """Below those that the kernel gives to others, so that nobody takes them while they are down for a moment."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            found += [] if port in found else [port]
    return tuple(found)


def _host(url: str) -> str:
    return url.partition("://")[2]
