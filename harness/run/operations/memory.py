"""Memory while an operation sends loads: what reads it, and what was read in a window of time, for a limit to judge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from harness.embedded import EmbeddedServer
from harness.errors import CanaryError
from harness.judge import Scene, Whose, memory_facts
from harness.recording import PartsTail, seal, stream_path
from harness.run.operations.course import Course
from harness.scenario import Metered
from harness.telemetry import Sampler, gpus, sources
from harness.types import Gate

INTERVAL_S = 0.5
LATE_S = 2.0
"""A reading is on disk this long after it was taken, at most."""


class Meter:
    """Reads this machine's GPUs, the server's processes where they are known, and the pages that `target` names, into
    the run's own folder, `t_ns` counted from `t0_ns`.
    """

    def __init__(
        self, course: Course, target: Metered, server: EmbeddedServer | None, urls: Sequence[str], t0_ns: int
    ) -> None:  # fmt: skip
        pid = target.server_pid if server is None else server.pid
        pages = target.metrics_url if server is None else (server.metrics_url,)
        folder = course.folder.path
        reader = gpus(folder, t0_ns, [*pages, *urls], pid, hold=(course.folder.lock_fd,))
        path = stream_path(folder, "readings")
        self.sampler = Sampler(sources(pages, pid), path, t0_ns, INTERVAL_S, beside=reader)
        self._t0_ns, self._tail = t0_ns, PartsTail(folder, "readings")

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def facts(
        self, begin_ns: int, end_ns: int, limit: Gate, *, device: str = "", where: str = "time", blocks: int = 0
    ) -> dict[str, Any]:  # fmt: skip
        """Of a window that is over. `device`: `model/version`, where one model is asked; `blocks`: see `judge.Peak`."""
        scene = Scene(self._read_up_to(end_ns), begin_ns, end_ns, end_ns, where)
        return memory_facts(scene, Whose(device), limit.limit_kind, blocks)

    def _read_up_to(self, end_ns: int) -> pa.Table:
        """All readings, once those of the window are on disk."""
        deadline = time.monotonic() + LATE_S
        while True:
            self._tail.poll()
            table = self._tail.table
            newest = table.group_by("source").aggregate([("t_ns", "max")])["t_ns_max"]
            if (len(newest) and pc.min(newest).as_py() >= end_ns) or time.monotonic() > deadline:
                return table
            time.sleep(INTERVAL_S / 4)

    def close(self) -> None:
        """What was read stays. A second call does nothing."""
        self._tail.close()
        self.sampler.stop()


@contextmanager
def metered(
    course: Course, target: Metered, server: EmbeddedServer | None, urls: Sequence[str], t0_ns: int,
    limit: Gate | None,
) -> Iterator[Meter | None]:  # fmt: skip
    """`urls`: where models are called. None where no limit asks for it. At its end the readings are whole, in the run's
    folder.
    """
    if limit is None:
        yield None
        return
    meter = Meter(course, target, server, urls, t0_ns)
    meter.sampler.start()
    try:
        yield meter
    finally:
        # Whatever ended the operation is the error to report.
        with suppress(CanaryError):
            meter.close()
            seal(course.folder.path)
        course.note(notes=[*course.facts.get("notes", []), *meter.sampler.notes])


def plain(limit: Gate | None) -> dict[str, Any] | None:
    """As observations.json has it."""
    return None if limit is None else {"limit": limit.limit, "limit_kind": limit.limit_kind}
