"""EmbeddedServer: the real Triton from nvidia-pytriton, in explicit mode, on loopback ports of its own."""

from __future__ import annotations

import os
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.embedded import runtime, supervisor
from harness.embedded.repository import compile_models
from harness.embedded.supervised import Supervised, free_ports, how
from harness.errors import ServerDied, Unreachable, UsageError

if TYPE_CHECKING:
    from harness.triton import Control

ATTEMPTS = 5
_TAKEN = re.compile(r"already in use|failed to (start|create) (HTTP|GRPC|Metrics|HTTP metrics)", re.IGNORECASE)
_SERIOUS = re.compile(r"^E\d{4}|Error:|^error|unrecognized option|error while loading")
_HARMLESS = re.compile(
    r"initialize NVML|DCGM|CudaDriverHelper|pinned (system )?memory|CUDA memory pool|cuda_shared_memory|GPU metrics|"
    r"Kernel"
)


class EmbeddedServer:
    """One Triton serving `repository`, its output appended to the file `log`.

    `arguments`: further ones for its command line, as ``--load-model=tiny``.
    start() and stop(), or `with EmbeddedServer(...) as server: server.start(...)`. A supervisor process ends
    Triton and everything below it when this process ends, however that happens; see supervisor.py.
    """

    def __init__(
        self,
        repository: Path,
        log: Path,
        *,
        start_timeout_s: float = 120.0,
        load_timeout_s: float = 300.0,
        arguments: Sequence[str] = (),
    ) -> None:
        self.repository = repository.absolute()
        self.log = log.absolute()
        self._extra = tuple(arguments)
        self._start_timeout_s, self._load_timeout_s = start_timeout_s, load_timeout_s
        self._supervisor: Supervised | None = None
        self._ports: tuple[int, ...] = (0, 0, 0)
        self._pid = 0
        self._shm = ""
        self._log_from = 0
        self._exit: int | None = None

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
        return self._supervisor is not None and self._supervisor.alive

    def check(self) -> None:
        """Raises ServerDied, with the log's last relevant lines, when the server has ended by itself."""
        if not self.alive:
            self._exit_status(0)
            raise ServerDied(f"the embedded Triton died{how(self._exit)}: {self.last_words()}")

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
        supervised, self._supervisor = self._supervisor, None
        if supervised is not None:
            supervised.stop()

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
            self._spawn(free_ports(3))
            if self._wait_live():
                return
            taken = _TAKEN.search(self._log_of_this_attempt())
            self._reap()
            if not taken or attempt == ATTEMPTS:
                raise ServerDied(f"the embedded Triton did not start{how(self._exit)}: {self.last_words()}")

    def _spawn(self, ports: tuple[int, ...]) -> None:
        self._ports, self._exit = ports, None
        self._shm = f"{_SHM}{os.getpid()}_{secrets.token_hex(4)}_"
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        argv = [str(runtime.server_binary()), *self._arguments()]
        self._supervisor = Supervised(argv, runtime.environment(), self.log, shm=self._shm)
        self._pid = self._supervisor.program

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
            *self._extra,
        ]

    def _wait_live(self) -> bool:
        """True when Triton answers; False when it ended. ServerDied after the deadline."""
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._get("/v2/health/live") == 200 and self._listens():
                return True
            if self._exit_status(0.05) is not None or not self.alive:
                return False
        raise ServerDied(f"the embedded Triton did not answer in {self._start_timeout_s:.0f} s: {self.last_words()}")

    def _listens(self) -> bool:
        """What answers may be somebody else's, while ours is about to end because of it."""
        import psutil  # here, as the models' processes import this package too

        try:
            sockets = psutil.Process(self._pid).net_connections("tcp4")
        except psutil.Error:
            return False
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == self._ports[0] for each in sockets)

    def _reap(self) -> None:
        status = self._exit_status(supervisor.GRACE_S)
        self.stop()
        self._exit = status

    def _exit_status(self, wait_s: float) -> int | None:
        """Triton's exit status once it has ended and the supervisor has told it; waits up to `wait_s` for that."""
        supervised = self._supervisor
        if supervised is not None:
            self._exit = supervised.exit_status(wait_s)
        return self._exit

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


def sweep_shared_memory() -> None:
    """Removes what servers of harnesses that are dead left in /dev/shm (possible after two SIGKILLs)."""
    for file in supervisor.SHARED_MEMORY.glob(f"{_SHM}*"):
        owner = re.match(rf"{_SHM}(\d+)_[0-9a-f]+_", file.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            supervisor.remove_shared_memory(owner[0])


_SHM = "triton_canary_"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
