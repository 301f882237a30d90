"""The side of the run: starts the process that reads the GPUs, hears what it has to tell, and ends it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from harness.errors import RecordingError
from harness.telemetry.nvml import Nvml

INTERVAL_S = 0.1
START_S = 20.0
"""For the first poll: NVML takes seconds to open where the driver does not stay loaded."""
END_S = 5.0


class GpuReader:
    """Readings of all GPUs of this machine every `interval_s`, into `path` (an Arrow stream), `t_ns` counted from
    `t0_ns` (monotonic clock).

    `start` returns once the first poll is readable; it never raises: where there is no GPU no process is started, and a
    note says why. `hold`: file descriptors that the process keeps open. It ends with `stop`, and with this process,
    however that ends. If it ends by itself the run goes on without, and a note says so. `stop` raises the
    RecordingError (disk full) that ended the recording early, if one did.
    """

    def __init__(
        self, path: Path, t0_ns: int, interval_s: float = INTERVAL_S, hold: tuple[int, ...] = ()
    ) -> None:  # fmt: skip
        self._task = {"path": str(path), "t0_ns": t0_ns, "interval_s": interval_s}
        self._hold = hold
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._begun = threading.Event()
        self._notes: list[str] = []
        self._last: dict[str, Any] = {}
        self._words = ""
        self._stopping = False

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing that could not be read, once, in the order of appearance."""
        return tuple(self._notes)

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def about(self) -> dict[str, Any] | None:
        """For run.json: `interval_s`, and once it has ended `polls` and `missed_polls` (None: it did not say). None
        where nothing was read.
        """
        if not self._begun.is_set():
            return None
        told = {"polls": self._last.get("polls"), "missed_polls": self._last.get("missed")}
        return {"interval_s": self._task["interval_s"], **told}

    def start(self) -> None:
        nvml = Nvml()
        why = nvml.missing()
        nvml.close()
        if why is not None:
            self._notes.append(why)
            return
        try:
            self._process = subprocess.Popen(
                # -P: not what the working directory calls `harness`
                [sys.executable, "-P", "-m", "harness.telemetry.gpus"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self._hold,
                start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
            )
        except OSError as error:
            self._notes.append(f"no process to read the GPUs could be started: {error.strerror or error}")
            return
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(self._task).encode() + b"\n")
            self._process.stdin.flush()
        heard = threading.Event()
        self._listener = threading.Thread(target=self._listen, args=(self._process, heard), name="gpus", daemon=True)
        self._listener.start()
        heard.wait(START_S)

    def stop(self) -> None:
        """A second call does nothing."""
        process, self._process = self._process, None
        if process is None or self._listener is None:
            return
        self._stopping = True
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._notes.append(f"the process that reads the GPUs had to be killed: it did not end in {END_S:.0f} s")
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is in the driver's hands then, and dies later
                process.wait(END_S)
        self._listener.join(END_S)
        if failure := self._last.get("failure"):
            raise RecordingError(failure)

    def _listen(self, process: subprocess.Popen[bytes], heard: threading.Event) -> None:
        """Until it has ended. `heard`: it has begun, or will not."""
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:
                    message = None
                if not isinstance(message, dict):
                    self._words = line.decode(errors="replace").strip()  # of an error that nobody expected
                    continue
                if "note" in message:
                    self._notes.append(message["note"])
                elif "started" in message:
                    self._begun.set()
                    heard.set()
                else:
                    self._last = message
        code = process.wait()
        if not self._stopping and (code or self._begun.is_set()) and not self._last:
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended by itself (exit code {code})"
            words = f": {self._words}" if self._words else ""
            self._notes.append(f"the process that reads the GPUs {how}{words}; there are no readings of them since")
        heard.set()
