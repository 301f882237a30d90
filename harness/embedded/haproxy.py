"""EmbeddedHaproxy: a real HAProxy with the example configuration, on loopback ports of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from harness.assets import scenarios_dir
from harness.embedded.supervised import Supervised, free_ports, how
from harness.errors import ServerDied, UsageError
from harness.types import ArmName

ATTEMPTS = 5
START_S = 60.0
_ARMS: tuple[ArmName, ArmName] = ("baseline", "candidate")
_TAKEN = re.compile(r"address already in use|cannot bind", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_./-]{1,80}")
"""What may be in an address and in HAProxy's configuration as it is, and is short enough for a unix socket's folder:
the kernel allows paths of 107 characters, and HAProxy appends some while it binds.
"""


def available() -> str | None:
    """None where HAProxy can be started here; otherwise one line that says what to install."""
    if _binary() is None:
        return "HAProxy is not installed: install the package haproxy of your system (apt-get install haproxy)"
    return None


class EmbeddedHaproxy:
    """HAProxy with scenarios/ingress/haproxy.cfg before the arms' Tritons; at first the baseline gets everything.

    `http`, `grpc`: host:port of each arm's Triton. `versions`: HTTP requests that name no version get their arm's, for
    two versions on one Triton. Its log, its socket and the map of the routed header are in `folder`. start() and
    stop(), or `with EmbeddedHaproxy(...) as router:`, which starts it. A supervisor ends it when this process ends.
    """

    def __init__(
        self,
        folder: Path,
        http: Mapping[ArmName, str],
        *,
        grpc: Mapping[ArmName, str] | None = None,
        versions: Mapping[ArmName, int] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "haproxy.log"
        self._http, self._grpc, self._versions = dict(http), dict(grpc or {}), dict(versions or {})
        self._elsewhere: Path | None = None
        self._supervisor: Supervised | None = None
        self._ports: tuple[int, ...] = (0, 0)
        self._log_from = 0

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def grpc_url(self) -> str | None:
        return f"grpc://127.0.0.1:{self._ports[1]}" if self._grpc else None

    @property
    def control(self) -> str:
        """The address for `open_ingress`."""
        backends = "canary_http,canary_grpc" if self._grpc else "canary_http"
        return f"haproxy+unix://{self._socket}?backend={backends}&headers={self._map}"

    @property
    def _socket(self) -> Path:
        return (self._elsewhere or self.folder) / "admin.sock"

    @property
    def _map(self) -> Path:
        return (self._elsewhere or self.folder) / "headers.map"

    @property
    def pid(self) -> int:
        """Process id of HAProxy itself; 0 before start()."""
        return self._supervisor.program if self._supervisor is not None else 0

    @property
    def alive(self) -> bool:
        return self._supervisor is not None and self._supervisor.alive

    def check(self) -> None:
        """Raises ServerDied, with the log's last words, when it has ended by itself."""
        if not self.alive:
            raise ServerDied(f"the embedded HAProxy died{self._how()}: {self.last_words()}")

    def start(self) -> EmbeddedHaproxy:
        """Returns when it takes connections. UsageError where it cannot run; ServerDied.

        Started again after a stop, it is as new: on other ports, and with everything to the baseline.
        """
        if problem := available():
            raise UsageError(problem)
        if self._supervisor is not None:
            raise UsageError("this embedded HAProxy was started already")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                if self._begin():
                    break
                why, taken = f"{self._how()}: {self.last_words()}", _TAKEN.search(self._said())
                self.stop()
                if not taken or attempt == ATTEMPTS:
                    raise ServerDied(f"the embedded HAProxy did not start{why}")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends it; returns when nothing is left. May be called twice."""
        supervised, self._supervisor = self._supervisor, None
        if supervised is not None:
            supervised.stop()
        elsewhere, self._elsewhere = self._elsewhere, None
        if elsewhere is not None:
            shutil.rmtree(elsewhere, ignore_errors=True)

    def __enter__(self) -> EmbeddedHaproxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def last_words(self, lines: int = 3) -> str:
        """The log's last alerts since the last start in one line, or else simply its last lines."""
        said = [line.strip() for line in self._said().splitlines() if line.strip()]
        words = " | ".join([line for line in said if line.startswith("[ALERT]")][-lines:] or said[-lines:])
        return f"{words or 'it said nothing'} (log: {self.log})"

    # ------------------------------------------------------------ starting

    def _begin(self) -> bool:
        """True when it takes connections; False when it ended. ServerDied after the deadline."""
        if not _PLAIN.fullmatch(str(self.folder)):
            self._elsewhere = Path(tempfile.mkdtemp(prefix="triton-canary-"))
        self._map.write_text("")
        self._ports = free_ports(2)
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        argv = [str(_binary()), "-db", "-f", str(scenarios_dir() / "ingress" / "haproxy.cfg")]
        self._supervisor = Supervised(argv, self._environment(), self.log, sockets=[str(self._socket)])
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._takes_connections():
                return True
            if self._supervisor.exit_status(0.02) is not None or not self._supervisor.alive:
                return False
        raise ServerDied(f"the embedded HAProxy took no connection in {START_S:.0f} s: {self.last_words()}")

    def _environment(self) -> dict[str, str]:
        """What the configuration asks for; it has a default for everything."""
        name = f"triton-canary-{os.getpid()}-{secrets.token_hex(4)}"
        http, grpc = (f"127.0.0.1:{port}" for port in self._ports)
        values = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CANARY_NAME": name,
            "CANARY_HTTP": http,
            # nobody can come in where no gRPC is wanted
            "CANARY_GRPC": grpc if self._grpc else f"abns@{name}-no-grpc",
            "CANARY_MAP": str(self._map),
            "CANARY_SOCKET": str(self._socket),
        }
        for arm in _ARMS:
            values[f"CANARY_{arm.upper()}_HTTP"] = self._http[arm]
            values[f"CANARY_{arm.upper()}_GRPC"] = self._grpc.get(arm, self._http[arm])
            values[f"CANARY_{arm.upper()}_VERSION"] = str(self._versions.get(arm, "none"))
        return values

    def _takes_connections(self) -> bool:
        """Its control socket included, and it is ours: a port that somebody else took meanwhile answers, too."""
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(5)
                control.connect(str(self._socket))
            for port in self._ports[: 2 if self._grpc else 1]:
                socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    def _how(self) -> str:
        return how(self._supervisor.exit_status(0)) if self._supervisor is not None else ""

    def _said(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_from)
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _binary() -> Path | None:
    """On PATH, or where Debian has it, which is not on everybody's."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None
