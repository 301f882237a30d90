"""Campaign: does v1 keep serving while v2 is loaded and unloaded beside it, again and again?

A probe asks v1, by its version, over kept HTTP connections; meanwhile v2 comes and goes in four ways: through
`triton-canary models load` and `models unload`, over gRPC and over HTTP, and by the calls that everybody writes first.
Every answer counts. Prints a table and writes it to `reports/examples/kept-serving.md`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from harness.cli import main as triton_canary
from harness.embedded import EmbeddedServer, build_repository
from tests.campaigns.probe import Counts, Probe

TABLE = Path(__file__).resolve().parents[2] / "reports" / "examples" / "kept-serving.md"
MODEL, RATE, PATIENCE_S = "tiny", 400.0, 120.0


@dataclass(frozen=True)
class World:
    """A Triton that serves version 1 of `tiny`; version 2 lies beside it, and `shelf` holds a third copy of it."""

    server: EmbeddedServer
    shelf: Path
    state: Path

    def models(self, verb: str, url: str) -> None:
        argv = ["models", verb, MODEL, "--version", "2", "--url", url, "--repository", str(self.server.repository)]
        argv += ["--versioned-clients", "--window", "200ms", "--state", str(self.state)]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = triton_canary(argv)
        if code:
            raise SystemExit(f"triton-canary {' '.join(argv)}: exit code {code}: {said.getvalue()}")

    def post(self, what: str, **parameters: str) -> int:
        url = f"{self.server.http_url}/v2/repository/models/{MODEL}/{what}"
        return httpx.post(url, json={"parameters": parameters}, timeout=PATIENCE_S, trust_env=False).status_code

    def ready(self) -> list[int]:
        rows = httpx.post(f"{self.server.http_url}/v2/repository/index", json={}, trust_env=False).json()
        return [int(row["version"]) for row in rows if row.get("state") == "READY"]

    def leaving(self) -> bool:
        rows = httpx.post(f"{self.server.http_url}/v2/repository/index", json={}, trust_env=False).json()
        return any(row.get("state") == "UNLOADING" for row in rows)

    def settle(self) -> None:
        """Waits until exactly version 1 serves and nothing is leaving."""
        deadline = time.monotonic() + PATIENCE_S
        while self.ready() != [1] or self.leaving():
            if time.monotonic() > deadline:
                raise SystemExit(f"version 1 is not back: {self.ready()}")
            time.sleep(0.02)


def by_models_over_grpc(world: World) -> None:
    world.models("load", world.server.grpc_url)
    world.models("unload", world.server.grpc_url)


def by_models_over_http(world: World) -> None:
    world.models("load", world.server.http_url)
    world.models("unload", world.server.http_url)


def by_naming_the_version(world: World) -> None:
    """`load` with a version, `unload` with a version; then, at once, what repairs it: a plain load."""
    assert world.post("load", version="2") == httpx.codes.INTERNAL_SERVER_ERROR
    assert world.post("unload", version="2") == httpx.codes.OK
    assert world.post("load") == httpx.codes.OK


def by_plain_loads(world: World) -> None:
    """A plain load under the default policy once folder 2 is there; then folder 2 is taken away, and a plain load."""
    folder = world.server.repository / MODEL / "2"
    shutil.copytree(world.shelf, folder)
    assert world.post("load") == httpx.codes.OK
    shutil.rmtree(folder)
    assert world.post("load") == httpx.codes.OK


@dataclass(frozen=True)
class Way:
    what: str
    cycle: Callable[[World], None]
    cycles: int
    policy: bool = True  # config.pbtxt says `specific [1]`; otherwise nothing, and folder 2 is not there yet


WAYS = (
    Way("`models load`, `models unload`, over grpc://", by_models_over_grpc, 50),
    Way("`models load`, `models unload`, over http://", by_models_over_http, 10),
    Way('`POST load` and `POST unload` with `{"version": "2"}`, repaired by a plain load', by_naming_the_version, 10),
    Way("`POST load` under the default policy, repaired by removing folder 2", by_plain_loads, 10, policy=False),
)


def measure(way: Way, cycles: int) -> Counts:
    """What the probe saw at v1 while `cycles` cycles went by."""
    with _world(way) as world:
        where = urlsplit(world.server.http_url)
        with Probe(str(where.hostname), where.port or 0, 1, RATE) as probe:
            for _ in range(cycles):
                way.cycle(world)
                world.settle()
        return probe.counts


@contextlib.contextmanager
def _world(way: Way) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="kept-serving-") as name:
        folder = Path(name)
        build_repository(folder / "models", {MODEL: {1: {"delay_ms": 0}, 2: {"delay_ms": 0}}})
        config = folder / "models" / MODEL / "config.pbtxt"
        policy = "specific: { versions: [1] }" if way.policy else "latest: { num_versions: 1 }"
        text = config.read_text().replace("specific: { versions: [1, 2] }", policy)
        config.write_text(text.replace("count: 4", "count: 1"))  # a process a version: cycles are short
        shutil.copytree(folder / "models" / MODEL / "2", folder / "shelf")
        if not way.policy:
            shutil.rmtree(folder / "models" / MODEL / "2")
        with EmbeddedServer(folder / "models", folder / "triton.log") as server:
            server.start()
            world = World(server, folder / "shelf", folder / "state")
            assert world.post("load") == httpx.codes.OK
            yield world


def row(way: Way, cycles: int, counts: Counts) -> str:
    failed = " + ".join(f"{number} {what}" for what, number in sorted(counts.failed.items()))
    failures = f"**{counts.failures}**{f' ({failed})' if failed else ''}"
    asked = counts.answered + counts.failures
    return (
        f"| {way.what} | {cycles} | {asked} | {counts.rate:.0f} | {failures} "
        f"| {counts.failures / asked:.1%} | {counts.longest_s * 1000:.0f} ms |"
    )


def main() -> int:
    lines = [
        "# Requests at v1 while v2 is loaded and unloaded beside it",
        "",
        f"`make kept-serving`: the embedded Triton 2.51.0 with `tiny`, on {os.cpu_count()} CPUs. A probe asks",
        f"version 1, by its number, {RATE:.0f} times a second over 8 kept HTTP connections.",
        "",
        "| v2 comes and goes by | cycles | requests at v1 | a second | failed | share | longest wait |",
        "|---|---|---|---|---|---|---|",
    ]
    kept = True
    for way in WAYS:
        counts = measure(way, way.cycles)
        lines.append(row(way, way.cycles, counts))
        print(lines[-1], flush=True)
        if "models" in way.what:
            kept = kept and counts.failures == 0
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("\n".join([*lines, "", *_NOTES]) + "\n")
    return 0 if kept else 1


_NOTES = (
    "- Over http:// no request fails either, but those whose connection shares a thread of the server with the load",
    "  wait for it to end: control a server over grpc:// if its users come over HTTP.",
    "- The naive calls are repaired at once, by the next line of a script. A person takes longer, and every request",
    "  fails until then. `load` with a version never loads anything.",
    "- Clients that name no version see no failure under the default policy: they are all on v2 at once.",
)


if __name__ == "__main__":
    sys.exit(main())
