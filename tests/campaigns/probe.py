"""A probe: asks one version of `tiny` at a steady rate and counts every answer. Standard library only.

A process of its own, so that what it watches does not slow it down: `with Probe(...) as probe`, then `probe.counts`.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

CONNECTIONS = 8
TIMEOUT_S = 60.0
BODY = json.dumps({"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [1.0] * 16}]}).encode()


@dataclass
class Counts:
    """`failed`: by what came instead of an answer of that version. `longest_s`: the longest wait for an answer."""

    answered: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    longest_s: float = 0.0
    lasted_s: float = 0.0

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def rate(self) -> float:
        """Requests a second that came back, answered or not."""
        return (self.answered + self.failures) / self.lasted_s if self.lasted_s else 0.0


class Probe:
    """From another process; returns from `with` once the first requests were answered."""

    def __init__(self, host: str, port: int, version: int, rate: float) -> None:
        self.counts = Counts()
        self._argv = [sys.executable, __file__, host, str(port), str(version), str(rate)]

    def __enter__(self) -> Probe:
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "asking\n":
            raise RuntimeError("the probe did not start")
        return self

    def __exit__(self, *_: object) -> None:
        said, _err = self._process.communicate(timeout=2 * TIMEOUT_S)  # the end of its stdin is the order to end
        if said:
            self.counts = Counts(**json.loads(said))


class _Asking:
    def __init__(self, host: str, port: int, version: int, rate: float) -> None:
        self._place, self._version, self._every_s = (host, port), version, CONNECTIONS / rate
        self._path = f"/v2/models/tiny/versions/{version}/infer"
        self._over = threading.Event()
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._answered, self._failed, self._longest_s = 0, Counter[str](), 0.0

    def run(self) -> Counts:
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CONNECTIONS)]
        self._start = time.perf_counter()
        for thread in threads:
            thread.start()
        self._begun.wait(TIMEOUT_S)
        print("asking", flush=True)
        sys.stdin.read()
        self._over.set()
        for thread in threads:
            thread.join()
        lasted_s = time.perf_counter() - self._start
        return Counts(self._answered, dict(self._failed), self._longest_s, lasted_s)

    def _ask(self, number: int) -> None:
        """One kept connection. What is due while an answer is late is sent after it: nothing is left out."""
        connection = http.client.HTTPConnection(*self._place, timeout=TIMEOUT_S)
        due = self._start + number * self._every_s / CONNECTIONS
        while not self._over.wait(max(0.0, due - time.perf_counter())):
            due += self._every_s
            sent = time.perf_counter()
            wrong = self._once(connection)
            waited_s = time.perf_counter() - sent
            with self._lock:
                self._longest_s = max(self._longest_s, waited_s)
                if wrong:
                    self._failed[wrong] += 1
                else:
                    self._answered += 1
            self._begun.set()
        connection.close()

    def _once(self, connection: http.client.HTTPConnection) -> str:
        """What is wrong with the answer; "" if nothing."""
        try:
            connection.request("POST", self._path, BODY, {"Content-Type": "application/json"})
            response = connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # the next request opens it again
            return type(error).__name__
        if response.status != http.HTTPStatus.OK:
            return str(response.status)
        version = json.loads(said).get("model_version")
        return "" if version == str(self._version) else f"version {version}"


if __name__ == "__main__":
    host, port, version, rate = sys.argv[1:]
    found = _Asking(host, int(port), int(version), float(rate)).run()
    print(json.dumps(found.__dict__), flush=True)
