"""EmbeddedServer: the real Triton from nvidia-pytriton, in explicit mode, on loopback ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.embedded import runtime, supervisor
from harness.embedded.repository import compile_models
from harness.errors import ServerDied, Unreachable, UsageError

if TYPE_CHECKING:
    from harness.triton import Control

ATTEMPTS = 5
_TAKEN = re.compile(r"already in use|failed to (start|create) (HTTP|GRPC|Metrics|HTTP metrics)", re.IGNORECASE)
_SERIOUS = re.compile(r"^E\d{4}|Error:|^error|unrecognized option|error while loading")
_HARMLESS = re.compile(r"NVML|DCGM|CUDA|cuda|Cuda|pinned memory|GPU metrics|Kernel")


class EmbeddedServer:
    """One Triton serving `repository`, its output appended to the file `log`.

    start() and stop(), or `with EmbeddedServer(...) as server: server.start(...)`. A supervisor process ends
    Triton and everything below it when this process ends, however that happens; see supervisor.py.
    """

    def __init__(
        self, repository: Path, log: Path, *, start_timeout_s: float = 120.0, load_timeout_s: float = 300.0
    ) -> None:
        self.repository = repository.absolute()
        self.log = log.absolute()
        self._start_timeout_s, self._load_timeout_s = start_timeout_s, load_timeout_s
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._ports = (0, 0, 0)
        self._pid = 0
        self._shm = ""
        self._log_from = 0
        self._exit: int | None = None
        self._listening = threading.Lock()

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[2]}/metrics"

    @property
    def pid(self) -> int:
        """Process id of Triton itself; 0 before start()."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether Triton and its supervisor run. Cheap: asked without a system call to Triton."""
        if self._supervisor is None or self._supervisor.poll() is not None:
            return False
        return self._exit_status(0) is None

    def check(self) -> None:
        """Raises ServerDied, with the log's last relevant lines, when the server has ended by itself."""
        if not self.alive:
            self._exit_status(0)
            raise ServerDied(f"the embedded Triton died{self._how()}: {self.last_words()}")

    def wait(self, timeout_s: float) -> bool:
        """Waits at most `timeout_s` for the server to end by itself; whether it did."""
        return self._exit_status(timeout_s) is not None

    def start(self, load: Mapping[str, Sequence[int]] | None = None) -> EmbeddedServer:
        """Starts Triton and loads the given versions of each model; returns when every one of them is ready.

        UsageError where it cannot run; VersionMissing: not on disk; ServerDied; what `Control.set_versions` raises.
        """
        problem = runtime.available()
        if problem:
            raise UsageError(problem)
        if self._supervisor is not None:
            raise UsageError("this embedded Triton was started already")
        # here, because the models' processes import this package too, and grpc is slow to import
        from harness.triton import Control, check_on_disk

        load = load or {}
        for model, versions in load.items():
            check_on_disk(self.repository, model, versions)
        for folder in self.repository.glob("*/[1-9]*"):
            compile_models(folder)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        sweep_shared_memory()
        try:
            self._start_somewhere()
            with Control(self.http_url, load_timeout_s=self._load_timeout_s) as control:
                for model, versions in load.items():
                    self._load(control, model, versions)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends Triton and everything below it; returns when nothing is left. May be called twice."""
        process, self._supervisor = self._supervisor, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()  # the end of this pipe is the order to end,
        process.terminate()  # and so is SIGTERM, in case a fork of this process holds the pipe too
        try:
            process.wait(supervisor.GRACE_S + 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        supervisor.remove_shared_memory(self._shm)  # in case the supervisor was killed

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def last_words(self, lines: int = 3) -> str:
        """The log's last relevant lines in one: errors if there are any, else simply the last."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_from, file.seek(0, os.SEEK_END) - 200_000))
                text = file.read().decode(errors="replace")
        except OSError:
            return f"no log at {self.log}"
        said = [line.strip() for line in text.splitlines() if line.strip() and not _HARMLESS.search(line)]
        errors = [line for line in said if _SERIOUS.search(line)]
        words = " | ".join((errors or said)[-lines:]) or "it said nothing"
        return f"{words} (log: {self.log})"

    # ------------------------------------------------------------ starting

    def _start_somewhere(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            self._spawn(free_ports())
            if self._wait_live():
                return
            taken = _TAKEN.search(self._log_of_this_attempt())
            self._reap()
            if not taken or attempt == ATTEMPTS:
                raise ServerDied(f"the embedded Triton did not start{self._how()}: {self.last_words()}")

    def _spawn(self, ports: tuple[int, int, int]) -> None:
        self._ports, self._exit = ports, None
        self._shm = f"{_SHM}{os.getpid()}_{secrets.token_hex(4)}_"
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        task = {
            "argv": [str(runtime.server_binary()), *self._arguments()],
            "env": runtime.environment(),
            "log": str(self.log),
            "shm": self._shm,
        }
        with self.log.open("ab") as log:
            # -I -S: the supervisor needs the standard library only, and nobody's PYTHONPATH
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(supervisor.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                bufsize=0,
            )
        told, said = self._supervisor.stdin, self._supervisor.stdout
        assert told is not None
        assert said is not None
        with contextlib.suppress(BrokenPipeError):  # the next line says why
            told.write(json.dumps(task).encode() + b"\n")
        line = said.readline()
        if not line:
            raise ServerDied(f"the supervisor of the embedded Triton did not start: {self.last_words()}")
        self._pid = int(json.loads(line)["pid"])

    def _arguments(self) -> list[str]:
        http, grpc, metrics = self._ports
        return [
            f"--model-repository={self.repository}",
            f"--backend-directory={runtime.backends()}",
            "--model-control-mode=explicit",
            "--http-address=127.0.0.1",
            f"--http-port={http}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={grpc}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={metrics}",
            "--metrics-interval-ms=1000",
            "--exit-timeout-secs=2",
            f"--backend-config=python,shm-region-prefix-name={self._shm}",
        ]

    def _wait_live(self) -> bool:
        """True when Triton answers; False when it ended. ServerDied after the deadline."""
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._get("/v2/health/live") == 200:
                return True
            if self._exit_status(0.05) is not None or self._supervisor is None or self._supervisor.poll() is not None:
                return False
        raise ServerDied(f"the embedded Triton did not answer in {self._start_timeout_s:.0f} s: {self.last_words()}")

    def _reap(self) -> None:
        status = self._exit_status(supervisor.GRACE_S)
        self.stop()
        self._exit = status

    def _exit_status(self, wait_s: float) -> int | None:
        """Triton's exit status once the supervisor has told it; waits up to `wait_s` for that.

        A supervisor that ends without a word was killed, and Triton with it.
        """
        with self._listening:
            if self._exit is None and self._supervisor is not None:
                said = self._supervisor.stdout
                assert said is not None
                if select.select([said], [], [], wait_s)[0]:
                    line = said.readline()
                    self._exit = int(json.loads(line)["exit"]) if line else -signal.SIGKILL
            return self._exit

    def _how(self) -> str:
        status = self._exit
        if status is None:
            return ""
        return f" (signal {-status})" if status < 0 else f" (exit status {status})"

    def _log_of_this_attempt(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode(errors="replace")

    # ------------------------------------------------------------ loading

    def _load(self, control: Control, model: str, versions: Sequence[int]) -> None:
        try:
            control.set_versions(model, versions, repository=self.repository)
        except Unreachable:
            self.check()
            raise

    def _get(self, path: str) -> int:
        """HTTP status, 0 when nobody answers."""
        try:
            with _OPENER.open(f"{self.http_url}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0


def free_ports() -> tuple[int, int, int]:
    """Three loopback ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(3)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        first, second, third = (int(one.getsockname()[1]) for one in sockets)
        return first, second, third
    finally:
        for one in sockets:
            one.close()


def sweep_shared_memory() -> None:
    """Removes what servers of harnesses that are dead left in /dev/shm (possible after two SIGKILLs)."""
    for file in supervisor.SHARED_MEMORY.glob(f"{_SHM}*"):
        owner = re.match(rf"{_SHM}(\d+)_[0-9a-f]+_", file.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            supervisor.remove_shared_memory(owner[0])


_SHM = "triton_canary_"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
