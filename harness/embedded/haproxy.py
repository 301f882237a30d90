"""EmbeddedHaproxy: a real HAProxy with the example configuration, on loopback ports of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.assets import scenarios_dir
from harness.embedded.program import Program
from harness.embedded.supervised import Supervised
from harness.types import ArmName

START_S = 60.0
_ARMS: tuple[ArmName, ArmName] = ("baseline", "candidate")
_PLAIN = re.compile(r"[A-Za-z0-9_./-]{1,80}")
"""What may be in an address and in HAProxy's configuration as it is, and is short enough for a unix socket's folder:
the kernel allows paths of 107 characters, and HAProxy appends some while it binds.
"""


def available() -> str | None:
    """None where HAProxy can be started here; otherwise one line that says what to install."""
    if _binary() is None:
        return "HAProxy is not installed: install the package haproxy of your system (apt-get install haproxy)"
    return None


class EmbeddedHaproxy(Program):
    """HAProxy with scenarios/ingress/haproxy.cfg before the arms' Tritons; at first the baseline gets everything.

    `http`, `grpc`: host:port of each arm's Triton. `versions`: HTTP requests that name no version get their arm's, for
    two versions on one Triton. Its log, its socket and the map of the routed header are in `folder`. start() and
    stop(), or `with EmbeddedHaproxy(...) as router:`, which starts it. A supervisor ends it when this process ends.
    Started again after a stop, it is as new: on other ports, and with everything to the baseline.
    """

    NAME = "HAProxy"
    TAKEN = re.compile(r"address already in use|cannot bind", re.IGNORECASE)
    SERIOUS = re.compile(r"^\[ALERT\]")

    def __init__(
        self,
        folder: Path,
        http: Mapping[ArmName, str],
        *,
        grpc: Mapping[ArmName, str] | None = None,
        versions: Mapping[ArmName, int] | None = None,
    ) -> None:
        super().__init__(folder, folder / "haproxy.log", ports=2, start_timeout_s=START_S)
        self._http, self._grpc, self._versions = dict(http), dict(grpc or {}), dict(versions or {})
        self._elsewhere: Path | None = None

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

    def stop(self) -> None:
        super().stop()
        elsewhere, self._elsewhere = self._elsewhere, None
        if elsewhere is not None:
            shutil.rmtree(elsewhere, ignore_errors=True)

    def _missing(self) -> str | None:
        return available()

    def _launch(self) -> Supervised:
        if not _PLAIN.fullmatch(str(self.folder)):
            self._elsewhere = Path(tempfile.mkdtemp(prefix="triton-canary-"))
        self._map.write_text("")
        argv = [str(_binary()), "-db", "-f", str(scenarios_dir() / "ingress" / "haproxy.cfg")]
        return Supervised(argv, self._environment(), self.log, sockets=[str(self._socket)])

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

    def _ready(self) -> bool:
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


def _binary() -> Path | None:
    """On PATH, or where Debian has it, which is not on everybody's."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None
