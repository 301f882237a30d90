"""The side of the run: takes the port, starts the process that serves it, tells it how the run ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from harness.errors import UsageError

LOOPBACK = "127.0.0.1"
LOG = "live.log"
NICE = 10
"""The page gives way to the load, the server and the run: how much less than theirs its priority is."""
END_S = 5.0
"""For the process to show the end to who looks (`__main__.GRACE_S`), and to end itself."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class LivePage:
    """A page at `address`, on loopback only. The port is taken at once, and who asks early waits for the answer.

    Raises UsageError (one line) where the port cannot be had. Nothing of it ever raises later: a run does not need it.
    The process ends when this object is closed, and with this process, however that ends.
    """

    def __init__(self, port: int = 0) -> None:
        self._log: Path | None = None
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((LOOPBACK, port))
            self._socket.listen()
        except (OSError, OverflowError) as error:
            self._socket.close()
            why = error.strerror if isinstance(error, OSError) else "expected 0 to 65535"
            raise UsageError(f"--live {port}: no page can be served at {LOOPBACK}:{port}: {why}") from error
        self.address = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}/"
        self._process: subprocess.Popen[bytes] | None = None
        self.note = ""
        """What is to be told of it after `end`, if anything: that it was gone before."""

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, folder: Path) -> None:
        """From now on the page shows the run that records into `folder`."""
        self._log = folder / LOG
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    # -P: not what the working directory calls `harness`
                    [sys.executable, "-P", "-m", "harness.run.live"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **_ONE_THREAD},
                    pass_fds=(self._socket.fileno(),),
                    start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
                )
        except OSError as error:
            self.note = f"the live page could not be started: {error.strerror or error}"
            return
        with contextlib.suppress(OSError):  # it has ended: `end` tells
            lower = min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, lower)
        self._tell({"folder": str(folder), "socket": self._socket.fileno()})
        self._socket.close()

    def end(self) -> None:
        """The run is over and its report written: whoever looks gets it, which takes a moment."""
        if self._process is None:
            return
        self._tell({"ended": True})
        if code := self._finish():
            self.note = f"the live page ended before the run (exit code {code}): see {LOG}"

    def close(self) -> None:
        """A second call does nothing."""
        self._finish()

    def _finish(self) -> int:
        """What the process ended with by itself."""
        self._socket.close()
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(END_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a Ctrl-C means that nobody looks
            process.kill()
            process.wait()
            code = 0
        if self._log is not None and not code:
            with contextlib.suppress(OSError):  # a run that never began has no folder any more
                if not self._log.stat().st_size:
                    self._log.unlink()
        return code

    def _tell(self, message: dict[str, object]) -> None:
        assert self._process
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
