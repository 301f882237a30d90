"""A real router before a test, and one slow request that is under way when its arm has just lost its share."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.ingress import Drained, Ingress, open_ingress
from tests.ingress.traffic import Answer, Traffic
from tests.triton.held import HELD_MODEL, holding
from tests.waiting import until

Router = EmbeddedHaproxy | EmbeddedEnvoy


def at_rest(router: Router) -> Ingress:
    """Its control, with everything to the baseline and no header."""
    ingress = open_ingress(router.control)
    ingress.header({})
    ingress.set(0.0)
    return ingress


def entry(router: Router, kind: str) -> str:
    url = router.grpc_url if kind == "grpc" else router.http_url
    assert url is not None
    return url


@contextmanager
def held_server(folder: Path) -> Iterator[EmbeddedServer]:
    """A second Triton, whose `tiny` is version 7, and answers when a test lets it."""
    build_repository(folder / "models", {"tiny": {7: "same"}})
    (folder / "models/tiny/7/model.py").write_text(HELD_MODEL)
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start(load={"tiny": [7]})
        yield server


@contextmanager
def slow_request(router: Router, server: EmbeddedServer, kind: str) -> Iterator[Slow]:
    """At the `server`, a `held_server`: not answered before it is released, or this ends."""
    with holding(server.repository, "answer") as release:
        yield Slow(router, kind, release)


class Slow:
    """One request that takes until `release`, at a candidate that has just lost its share again."""

    def __init__(self, router: Router, kind: str, release: Callable[[], None]) -> None:
        self.ingress, self._release = at_rest(router), release
        self.ingress.set(1.0)
        self._traffic = Traffic(entry(router, kind), rate=0.001, in_flight=1)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._ended = threading.Event()
        self._thread.start()
        until(lambda: self.ingress.read().in_flight == {"baseline": 0, "candidate": 1}, "it is under way")
        self.ingress.set(0.0)

    def _send(self) -> None:
        with self._traffic as traffic:
            traffic.wait_until(lambda: bool(traffic.answers()))
        self._ended.set()

    def drain(self) -> Drained:
        """Its arm's. The request is released when the drain has seen it and is about to look again."""
        seen = False

        def sleep(seconds: float) -> None:
            nonlocal seen
            seen = True
            self._release()
            time.sleep(seconds)

        with pytest.MonkeyPatch.context() as patch:
            module = sys.modules[type(self.ingress).__module__]
            patch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
            drained = self.ingress.drain("candidate", 60)
        assert seen, "it did not wait"
        return drained

    def answer(self) -> Answer:
        assert self._ended.wait(120)
        return self._traffic.answers()[0]
