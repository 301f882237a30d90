"""Runs one server, Triton as a rule, and guarantees that nothing of it outlives the harness.

Run as a script, with the standard library only. It reads one line of JSON, {"argv", "env", "log", "shm",
"sockets", "grace_s"}, on stdin (not from its arguments, which every user of the machine can read). It keeps
stdin, a pipe whose write end only the harness has, and a pidfd of the harness. The end of either, SIGTERM, or
the end of Triton itself makes it end every process below it: SIGTERM, a grace, SIGKILL. As a child subreaper it
inherits the stubs that Triton leaves behind, so it knows when none is left; then it removes Triton's shared
memory and such sockets, and exits. Triton has PR_SET_PDEATHSIG: it dies with a killed supervisor, and the
models watch Triton (guard.py).

Writes two lines of JSON to stdout: {"pid": of Triton}, and last {"exit": its status, below 0: a signal}.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GRACE_S = 3.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SHARED_MEMORY = Path("/dev/shm")


def main(task: dict[str, Any]) -> int:
    harness = os.getppid()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the wake-up pipe says it
    for ignored in (signal.SIGINT, signal.SIGHUP):  # the harness decides, not its terminal
        signal.signal(ignored, signal.SIG_IGN)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    with Path(task["log"]).open("ab") as log:
        triton = subprocess.Popen(
            task["argv"],
            env=task["env"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_dies_with(os.getpid(), prctl),
        )
    say({"pid": triton.pid})
    watched = select.poll()
    watched.register(0, select.POLLIN | select.POLLHUP)
    watched.register(wake_read, select.POLLIN)
    pidfd = os.pidfd_open(triton.pid)
    watched.register(pidfd, select.POLLIN)
    with contextlib.suppress(OSError):  # gone already: then stdin is at its end too
        watched.register(os.pidfd_open(harness), select.POLLIN)
    if os.getppid() == harness:
        watched.poll()
    end_all(triton, pidfd, task["grace_s"])
    remove_shared_memory(task["shm"])
    remove_sockets(task["sockets"])
    say({"exit": triton.returncode})
    return 0


def end_all(triton: subprocess.Popen[bytes], pidfd: int, grace_s: float) -> None:
    """SIGTERM to Triton, a grace, then SIGKILL to whatever is below this process, until nothing is."""
    if triton.poll() is None:
        triton.terminate()
        over = select.poll()
        over.register(pidfd, select.POLLIN)
        over.poll(grace_s * 1000)
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        triton.poll()  # so that Popen sees the status before anybody else reaps it
        try:
            if triton.returncode is not None:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def descendants(root: int) -> list[int]:
    """Process ids below `root`, from /proc; zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # "pid (command) state ppid ...": the command may hold blanks and brackets
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def remove_shared_memory(prefix: str) -> None:
    """What a killed Triton left in /dev/shm; `prefix` is this server's own."""
    if prefix:
        for file in SHARED_MEMORY.glob(f"{prefix}*"):
            with contextlib.suppress(OSError):
                file.unlink()


def remove_sockets(paths: list[str]) -> None:
    """Those that a killed server left in the file system."""
    for path in paths:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def say(message: dict[str, int | None]) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to listen
        os.write(1, json.dumps(message).encode() + b"\n")


def _dies_with(parent: int, prctl: Callable[..., int]) -> Callable[[], None]:
    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.stdin.buffer.readline())))
