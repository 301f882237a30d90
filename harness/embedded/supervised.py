"""A program that cannot outlive this process, however this process ends."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.embedded import supervisor
from harness.errors import ServerDied


class Supervised:
    """One program below a supervisor process, which ends it and everything below it; see supervisor.py.

    Starts at once; its output is appended to `log`. Told to end, it has `grace_s` until it is killed. ServerDied where
    not even the supervisor starts. `shm`, the start of names in /dev/shm, and `sockets`, paths, are removed at the end.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        shm: str = "",
        sockets: Sequence[str] = (),
        grace_s: float = supervisor.GRACE_S,
    ) -> None:
        task: dict[str, object] = {"argv": list(argv), "env": dict(env), "log": str(log)}
        task |= {"shm": shm, "sockets": list(sockets), "grace_s": grace_s}
        self._shm, self._sockets = shm, list(sockets)
        self._exit: int | None = None
        self._listening = threading.Lock()
        with log.open("ab") as output:
            # -I -S: the supervisor needs the standard library only, and nobody's PYTHONPATH
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(supervisor.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                bufsize=0,
            )
        told, said = self._process.stdin, self._process.stdout
        assert told is not None
        assert said is not None
        self._told, self._said = told, said
        with contextlib.suppress(BrokenPipeError):  # the next line says why
            told.write(json.dumps(task).encode() + b"\n")
        line = said.readline()
        if not line:
            self.stop()
            raise ServerDied(f"the supervisor of {argv[0]} did not start (log: {log})")
        self.program = int(json.loads(line)["pid"])
        """Process id of the program."""

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether program and supervisor run. Cheap: the program is asked nothing."""
        return self._process.poll() is None and self.exit_status(0) is None

    def exit_status(self, wait_s: float) -> int | None:
        """The program's exit status once the supervisor has told it; waits up to `wait_s` for that.

        A supervisor that ends without a word was killed, and the program with it.
        """
        with self._listening:
            if self._exit is None and not self._said.closed and select.select([self._said], [], [], wait_s)[0]:
                line = self._said.readline()
                self._exit = int(json.loads(line)["exit"]) if line else -signal.SIGKILL
            return self._exit

    def stop(self) -> None:
        """Ends the program and everything below it; returns when nothing is left. May be called twice."""
        if self._said.closed:
            return
        self._told.close()  # the end of this pipe is the order to end,
        self._process.terminate()  # and so is SIGTERM, in case a fork of this process holds the pipe too
        try:
            self._process.wait(supervisor.GRACE_S + 20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()
        supervisor.remove_shared_memory(self._shm)  # in case the supervisor was killed
        supervisor.remove_sockets(self._sockets)


def how(status: int | None) -> str:
    """An exit status in words that can follow "died"; nothing where it is not known."""
    if status is None:
        return ""
    return f" (signal {-status})" if status < 0 else f" (exit status {status})"


def free_ports(count: int) -> tuple[int, ...]:
    """Loopback ports that were free a moment ago."""
    with contextlib.ExitStack() as open_sockets:
        found = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return tuple(int(one.getsockname()[1]) for one in found)
