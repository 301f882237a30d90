"""The process that reads the GPUs: `python -m harness.telemetry.gpus`.

It reads one line of JSON on stdin, {"path", "t0_ns", "interval_s"}, and keeps stdin, a pipe whose other end only its
parent has, and a pidfd of its parent. The end of either ends it, whatever the driver does meanwhile: the questions are
asked by threads, and one that hangs is not waited for beyond END_S.

Writes lines of JSON to stdout: {"started": true} once the first poll is with the operating system, {"note": TEXT} each
time there is something to tell, and last {"polls", "missed", "failure"}. Without a GPU it has only a note to write.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness.errors import RecordingError
from harness.recording.stream import prepare
from harness.telemetry.nvml import Nvml
from harness.telemetry.sampler import Sampler

FLUSH_S = 0.45
"""How long readings of more than OFTEN polls a second wait for their batch: one for each would cost more than them."""
OFTEN = 20
LOOK_MS = 250
END_S = 2.0
SWITCH_S = 0.0005
"""How long the thread of the slow questions may keep the interpreter from the fast ones."""


def main(task: dict[str, Any], parent: int) -> None:
    nvml, interval_s = Nvml(apart=True), task["interval_s"]
    often = interval_s * OFTEN < 1
    sampler = Sampler(
        [nvml], Path(task["path"]), task["t0_ns"], interval_s,
        flush_s=FLUSH_S if often else 0.0,
        wait=nap if often else None,
    )  # fmt: skip
    beginning = Beginning(nvml, sampler)
    beginning.start()
    watch(parent, nvml, sampler, beginning)
    stopping = threading.Thread(target=stop, args=(beginning, sampler), daemon=True)
    stopping.start()
    stopping.join(END_S)
    if beginning.missing:
        say({"note": beginning.missing})
        return
    if stopping.is_alive():
        say({"note": f"NVML: the driver had not answered for {END_S:.0f} s when the run ended"})
    failure = str(sampler.failure or beginning.failure)
    say({"polls": sampler.polls, "missed": sampler.missed, "failure": failure})


class Beginning(threading.Thread):
    """Opens NVML, which may take the driver long, and starts the sampler. `missing`: why there is nothing to read;
    `failure`: why it cannot be recorded.
    """

    def __init__(self, nvml: Nvml, sampler: Sampler) -> None:
        super().__init__(name="begin", daemon=True)
        self._nvml, self._sampler = nvml, sampler
        self.missing = self.failure = ""

    def run(self) -> None:
        if (why := self._nvml.missing()) is not None:
            self.missing = why
            return
        prepare()
        with contextlib.suppress(Exception):  # the sampler asks again, and tells
            self._nvml.read()  # what each card lacks is found out before anything has to be in time
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # what is there by now stays: nobody looks through it any more
        try:
            self._sampler.start()
        except RecordingError as error:
            self.failure = str(error)


def watch(parent: int, nvml: Nvml, sampler: Sampler, beginning: Beginning) -> None:
    """Until the parent has closed the pipe or is gone, or there is nothing to record; tells what there is to tell."""
    ends = select.poll()
    ends.register(0, select.POLLIN | select.POLLHUP)
    with contextlib.suppress(OSError):  # gone already: then stdin is at its end, too
        ends.register(os.pidfd_open(parent), select.POLLIN)
    told, started = set[str](), False
    while os.getppid() == parent and not (sampler.failure or beginning.failure or beginning.missing):
        ended = ends.poll(LOOK_MS if started else LOOK_MS / 50)
        if sampler.polls and not started:
            started = True
            say({"started": True})
        for note in (*sampler.notes, *nvml.notes):
            if note not in told:
                told.add(note)
                say({"note": note})
        if ended:
            return


def nap(seconds: float) -> bool:
    """Half the CPU of waiting for an event, for those who wake up often enough to be asked whether they are to end."""
    time.sleep(max(0.0, seconds))
    return False


def stop(beginning: Beginning, sampler: Sampler) -> None:
    beginning.join()
    with contextlib.suppress(RecordingError):  # it is told as the sampler's failure
        sampler.stop()


def say(message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to listen
        os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    started_by = os.getppid()
    main(json.loads(sys.stdin.buffer.readline()), started_by)
    os._exit(0)  # not even a thread that the driver holds is waited for
