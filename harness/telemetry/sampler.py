"""One thread that reads every source at a steady pace and records what they say.

Guarantees: poll number k is due at begin + k * interval whatever the polls before it took (a poll that is
late skips the ones it missed; they are counted, not bunched); what a poll read is with the operating system
before the next, or `flush_s` later; a source that fails takes nothing with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RecordingError
from harness.recording.schema import READINGS
from harness.recording.stream import StreamWriter
from harness.telemetry.source import Source, SourceUnavailable, Value
from harness.types import Reading

if TYPE_CHECKING:
    from harness.telemetry.gpus import GpuReader

RETRY_S = 5.0


class Sampler:
    """Writes the readings of `sources` to `path` (an Arrow stream), `t_ns` counted from `t0_ns` (monotonic
    clock). `beside`: what reads the GPUs meanwhile, which is started and stopped with it.

    start() raises RecordingError if the file cannot be made. stop() waits for the thread, closes the file
    and the sources, and raises the RecordingError (disk full) that ended the recording early, if one did.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        path: Path,
        t0_ns: int,
        interval_s: float = 0.5,
        *,
        flush_s: float = 0.0,
        beside: GpuReader | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._path, self._t0_ns, self._beside = path, t0_ns, beside
        self._interval_ns = max(1, round(interval_s * 1e9))
        self._flush_ns, self._flush_due_ns = round(flush_s * 1e9), 0
        self._clock = clock
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._retry_ns: dict[int, int] = {}
        self._notes: list[str] = []
        self._failure: RecordingError | None = None
        self._polls = self._missed = 0
        self._taken: list[tuple[int, int, Iterable[Value]]] = []
        """Of what polls read: its source's number, its `t_ns`, and what has yet to be gone through."""
        self._writer: StreamWriter | None = None
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing that a source could not tell, once, in the order of appearance."""
        return (*self._notes, *(self._beside.notes if self._beside else ()))

    @property
    def about(self) -> dict[str, Any]:
        """For run.json: `interval_s`, `polls`, `missed_polls`, `notes`, and in `gpus` the same of what reads them (None
        where nothing does).
        """
        about = {"interval_s": self._interval_ns / 1e9, "polls": self._polls, "missed_polls": self._missed}
        return {**about, "notes": self.notes, "gpus": self._beside.about if self._beside else None}

    @property
    def failure(self) -> RecordingError | None:
        """What ended the recording early."""
        return self._failure

    @property
    def polls(self) -> int:
        """Polls that were made."""
        return self._polls

    @property
    def missed(self) -> int:
        """Polls that were left out because an earlier one took too long."""
        return self._missed

    def start(self) -> None:
        self._writer = StreamWriter(self._path, READINGS)
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()
        if self._beside is not None:
            self._beside.start()

    def record(self, value: Value) -> int:
        """Record what another thread measured; returns its `t_ns` once it is with the operating system.

        Between start() and stop(). Raises RecordingError (disk full).
        """
        assert self._writer is not None
        reading = Reading(self._clock() - self._t0_ns, *value)
        with self._writing:
            self._flush(reading)
        return reading.t_ns

    def stop(self) -> None:
        """A second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None or self._writer is None:
            return
        self._stopping.set()
        thread.join()
        # The file first: a source may take its time.
        for end in (self._flush, self._writer.close, *([self._beside.stop] if self._beside else [])):
            try:
                end()
            except RecordingError as error:
                self._failure = self._failure or error
        for source in self._sources:
            source.close()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        begin_ns, poll = self._clock(), 0
        while not self._stopping.is_set():
            try:
                self._poll()
            except RecordingError as error:
                self._failure = error
                return
            self._polls += 1
            following = next_poll(begin_ns, self._interval_ns, self._clock())
            self._missed += following - poll - 1
            poll = following
            self._wait((begin_ns + poll * self._interval_ns - self._clock()) / 1e9)

    def _poll(self) -> None:
        assert self._writer is not None
        for number, source in enumerate(self._sources):
            now_ns = self._clock()
            if now_ns < self._retry_ns.get(number, now_ns):
                continue
            try:
                values = source.read()
            except SourceUnavailable as error:
                self._give_up(number, str(error))
                continue
            except Exception as error:  # noqa: BLE001 - a source's mistake must not end the others' readings
                self._give_up(number, f"{source.name}: {type(error).__name__}: {error}")
                continue
            with self._writing:
                self._taken.append((number, now_ns - self._t0_ns, values))
        if (now_ns := self._clock()) >= self._flush_due_ns:
            self._flush_due_ns = now_ns + self._flush_ns
            with self._writing:
                self._flush()

    def _flush(self, *more: Reading) -> None:
        assert self._writer is not None
        taken, self._taken = self._taken, []
        for number, t_ns, values in taken:
            try:
                for value in values:
                    self._writer.append((t_ns, *value))
            except Exception as error:  # noqa: BLE001 - as in `_poll`
                self._give_up(number, f"{self._sources[number].name}: {type(error).__name__}: {error}")
        for reading in more:
            self._writer.append(reading)
        self._writer.flush()

    def _give_up(self, number: int, why: str) -> None:
        self._retry_ns[number] = self._clock() + int(RETRY_S * 1e9)
        if why not in self._notes:
            self._notes.append(why)


def next_poll(begin_ns: int, interval_ns: int, now_ns: int) -> int:
    """The number of the first poll that is due after `now_ns`; poll 0 is due at `begin_ns`."""
    return (now_ns - begin_ns) // interval_ns + 1
