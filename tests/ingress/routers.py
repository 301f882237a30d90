"""A real router before a test, and one slow request that is under way when its arm has just lost its share."""

from __future__ import annotations

import threading
import time

from harness.embedded import EmbeddedServer, change_settings
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.ingress import Ingress, open_ingress
from tests.ingress.traffic import Answer, Traffic

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


class Slow:
    """One request that takes `delay_ms`, at a candidate that has just lost its share again."""

    def __init__(self, router: Router, server: EmbeddedServer, kind: str, delay_ms: float) -> None:
        self.ingress = at_rest(router)
        change_settings(server.repository, 7, delay_ms=delay_ms)
        self.ingress.set(1.0)
        self._traffic = Traffic(entry(router, kind), rate=0.001, in_flight=1)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._ended = threading.Event()
        self._thread.start()
        deadline = time.monotonic() + 60
        while self.ingress.read().in_flight != {"baseline": 0, "candidate": 1}:
            assert time.monotonic() < deadline, self.ingress.read()
            time.sleep(0.01)
        self.ingress.set(0.0)

    def _send(self) -> None:
        with self._traffic as traffic:
            traffic.wait_until(lambda: bool(traffic.answers()))
        self._ended.set()

    def answer(self) -> Answer:
        assert self._ended.wait(120)
        return self._traffic.answers()[0]
